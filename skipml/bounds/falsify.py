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
from skipml.bounds.verifier import Verifier

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

    `passed` [M]: one passes the test; `lowest`, `highest` [M, m]: the range of the values seen; `slope` [M, d]: the
    linear bound that stands between the box and a proof that nothing passes.
    """

    passed: Bools
    lowest: Floats
    highest: Floats
    slope: Floats


def try_points(
    verifier: Verifier,
    test: Test,
    box: tuple[Floats, Floats],
    bounds: LinearBounds,
    *,
    climb: bool,
    cuts: Cuts | None = None,
) -> Points:
    """Try the centre of each box [M, d] and the best corner of its linear bound, then, if told to climb, go up the
    gradient from the centre; a point that is cut off does not count.
    """
    lower, upper = box
    x = (lower + upper) * 0.5
    values = verifier.values(x)
    towards = _towards(test, values, bounds.lower, bounds.upper)
    slope = _along(towards, bounds)
    corner = np.where(slope > 0, upper, lower)
    at_corner = verifier.values(corner)
    every = np.arange(len(x))
    seen = Points(
        passed=(test.holds(values) & _counts(x, every, cuts)) | (test.holds(at_corner) & _counts(corner, every, cuts)),
        lowest=np.minimum(values, at_corner),
        highest=np.maximum(values, at_corner),
        slope=slope,
    )
    for length in _CLIMB if climb else ():
        todo = np.flatnonzero(~seen.passed)
        if not len(todo):
            break
        gradient = verifier.gradients(x[todo], _towards(test, values[todo], bounds.lower[todo], bounds.upper[todo]))
        corner = np.where(gradient > 0, upper[todo], np.where(gradient < 0, lower[todo], x[todo]))
        x[todo] += length * (corner - x[todo])
        values[todo] = verifier.values(x[todo])
        seen.passed[todo] = test.holds(values[todo]) & _counts(x[todo], todo, cuts)
        np.minimum(seen.lowest, values, out=seen.lowest)
        np.maximum(seen.highest, values, out=seen.highest)
    return seen


def _counts(x: Floats, boxes: NDArray[np.int64], cuts: Cuts | None) -> Bools:
    """Whether points of some of the boxes may be rows."""
    if cuts is None:
        return np.ones(len(x), np.bool_)
    return cuts.polygons.contains(x, cuts.block[boxes])


def _towards(test: Test, values: Floats, lower: Floats, upper: Floats) -> Floats:
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
