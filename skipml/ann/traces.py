"""What searches that read on and on would have found at each look: what stop rules learn from and are calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipml.ann import looks
from skipml.ann.stopping import FloatMatrix, FloatVector, IntMatrix, IntVector, Progress, StopRule

_TIES = 1e-5
"""Distances that differ by less than this share are one distance: kernels round differently."""
_MOST_LISTS = 2048
"""A recorded search that has not found its rows by then counts as one that never does, however many lists there are."""


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

    def progress(self, look: int, queries: IntVector | None = None) -> Progress:
        """What the searches of some queries, or of all, know at a look."""
        which = slice(None) if queries is None else queries
        route = self.route[which]
        lists = np.full(len(route), self.looks[look], np.int64)
        return Progress(lists, route, self.best[which, look], self.late[which, look], self.sizes[which])


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
    """A stop rule that reads on until each query of one batch has found its `truth` (q, k), and keeps what it saw.

    Where `own` is set the queries are rows of the table, which find themselves first: `truth` and what is kept leave
    that row out, so the search has to ask for k + 1.
    """

    truth: FloatMatrix
    own: bool = False
    _number: dict[bytes, int] = field(default_factory=dict)
    """Of each query by its distances to the nearest centroids: queries that share them are one and the same."""
    _of: IntVector = field(default_factory=lambda: np.empty(0, np.int64))
    _seen: dict[int, list[Progress]] = field(default_factory=dict)

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """A few lists, (q,)."""
        self._of = np.array([self._number.setdefault(key, row) for row, key in enumerate(_keys(route))], np.int64)
        return np.full(len(route), looks.FIRST, np.int64)

    def more(self, progress: Progress) -> IntVector:
        """The next look, or where each is, (q,)."""
        best = progress.best[:, 1:] if self.own else progress.best
        numbers = np.array([self._number[key] for key in _keys(progress.route)])
        for row, number in enumerate(numbers.tolist()):
            one = slice(row, row + 1)
            seen = Progress(
                progress.lists[one], progress.route[one], best[one], progress.late[one], progress.sizes[one]
            )
            self._seen.setdefault(number, [])
            if not self._seen[number] or self._seen[number][-1].lists[0] < seen.lists[0]:
                self._seen[number].append(seen)
        found = shares_found(best, self.truth[numbers]) >= 1
        settled = found & (progress.late == 0)  # nothing new in the second half: so it stays from here on
        ends = settled | (progress.lists >= _MOST_LISTS)
        return np.where(ends, progress.lists, looks.rounded(progress.lists + 1))

    def trace(self, lists: int) -> Trace:
        """The batch, in an index of so many lists; from the last look of a query on nothing changes."""
        return joined([self._trace(row, looks.grid(lists)) for row in range(len(self._of))])

    def _trace(self, row: int, at: IntVector) -> Trace:
        seen = self._seen[int(self._of[row])]
        steps = [*seen, *[seen[-1]] * (len(at) - len(seen))]
        best = np.stack([step.best for step in steps], 1)
        late = np.stack([step.late for step in steps], 1)
        recall = np.stack([shares_found(step.best, self.truth[row : row + 1]) for step in steps], 1)
        return Trace(at, seen[-1].route, seen[-1].sizes, best, late, recall)


def _keys(route: FloatMatrix) -> list[bytes]:
    return [row.tobytes() for row in route[:, :8]]


def joined(traces: Sequence[Trace]) -> Trace:
    """Traces of one index as one; routes as long as the longest, beyond their ends the last distance again."""
    width = max(trace.route.shape[1] for trace in traces)
    routes = [np.pad(trace.route, ((0, 0), (0, width - trace.route.shape[1])), "edge") for trace in traces]
    sizes = [np.pad(trace.sizes, ((0, 0), (0, width - trace.sizes.shape[1]))) for trace in traces]
    best, late, recall = (np.concatenate([getattr(t, name) for t in traces]) for name in ("best", "late", "recall"))
    return Trace(traces[0].looks, np.concatenate(routes), np.concatenate(sizes), best, late, recall)
