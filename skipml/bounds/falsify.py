"""Concrete points that end the work on a block: where one passes the test, SKIP is impossible.

Nothing is proved here, hence nothing needs a margin: a wrong point only ever leads to EVALUATE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.crown import LinearBounds
from skipml.bounds.polygons import Cuts

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_CLIMB = (1.0, 1.0, 0.5, 0.5)  # how far to go, each time, to the corner that the gradient points at


class Test(Protocol):
    """A condition on m values of a row."""

    def never(self, lower: Floats, upper: Floats) -> Bools:
        """Whether no values within `lower`, `upper` [M, m] pass -> [M]."""

    def always(self, lower: Floats, upper: Floats) -> Bools:
        """Whether all values within `lower`, `upper` [M, m] pass -> [M]."""

    def holds(self, values: Floats) -> Bools:
        """Whether `values` [K, m] pass -> [K]."""


class Differentiable(Protocol):
    """What points are tried on."""

    def values(self, x: Floats) -> Floats:
        """The values at points [K, d], about -> [K, m]."""

    def gradients(self, x: Floats, direction: Floats) -> Floats:
        """The gradient at x [K, d] of the sum of `direction` [K, m] times the values -> [K, d]."""


@dataclass(frozen=True, slots=True)
class Opposite:
    """The test that passes where `test` does not."""

    test: Test

    def never(self, lower: Floats, upper: Floats) -> Bools:
        """Sound because what always passes never passes the opposite."""
        return self.test.always(lower, upper)

    def always(self, lower: Floats, upper: Floats) -> Bools:
        """Sound because what never passes always passes the opposite."""
        return self.test.never(lower, upper)

    def holds(self, values: Floats) -> Bools:
        """The opposite of the test."""
        return ~self.test.holds(values)


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What concrete points showed of M boxes.

    `passed` [M]: one that may be a row passes the test; `lowest`, `highest` [M, m]: the range of the values of all
    points; `inside` [M]: all of them may be rows; `slope` [M, d]: the linear bound that stands between the box and a
    proof that nothing passes.
    """

    passed: Bools
    lowest: Floats
    highest: Floats
    inside: Bools
    slope: Floats


def try_points(
    verifier: Differentiable,
    test: Test,
    box: tuple[Floats, Floats],
    bounds: LinearBounds | None,
    *,
    climb: bool,
    cuts: Cuts | None = None,
) -> Points:
    """Try the centre of each box [M, d] and the best corner of its linear bound, then, if told to climb, go up the
    gradient from the centre. Polygons stop a point on its way; where the first is outside of them none counts. Without
    bounds the corner that the gradient points at is all that is tried.
    """
    lower, upper = box
    x = (lower + upper) * 0.5
    if cuts is not None and climb:
        x = cuts.polygons.pull(x, cuts.block, box)
    inside = cuts.polygons.contains(x, cuts.block) if cuts is not None else np.ones(len(x), np.bool_)
    values = verifier.values(x)
    limits = (bounds.lower, bounds.upper) if bounds is not None else (values - np.inf, values + np.inf)
    towards = towards_of(test, values, *limits)
    slope = _along(towards, bounds) if bounds is not None else verifier.gradients(x, towards)
    corner = _moved(x, np.where(slope > 0, upper, lower), inside, cuts, slide=climb)
    at_corner = verifier.values(corner)
    seen = Points(
        passed=inside & (test.holds(values) | test.holds(at_corner)),
        lowest=np.minimum(values, at_corner),
        highest=np.maximum(values, at_corner),
        inside=inside,
        slope=slope,
    )
    for length in _CLIMB if climb and bounds is not None else ():
        todo = np.flatnonzero(~seen.passed & ~reaches(test, seen.lowest, seen.highest))
        if not len(todo):
            break
        gradient = verifier.gradients(x[todo], towards_of(test, values[todo], limits[0][todo], limits[1][todo]))
        corner = np.where(gradient > 0, upper[todo], np.where(gradient < 0, lower[todo], x[todo]))
        here = Cuts(cuts.polygons, cuts.block[todo]) if cuts is not None else None
        x[todo] = _moved(x[todo], x[todo] + length * (corner - x[todo]), inside[todo], here, slide=False)
        values[todo] = verifier.values(x[todo])
        seen.passed[todo] = inside[todo] & test.holds(values[todo])
        np.minimum(seen.lowest, values, out=seen.lowest)
        np.maximum(seen.highest, values, out=seen.highest)
    return seen


def reaches(test: Test, lowest: Floats, highest: Floats) -> Bools:
    """Whether a convex region in which a single value is at least as low as `lowest` and as high as `highest` [M, 1]
    somewhere must have a point that passes [M]: the value is continuous. Of several values nothing follows.
    """
    if lowest.shape[1] != 1:
        return np.zeros(len(lowest), np.bool_)
    return np.asarray((lowest <= highest)[:, 0] & ~test.never(lowest, highest), np.bool_)


def _moved(start: Floats, end: Floats, inside: Bools, cuts: Cuts | None, *, slide: bool) -> Floats:
    """The points [M, d] on the way from `start` to `end` at which polygons stop it, and, if told to slide, from there
    along each input by turns; `end` where the start is outside already.
    """
    if cuts is None:
        return end
    point = start + cuts.polygons.reach(start, end - start, cuts.block)[:, None] * (end - start)
    for i in range(start.shape[1]) if slide else ():
        step = np.zeros_like(start)
        step[:, i] = end[:, i] - point[:, i]
        point += cuts.polygons.reach(point, step, cuts.block)[:, None] * step
    return np.where(inside[:, None], point, end)


def towards_of(test: Test, values: Floats, lower: Floats, upper: Floats) -> Floats:
    """In which direction each value [M, m] has to move for the test to pass: 1 up, -1 down, 0 where both or neither may
    help.
    """
    towards = np.zeros_like(values)
    for i in range(values.shape[1]):
        above, below = lower.copy(), upper.copy()
        above[:, i] = below[:, i] = values[:, i]
        towards[:, i] = test.never(lower, below).astype(np.float64) - test.never(above, upper)
    return towards


def _along(towards: Floats, bounds: LinearBounds) -> Floats:
    """The slope [M, d] of the linear bound of the values times `towards` [M, m]."""
    rising: Floats = np.einsum("kmd,km->kd", bounds.slope_upper, np.maximum(towards, 0))
    falling: Floats = np.einsum("kmd,km->kd", bounds.slope_lower, np.minimum(towards, 0))
    return rising + falling
