"""Hypothesis strategies for the inputs of property tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift

Floats = NDArray[np.float64]

_UP_TO_3, _UP_TO_4, _UP_TO_12 = st.integers(1, 3), st.integers(1, 4), st.integers(1, 12)
_HIDDEN = st.lists(st.integers(1, 8), max_size=4)


@dataclass(frozen=True)
class Boxes:
    """Boxes [M, d] of model inputs; some are points, some have sides of very different lengths."""

    lower: Floats
    upper: Floats

    def points(self, rng: np.random.Generator, per_box: int = 24) -> Floats:
        """Points [per_box, M, d] of each box: both ends, the centre, corners, and points within."""
        share = rng.random((per_box, *self.lower.shape))
        share[: per_box // 2] = share[: per_box // 2] > 0.5
        share[0], share[1], share[2] = 0.0, 1.0, 0.5
        return np.clip(self.lower + share * (self.upper - self.lower), self.lower, self.upper)


@st.composite
def networks(
    draw: st.DrawFn,
    n_inputs: st.SearchStrategy[int] = _UP_TO_4,
    n_outputs: st.SearchStrategy[int] = _UP_TO_3,
    hidden: st.SearchStrategy[list[int]] = _HIDDEN,
) -> Network:
    """Chains of every op: normalised inputs, linear ops in a row, activations first and last, weights of all sizes."""
    dtype: np.dtype[np.floating] = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0.1, 1.0, 1.0, 10.0]))
    slope = draw(st.sampled_from([0.0, 0.0, 0.01, 0.5, 1.0]))
    width = first = draw(n_inputs)
    ops: list[Op] = []
    if draw(st.booleans()):
        ops.append(Shift(_normal(rng, dtype, width)))
        spread = np.exp(_normal(rng, dtype, width))
        ops.append(Scale(spread) if draw(st.booleans()) else Divide(spread))
    if draw(st.integers(0, 9)) == 0:
        ops.append(LeakyRelu(slope))
    for n in draw(hidden):
        ops.append(_affine(rng, dtype, (n, width), size))
        ops.append(LeakyRelu(slope))
        width = n
    last = draw(n_outputs)
    ops.append(_affine(rng, dtype, (last, width), size))
    if draw(st.integers(0, 4)) == 0:
        ops.append(LeakyRelu(slope) if draw(st.booleans()) else _affine(rng, dtype, (last, last), 1.0))
    return Network(first, last, dtype, tuple(ops))


@st.composite
def boxes(draw: st.DrawFn, n_inputs: int, n_boxes: st.SearchStrategy[int] = _UP_TO_12) -> Boxes:
    """Finite boxes around the origin."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(n_boxes), n_inputs)
    centre = rng.normal(size=shape) * draw(st.sampled_from([0.1, 1.0, 100.0]))
    radius = rng.random(shape) * 10.0 ** rng.integers(-4, 2, shape) * (rng.random(shape) > 0.15)
    return Boxes(centre - radius, centre + radius)


def _normal(rng: np.random.Generator, dtype: np.dtype[np.floating], *shape: int) -> Array:
    return rng.normal(size=shape).astype(dtype)


def _affine(rng: np.random.Generator, dtype: np.dtype[np.floating], shape: tuple[int, int], size: float) -> Affine:
    weight = _normal(rng, dtype, *shape) * dtype.type(size / np.sqrt(shape[1]))
    weight[rng.random(shape) < 0.1] = 0
    return Affine(weight, _normal(rng, dtype, shape[0]) * dtype.type(size))
