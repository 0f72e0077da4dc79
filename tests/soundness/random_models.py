"""Networks of each kind over the columns of a lake, which they see in the columns' own scale."""

from __future__ import annotations

import numpy as np

from skipml.network import Affine, LeakyRelu, Network, Op, Scale, Shift
from tests.soundness.axes import Axes
from tests.soundness.lakes import KINDS, Rng

_LOUDNESS = {"loud": 1e30, "huge": 3e38, "quiet": 1e-40}


def network_of(axes: Axes) -> Network:
    """The network of a case."""
    rng, dtype, width = axes.rng(1), np.dtype(axes.dtype), len(axes.types)
    if axes.model == "bare" and width == 1:
        return Network(1, 1, dtype, ((), (LeakyRelu(0.0),), (LeakyRelu(0.25),))[int(rng.integers(3))])
    if axes.model == "whole numbers":
        weight, bias = rng.integers(-3, 4, (1, width)).astype(dtype), rng.integers(-3, 4, 1).astype(dtype)
        return Network(width, 1, dtype, (Affine(weight, bias),))
    kinds = [KINDS[kind] for kind in axes.types]
    ops: list[Op] = [Shift(np.array([-kind.centre for kind in kinds], dtype))]
    ops.append(Scale(np.array([_LOUDNESS.get(axes.model, 1.0) / kind.scale for kind in kinds], dtype)))
    slope = 0.25 if axes.model == "leaky" else 0.0
    hidden = {"bare": 0, "linear": 0, "deep": 3}.get(axes.model, 1)
    n = width
    for _ in range(hidden):
        n_next = int(rng.integers(1, 9))
        ops += [_layer(rng, dtype, n, n_next), LeakyRelu(slope)]
        n = n_next
    outputs = int(rng.integers(2, 5)) if axes.model == "classes" else 1
    last = _layer(rng, dtype, n, outputs)
    ops.append(Affine(np.zeros_like(last.weight), last.bias) if axes.model == "constant" else last)
    if rng.random() < 0.1:
        ops.append(LeakyRelu(slope))
    return Network(width, outputs, dtype, tuple(ops))


def _layer(rng: Rng, dtype: np.dtype[np.floating], n_in: int, n_out: int) -> Affine:
    weight = (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(dtype)
    weight[rng.random(weight.shape) < 0.1] = 0
    return Affine(weight, rng.standard_normal(n_out).astype(dtype))
