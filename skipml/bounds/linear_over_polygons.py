"""Linear bounds over products of polygons: CROWN's linear form, concretised over pairs of inputs instead of the box.

Over a box a linear form takes its extreme at a corner, which correlated columns rule out. The inputs are matched into
disjoint pairs that have a polygon; over each pair the maximum is a linear program in two dimensions, over the other
inputs it stays that of the box. Every choice of multipliers >= 0 of a program's half-planes is a bound (weak duality;
Boyd and Vandenberghe, Convex Optimization, section 5.2), and two half-planes are enough for the best one. Tried are
each half-plane with the multiplier that makes one component of what is left vanish, which is exact where the maximum
lies on a side of the box, then the best of these with each other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.crown import LinearBounds
from skipml.bounds.polygons import SLACK, Cuts, Polygon, Polygons

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_LARGEST = 2.0**12
"""Multipliers stay below this times the magnitude of the linear form, so that rounding stays far below the slack."""
_ROUNDING = 8 * SLACK
"""Relative to the magnitude of the linear form in the unit square."""
_HUGE = 2.0**900
"""Forms of another magnitude might overflow or underflow, and are left alone."""
_EXACT_INPUTS = 6
_SECONDS_PER_PLANE = 0.2e-6


def at_centre(bounds: LinearBounds, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """What linear bounds over boxes [L, d] can at best be over polygons -> lower, upper [L, m]; nothing is proved.

    A polygon that touches all sides of its box holds the centre.
    """
    radius = (upper - lower) * 0.5
    rise, fall = (np.einsum("lmd,ld->lm", np.abs(slope), radius) for slope in (bounds.slope_upper, bounds.slope_lower))
    return np.maximum(bounds.lower, bounds.linear_lower + fall), np.minimum(bounds.upper, bounds.linear_upper - rise)


def seconds_per_form(polygons: Polygons) -> float:
    """An estimate of what maximising one linear form over one box costs."""
    return _SECONDS_PER_PLANE * float(len(polygons) * polygons.planes.shape[3])


def tighten(bounds: LinearBounds, lower: Floats, upper: Floats, cuts: Cuts, wanted: Bools) -> tuple[Floats, Floats]:
    """Bounds of boxes [L, d] and the polygons that cut them -> lower, upper [L, m], nowhere looser; `wanted` [L, 2] are
    the sides to tighten.

    Sound because rows lie in all polygons, and each pair of a matching takes its own inputs' part of the linear form.
    """
    slope = np.concatenate(
        [-bounds.slope_lower * wanted[:, :1, None], bounds.slope_upper * wanted[:, 1:, None]], axis=1
    )
    pairs = cuts.polygons.pairs
    with np.errstate(all="ignore"):
        gain = np.stack([_gain(pair, slope, (lower, upper), cuts.block) for pair in pairs], axis=2)
        best = _matched(gain, [pair.inputs for pair in pairs])
        m = bounds.upper.shape[1]
        low = np.nextafter(bounds.linear_lower + best[:, :m], -np.inf)
        high = np.nextafter(bounds.linear_upper - best[:, m:], np.inf)
    return np.maximum(bounds.lower, low), np.minimum(bounds.upper, high)


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """R linear forms `c` [2, R, 1] to maximise over boxes `low`, `high` [2, R, 1] of the unit square and half-planes
    `normal` [2, R, K], `offset` [R, K].
    """

    c: Floats
    low: Floats
    high: Floats
    normal: Floats
    offset: Floats

    def support(self, form: Floats) -> Floats:
        """The maximum of forms [2, R, K] over the boxes [R, K]."""
        most = np.maximum(form * self.low, form * self.high)
        return np.asarray(most[0] + most[1])

    def limited(self, multiplier: Floats) -> Floats:
        """Multipliers that are any numbers as such that prove something: from 0 to what rounding allows."""
        most = _LARGEST * np.abs(self.c).sum(axis=0)
        return np.where(multiplier > 0, np.minimum(multiplier, most), 0.0)


def _gain(pair: Polygon, slope: Floats, box: tuple[Floats, Floats], block: NDArray[np.int64]) -> Floats:
    """By how much at least the maximum [L, F] of `slope` [L, F, d] times x over a box is less within its polygon.

    Sound because the bound is one of the dual with the rounding added, and places beyond the square, which are clipped,
    are no nearer to a half-plane than the cast can move a row.
    """
    part = slope[:, :, pair.inputs] * (2.0 * pair.width[block])[:, None, :]
    size = np.abs(part).sum(axis=2)
    gain = np.zeros(size.shape)
    row, form = np.nonzero((size > 1 / _HUGE) & (size < _HUGE))
    planes = pair.planes.take(block[row], axis=1)
    program = _Program(
        c=part[row, form].T[:, :, None],
        low=np.stack(pair.unit(box[0], block))[:, row, None] - SLACK,
        high=np.stack(pair.unit(box[1], block))[:, row, None] + SLACK,
        normal=planes[:2],
        offset=planes[2],
    )
    bound = _maximum(program, planes[3:]) + _ROUNDING * size[row, form]
    gain[row, form] = np.fmax(program.support(program.c)[:, 0] - bound, 0.0)
    return gain


def _maximum(program: _Program, inverse: Floats) -> Floats:
    """An upper bound [R] of the programs' maxima, but for rounding; `inverse` [2, R, K] of the normals, 0 where flat.

    Sound because it is the smallest of bounds of the dual, each with multipliers >= 0.
    """
    single = np.stack([program.limited(program.c[side] * inverse[side]) for side in (0, 1)])
    one = np.stack([_dual(program, multiplier) for multiplier in single])
    side = (one[1].min(axis=1) < one[0].min(axis=1)).astype(np.int64)
    row = np.arange(len(side))
    k = one[side, row].argmin(axis=1)
    return np.asarray(np.minimum(one[side, row, k], _with_another(program, k)))


def _dual(program: _Program, multiplier: Floats) -> Floats:
    """The bound [R, K] of each half-plane with its multiplier [R, K]: what is left of the form goes to the box."""
    return np.asarray(multiplier * program.offset + program.support(program.c - multiplier * program.normal))


def _with_another(program: _Program, k: NDArray[np.int64]) -> Floats:
    """The best bound [R] of half-plane `k` [R] and another: both multipliers solve for the form."""
    row = np.arange(len(k))
    mine, offset = program.normal[:, row, k][:, :, None], program.offset[row, k][:, None]
    c, other = program.c, program.normal
    turn = mine[0] * other[1] - mine[1] * other[0]
    first = program.limited((c[0] * other[1] - c[1] * other[0]) / turn)
    second = program.limited((mine[0] * c[1] - mine[1] * c[0]) / turn)
    left = c - first * mine - second * other
    bound = first * offset + second * program.offset + program.support(left)
    return np.asarray(np.fmin.reduce(bound, axis=1))


def _matched(gain: Floats, inputs: Sequence[tuple[int, int]]) -> Floats:
    """The largest sum of gains [L, F, P] of disjoint pairs [L, F]: the best matching, of many inputs a greedy one."""
    if len({i for pair in inputs for i in pair}) > _EXACT_INPUTS:
        return _greedily_matched(gain, inputs)
    members = np.array([[p in matching for p in range(len(inputs))] for matching in _matchings(tuple(inputs))])
    return np.asarray((gain @ members.T.astype(np.float64)).max(axis=2))


@cache
def _matchings(inputs: tuple[tuple[int, int], ...]) -> list[frozenset[int]]:
    """All sets of disjoint pairs, by their positions."""
    found = [frozenset[int]()]
    for p, pair in enumerate(inputs):
        found += [chosen | {p} for chosen in found if not any({*pair} & {*inputs[other]} for other in chosen)]
    return found


def _greedily_matched(gain: Floats, inputs: Sequence[tuple[int, int]]) -> Floats:
    clash = np.array([[bool({*one} & {*other}) for other in inputs] for one in inputs])
    left, total = gain.copy(), np.zeros(gain.shape[:2])
    for _ in range(len(inputs) // 2 + 1):
        best = left.argmax(axis=2)
        total += np.take_along_axis(left, best[..., None], axis=2)[..., 0]
        left[clash[best]] = 0.0
    return total
