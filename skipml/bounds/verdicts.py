"""What one run of branch and bound has decided of each block, as the leaves that cover it are closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.budget import Meter
from skipml.bounds.leaves import Leaves
from skipml.bounds.memory import Known
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Reason
from skipml.bounds.sightings import Sightings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Verdicts:
    """Those of N blocks: `decision`, `reason`, `method`, `boxes` [N] as in Outcome; `finished` [N], whether no more
    work is done on a block; `closed`, the leaves that need none.
    """

    def __init__(
        self, seen: Sightings, blocks: Blocks, known: Known, meter: Meter, *, prove_keep: bool, chosen: Bools
    ) -> None:
        n = len(blocks.n_rows)
        self._seen, self._meter, self._prove_keep, self._n_rows = seen, meter, prove_keep, blocks.n_rows
        self._open = np.bincount(blocks.block[known.root], minlength=n)
        self.decision = np.full(n, EVALUATE, np.int8)
        self.method = np.full(n, Method.NONE, np.int8)
        self.boxes = np.zeros(n, np.int64)
        self.finished: Bools = (np.bincount(blocks.block, minlength=n) == 0) | ~chosen
        self.reason = np.where(self.finished, Reason.NOT_TRIED, Reason.BUDGET).astype(np.int8)
        self.closed: list[Leaves] = []

    @property
    def empty(self) -> Indices:
        """The blocks that nothing is left of, but are not decided yet."""
        return np.flatnonzero((self._open == 0) & ~self.finished)

    def n_open(self, block: Indices) -> Indices:
        """How many leaves of blocks [L] are open [L]."""
        return np.asarray(self._open[block], np.int64)

    def divided(self, leaves: Indices, parts: Indices) -> None:
        """Open leaves are replaced by their parts, given by their blocks [L]."""
        n = len(self._open)
        self._open += np.bincount(parts, minlength=n) - np.bincount(leaves, minlength=n)

    def count(self, block: Indices, method: Method) -> None:
        """Boxes of blocks [L] are bounded by a method."""
        self.method[block] = method
        np.add.at(self.boxes, block, 1)

    def close(self, leaves: Leaves) -> Bools:
        """Close the leaves whose bounds decide the test, and those of finished blocks -> which are left [L]. Sound as
        `settle` is.
        """
        return self._put_away(leaves, self.settle(leaves.block, leaves.low, leaves.high))

    def settle(self, block: Indices, low: Floats, high: Floats) -> Bools:
        """Decide the blocks [L] whose last leaf the bounds [L, m] close -> which leaves need no more work [L].

        Sound because a block is decided only once all its leaves are closed, SKIP if none of them can pass, KEEP if
        none can fail.
        """
        never = self._seen.test.never(low, high)
        always = self._seen.test.always(low, high) & ~never
        closed = never | always
        self._seen.failed[block[never]] = True
        self._seen.passed[block[always]] = True
        self.retire(block[closed])
        self.give_up_falsified(block)
        done: Bools = closed | self.finished[block]
        return done

    def retire(self, block: Indices, closed: int = 1) -> None:
        """Decide the blocks whose last leaf is closed; `block` [L] are those of the leaves closed now.

        Sound because a block without a row that has a score is SKIP.
        """
        np.subtract.at(self._open, block, closed)
        whole = np.flatnonzero(np.bincount(block, minlength=len(self.finished)))
        whole = whole[(self._open[whole] == 0) & ~self.finished[whole]]
        skipped, kept = whole[~self._seen.passed[whole]], whole[self._seen.passed[whole] & ~self._seen.failed[whole]]
        self.decision[skipped] = SKIP
        self.decision[kept] = KEEP
        self.finish(np.concatenate([skipped, kept]), Reason.PROVED)
        self._meter.saved(int(self._n_rows[skipped].sum()))

    def give_up_falsified(self, block: Indices, *, keep: bool | None = None) -> None:
        """Finish blocks that can be neither SKIP nor, if that matters, KEEP."""
        keep = self._prove_keep if keep is None else keep
        self.finish(block[self._seen.hopeless(block, keep=keep)], Reason.FALSIFIED)

    def finish(self, block: Indices, reason: Reason) -> None:
        """Do no more work on blocks [L]."""
        block = block[~self.finished[block]]
        self.finished[block] = True
        self.reason[block] = reason

    def unfinished(self, leaves: Leaves) -> Bools:
        """Which leaves [L] belong to blocks still worked on; the others are closed as they are."""
        return self._put_away(leaves, self.finished[leaves.block])

    def _put_away(self, leaves: Leaves, done: Bools) -> Bools:
        """Keep leaves that need no more work for the memory -> which are left [L]."""
        if done.any():
            self.closed.append(leaves.take(done))
        return ~done
