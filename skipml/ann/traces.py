"""What searches that read on and on would have found at each look: what stop rules learn from and are calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skipml.ann import looks
from skipml.ann.stopping import FloatMatrix, FloatVector, IntMatrix, IntVector, Progress, StopRule

_TIES = 1e-5
"""Distances that differ by less than this share are one distance: kernels round differently."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """q searches for k rows that look c times: `looks` (c,) lists read, `route` and `sizes` (q, m), `best` (q, c, k),
    `late` (q, c), and `recall` (q, c), the share of the k true neighbours found by then.
    """

    looks: IntVector
    route: FloatMatrix
    sizes: IntMatrix
    best: NDArray[np.float32]
    late: FloatMatrix
    recall: FloatMatrix

    @property
    def k(self) -> int:
        """Rows that each query asks for."""
        return int(self.best.shape[2])

    def __len__(self) -> int:
        return len(self.route)

    def take(self, queries: IntVector) -> Trace:
        """Some of the queries."""
        best, late, recall = self.best[queries], self.late[queries], self.recall[queries]
        return Trace(self.looks, self.route[queries], self.sizes[queries], best, late, recall)

    def progress(self, look: int, queries: IntVector) -> Progress:
        """What the searches of some queries know at a look."""
        lists = np.full(len(queries), self.looks[look], np.int64)
        best, late = self.best[queries, look], self.late[queries, look]
        return Progress(lists, self.route[queries], best, late, self.sizes[queries])


def replay(rule: StopRule, trace: Trace) -> IntVector:
    """The look at which each query of the trace stops under a rule, (q,); the next one where it stops between two."""
    stop = looks.places(trace.looks, rule.first(trace.route, trace.sizes, trace.k))
    active = np.arange(len(trace))
    for look in range(len(trace.looks) - 1):
        here = active[stop[active] == look]
        if len(here):
            wanted = looks.places(trace.looks, rule.more(trace.progress(look, here)))
            wanted = np.maximum(wanted, look)
            short = ~np.isfinite(trace.best[here, look, -1])
            doubled = looks.places(trace.looks, 2 * trace.looks[look : look + 1])
            stop[here] = np.where(short, np.maximum(wanted, doubled), wanted)
        active = active[stop[active] > look]
    return stop


def shares_found(best: FloatMatrix, truth: FloatMatrix) -> FloatVector:
    """The share of the k true distances `truth` (q, k) that the rows with the distances `best` (q, k) reach, (q,)."""
    kth = truth[:, -1:]
    share: FloatVector = np.mean(best <= kth + _TIES * np.abs(kth), axis=1, dtype=np.float32)
    return share


@dataclass(slots=True)
class Recorder:
    """A stop rule that reads on until every query of one batch has found its `truth` (q, k), and keeps what it saw.

    Where `own` is set the queries are rows of the table, which find themselves first: `truth` and what is kept leave
    that row out, so the search has to ask for k + 1.
    """

    truth: FloatMatrix
    own: bool = False
    seen: list[Progress] = field(default_factory=list)

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """A few lists, (q,)."""
        return np.full(len(route), looks.FIRST, np.int64)

    def more(self, progress: Progress) -> IntVector:
        """The next look, or where they are for all of them at once, (q,)."""
        kept = replace(progress, best=progress.best[:, 1:]) if self.own else progress
        self.seen.append(kept)
        found = shares_found(kept.best, self.truth) >= 1
        if (found & (kept.late == 0)).all():  # nothing new in the second half: so it stays from here on
            return progress.lists
        return looks.rounded(progress.lists + 1)

    def trace(self, lists: int) -> Trace:
        """The batch, in an index of so many lists; from its last look on nothing changes."""
        last = self.seen[-1]
        at = looks.grid(lists)
        steps = [*self.seen, *[last] * (len(at) - len(self.seen))]
        best = np.stack([step.best for step in steps], 1)
        late = np.stack([step.late for step in steps], 1)
        recall = np.stack([shares_found(step.best, self.truth) for step in steps], 1)
        return Trace(at, last.route, last.sizes, best, late, recall)


def joined(traces: Sequence[Trace]) -> Trace:
    """Traces of one index as one; routes as long as the longest, beyond their ends the last distance again."""
    width = max(trace.route.shape[1] for trace in traces)
    routes = [np.pad(trace.route, ((0, 0), (0, width - trace.route.shape[1])), "edge") for trace in traces]
    sizes = [np.pad(trace.sizes, ((0, 0), (0, width - trace.sizes.shape[1]))) for trace in traces]
    best, late, recall = (np.concatenate([getattr(t, name) for t in traces]) for name in ("best", "late", "recall"))
    return Trace(traces[0].looks, np.concatenate(routes), np.concatenate(sizes), best, late, recall)
