"""The network as the verifier sees it: linear stages in float64 with activations between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.product import product
from skipml.network import Affine, Divide, LeakyRelu, Network, Scale, Shift

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """z = h @ weight.T + bias; weight [n_out, n_in], `absolute` its magnitude, bias [n_out]."""

    weight: Floats
    absolute: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Consecutive linear ops fused, the functionals folded into the last stage; `slopes` are those of the activations
    between the stages.
    """

    linear: tuple[Stage, ...]
    slopes: tuple[float, ...]


def fuse(network: Network, functionals: Floats) -> Stages:
    """The stages of `functionals` [m, n_outputs] of a network.

    Sound because the composition of linear maps is linear; the roundings of the fusion are counted in the margin
    (rounding.py).
    """
    linear: list[Stage] = []
    slopes: list[float] = []
    weight, bias = np.eye(network.n_inputs), np.zeros(network.n_inputs)
    with np.errstate(all="ignore"):  # overflow is found afterwards, by coefficients_fit
        for op in network.ops:
            match op:
                case Affine():
                    w = op.weight.astype(np.float64)
                    weight, bias = w @ weight, w @ bias + op.bias
                case Scale(factor):
                    weight, bias = weight * factor[:, None], bias * factor
                case Divide(divisor):
                    weight, bias = weight / divisor[:, None], bias / divisor
                case Shift(offset):
                    bias = bias + offset
                case LeakyRelu(slope):
                    linear.append(_stage(weight, bias))
                    slopes.append(float(network.dtype.type(slope)))
                    weight, bias = np.eye(len(bias)), np.zeros(len(bias))
        linear.append(_stage(functionals @ weight, functionals @ bias))
    return Stages(tuple(linear), tuple(slopes))


def values(stages: Stages, x: Floats) -> Floats:
    """The functionals at concrete points, approximately: x [K, d] -> [K, m]."""
    h = x
    for stage, slope in zip(stages.linear, (*stages.slopes, None), strict=True):
        h = product(h, stage.weight.T) + stage.bias
        if slope is not None:
            np.maximum(h, slope * h, out=h)
    return h


def gradients(stages: Stages, x: Floats, direction: Floats) -> Floats:
    """The gradient at x [K, d] of the sum of `direction` [K, m] times the functionals -> [K, d]."""
    h, local = x, []
    for stage, slope in zip(stages.linear[:-1], stages.slopes, strict=True):
        h = product(h, stage.weight.T) + stage.bias
        local.append(np.where(h > 0, 1.0, slope))
        h = h * local[-1]
    a: Floats = product(direction, stages.linear[-1].weight)
    for stage, factor in zip(reversed(stages.linear[:-1]), reversed(local), strict=True):
        a = product(a * factor, stage.weight)
    return a


def _stage(weight: Floats, bias: Floats) -> Stage:
    return Stage(np.ascontiguousarray(weight), np.abs(weight), bias)
