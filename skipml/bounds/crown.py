"""CROWN: linear bounds of the functionals in the inputs, for many boxes at once.

Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions, arXiv:1811.00866.
Bounds of the values before the second and later activations come from linear relations carried forward in the inputs
(for the second activation that is CROWN itself, deeper it is the forward mode of Xu et al., Automatic Perturbation
Analysis, arXiv:2002.12920), the final ones from a backward pass.

A relation holds upper and lower coefficients as P + Q and P - Q. Through a relaxation with slopes s_u and s_l and the
weights W behind it the upper relation takes s_u where W >= 0 and s_l where W < 0. As W+ = (W + |W|) / 2 and
W- = (W - |W|) / 2, both relations come from two products, P' = mid W and Q' = dev |W|, where mid and dev are half the
sum and half the difference of the relaxed upper and lower relations.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.interval import Span, Trace
from skipml.bounds.product import product
from skipml.bounds.stages import Stage, Stages

Floats = NDArray[np.float64]

_SMALLEST = 2.0**-1022  # in place of 0 where a range has no width


@dataclass(frozen=True, slots=True, eq=False)
class LinearBounds:
    """Bounds of m functionals over M boxes: `lower`, `upper` [M, m], and linear bounds behind them: slopes [M, m, d]
    and their extremes over the box [M, m], infinite where the slopes bound nothing.
    """

    lower: Floats
    upper: Floats
    slope_lower: Floats
    slope_upper: Floats
    linear_lower: Floats
    linear_upper: Floats

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> LinearBounds:
        """Those of some of the boxes. Sound because boxes do not depend on each other."""
        return LinearBounds(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class _Relaxation:
    """The upper line is (mid + dev) z + intercept, the lower line (mid - dev) z; all [M, n]."""

    mid: Floats
    dev: Floats
    intercept: Floats


def crown(stages: Stages, trace: Trace, lower: Floats, upper: Floats) -> LinearBounds:
    """CROWN bounds over boxes `lower`, `upper` [M, d], margin included; nothing holds where the trace is not finite.

    Sound because each activation is replaced by lines above and below it on a range that contains its input, linear
    functions take their extremes over a box at corners, and the trace's error covers execution and verification
    (rounding.py).
    """
    centre, radius = (lower + upper) * 0.5, (upper - lower) * 0.5
    bound, slope = _backward(stages, _relaxations(stages, trace, centre, radius), centre, radius)
    m = bound.shape[1] // 2
    error = trace.outputs.error
    low, high = -bound[:, m:] - error, bound[:, :m] + error
    return LinearBounds(low, high, -slope[:, m:], slope[:, :m], low, high)


def _relaxations(stages: Stages, trace: Trace, centre: Floats, radius: Floats) -> list[_Relaxation]:
    """The relaxation of every activation, first to last.

    Sound because each range is the intersection of two that contain the values, computed or exact.
    """
    if not stages.slopes:
        return []
    first = stages.linear[0]
    at_centre = product(centre, first.weight.T) + first.bias
    spread = product(radius, first.absolute.T)
    relaxations = [_relax(at_centre - spread, at_centre + spread, trace.before[0], stages.slopes[0])]
    if len(stages.slopes) == 1:
        return relaxations
    # coefficients per unit of radius, the value at the centre behind them: [d + 1, M, n]
    scratch = _Scratch((centre.shape[1] + 1, len(centre)), max(len(stage.bias) for stage in stages.linear[:-1]))
    p, q = scratch.array(0, len(first.bias)), None
    np.multiply(radius.T[:, :, None], first.weight.T[:, None, :], out=p[:-1])
    p[-1] = at_centre
    for stage, slope, span in zip(stages.linear[1:-1], stages.slopes[1:], trace.before[1:], strict=True):
        p, q = _forward(stage, relaxations[-1], (p, q), scratch)
        low = np.subtract(p, q, out=scratch.array(2, p.shape[2]))
        high = np.add(p, q, out=scratch.array(3, p.shape[2]))
        lower, upper = low[-1].copy(), high[-1].copy()
        lower -= np.abs(low[:-1], out=low[:-1]).sum(axis=0)
        upper += np.abs(high[:-1], out=high[:-1]).sum(axis=0)
        relaxations.append(_relax(lower, upper, span, slope))
    return relaxations


class _Scratch:
    """Memory for four relations, kept per thread: mapping or fetching fresh pages costs as much as the arithmetic."""

    _kept = threading.local()

    def __init__(self, rows: tuple[int, int], widest: int) -> None:
        size = math.prod(rows) * widest
        memory: Floats | None = getattr(self._kept, "memory", None)
        if memory is None or memory.shape[1] < size:
            self._kept.memory = memory = np.empty((4, size))
        self._memory = memory
        self._rows = rows

    def array(self, i: int, width: int) -> Floats:
        """The i-th, [d + 1, M, width]."""
        shape = (*self._rows, width)
        return self._memory[i, : math.prod(shape)].reshape(shape)


def _relax(lower: Floats, upper: Floats, span: Span, slope: float) -> _Relaxation:
    """Lines around a (leaky) ReLU on [lower, upper], widened by the error, within the interval bounds.

    Sound because the chord lies above the convex function between its ends, and a line through the origin with one of
    its two slopes below it.
    """
    lower = np.maximum(lower - span.error, span.lower)
    upper = np.minimum(upper + span.error, span.upper)
    low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
    chord = high - slope * low if slope else high.copy()
    high -= low
    chord /= np.maximum(high, _SMALLEST, out=high)
    steep = (lower + upper > 0).astype(np.float64)
    if slope:
        steep = slope + (1 - slope) * steep
    low *= slope - chord
    chord *= 0.5
    steep *= 0.5
    return _Relaxation(chord + steep, chord - steep, low)


def _forward(
    stage: Stage, relaxation: _Relaxation, relation: tuple[Floats, Floats | None], scratch: _Scratch
) -> tuple[Floats, Floats]:
    """The relation behind an activation and the stage after it, in place of `relation`; one without Q is exact.

    Sound because upper lines have slopes >= 0, so they keep upper relations upper, and the weights choose the relation
    by their sign.
    """
    p, q = relation
    mid = np.multiply(relaxation.mid, p, out=scratch.array(2, p.shape[2]))
    dev = np.multiply(relaxation.dev, p, out=scratch.array(3, p.shape[2]))
    if q is not None:
        mid += np.multiply(relaxation.dev, q, out=p)
        dev += np.multiply(relaxation.mid, q, out=p)
    half = relaxation.intercept * 0.5
    mid[-1] += half
    dev[-1] += half
    p, q = scratch.array(0, len(stage.bias)), scratch.array(1, len(stage.bias))
    product(mid.reshape(-1, mid.shape[2]), stage.weight.T, out=p.reshape(-1, p.shape[2]))
    product(dev.reshape(-1, dev.shape[2]), stage.absolute.T, out=q.reshape(-1, q.shape[2]))
    p[-1] += stage.bias
    return p, q


def _backward(stages: Stages, relaxations: list[_Relaxation], centre: Floats, radius: Floats) -> tuple[Floats, Floats]:
    """Upper bounds [M, 2m] of the functionals and of their negatives, and their slopes [M, 2m, d].

    Sound because a positive coefficient takes the upper line of the value it multiplies and a negative one the lower
    line.
    """
    last = stages.linear[-1]
    a = np.concatenate([last.weight, -last.weight])[:, None, :]
    constant = np.concatenate([last.bias, -last.bias])[:, None]
    for stage, relaxation in zip(reversed(stages.linear[:-1]), reversed(relaxations), strict=True):
        absolute = np.abs(a)
        rising = np.broadcast_to(a + absolute, (len(a), *relaxation.mid.shape))
        constant = constant + 0.5 * np.einsum("fmn,mn->fm", rising, relaxation.intercept)
        a = a * relaxation.mid
        a += absolute * relaxation.dev
        constant += a @ stage.bias
        a = product(a.reshape(-1, a.shape[2]), stage.weight).reshape(*a.shape[:2], -1)
    slope = np.broadcast_to(a, (len(a), *centre.shape))
    bound = constant + np.einsum("fmd,md->fm", slope, centre) + np.einsum("fmd,md->fm", np.abs(slope), radius)
    return bound.T, slope.transpose(1, 0, 2)
