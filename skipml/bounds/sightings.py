"""What concrete points have shown of blocks: which of them a row may pass in, and which it may fail in.

Nothing is proved here: sightings only end work on a block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.falsify import Opposite, Points, Test, reaches
from skipml.bounds.leaves import Leaves
from skipml.bounds.memory import Known

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Sightings:
    """Those of a test and N blocks, `block` [M] of each of their boxes, beginning with what is known.

    `passed`, `failed` [N]: whether a point of a block passes the test, or not; `lowest`, `highest` [M, m]: values that
    points of a box have; `is_continuous`: whether a value takes all numbers between two that it has.
    """

    def __init__(self, test: Test, block: Indices, n: int, known: Known, *, is_continuous: bool) -> None:
        self._test, self._block, self._is_continuous = test, block, is_continuous
        self.lowest, self.highest = known.lowest.copy(), known.highest.copy()
        self.passed, self.failed = np.zeros((2, n), np.bool_)
        self._look(np.arange(len(block)))

    def aims(self, *, both: bool) -> list[tuple[Test, Bools]]:
        """What points are to pass, and whether a block [N] has one that does; both: to fail as well."""
        aims: list[tuple[Test, Bools]] = [(self._test, self.passed)]
        return [*aims, (Opposite(self._test), self.failed)] if both else aims

    def note(self, leaves: Leaves, points: Points, reached: Bools) -> None:
        """Take note of what points of leaves have shown; `reached` [N] is that of their aim."""
        reached[leaves.block[points.passed]] = True
        root = leaves.root[points.inside]
        np.minimum.at(self.lowest, root, points.lowest[points.inside])
        np.maximum.at(self.highest, root, points.highest[points.inside])
        self._look(root)

    def hopeless(self, block: Indices, *, keep: bool) -> Bools:
        """Whether blocks [L] can be neither SKIP nor, if that matters, KEEP."""
        hopeless: Bools = self.passed[block] & (self.failed[block] | (not keep))
        return hopeless

    def _look(self, root: Indices) -> None:
        """Note the blocks of boxes [R] in which a row may pass, or fail, by the values that their points have."""
        low, high = self.lowest[root], self.highest[root]
        for test, reached in self.aims(both=True):
            reached[self._block[root[self._reaches(test, low, high)]]] = True

    def _reaches(self, test: Test, low: Floats, high: Floats) -> Bools:
        """Whether a row may pass, by the least and the largest value [R, m] that points have."""
        if self._is_continuous:
            return reaches(test, low, high)
        seen = np.isfinite(low).all(axis=1) & np.isfinite(high).all(axis=1) & (low.shape[1] == 1)
        return np.asarray(seen & (test.holds(low) | test.holds(high)), np.bool_)
