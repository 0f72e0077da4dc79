"""The posting lists of an index as arrays, and what searches that read every list of them find at each look."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.ann.data import Matrix
from skipml.ann import looks
from skipml.ann.index import VectorIndex
from skipml.ann.stopping import FloatMatrix, IntMatrix
from skipml.ann.traces import Trace, shares_found

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Lists:
    """The rows (n, d), the centroids (m, d), and the lists of each row (n, copies)."""

    rows: Matrix
    centroids: Matrix
    of_row: IntMatrix

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each list, (m,)."""
        return np.bincount(self.of_row.ravel(), minlength=len(self.centroids))


def lists_of(index: VectorIndex) -> Lists:
    """The posting lists of an index of one segment, with l2."""
    snapshot = index.snapshot
    segment, reader = snapshot.manifest.segments[0], snapshot.readers[0]
    counts = segment.counts if segment.code is None else segment.code.counts
    of_entry = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(of_entry)) - np.repeat(np.cumsum(counts) - counts, counts)
    position = reader.copies(of_entry, place)
    order = np.argsort(position, kind="stable")
    of_row = of_entry[order].reshape(len(index), -1)
    rows = reader.vectors(np.arange(len(index))).astype(np.float32)
    return Lists(rows, snapshot.manifest.centroids, of_row)


@dataclass(frozen=True, slots=True)
class Searches:
    """A trace, and `found` (q, k): how many lists until each true neighbour is found."""

    trace: Trace
    found: IntMatrix

    def recall(self, lists: NDArray[np.int64]) -> NDArray[np.float64]:
        """The recall of each query after so many lists (q,)."""
        share: NDArray[np.float64] = (self.found <= lists[:, None]).mean(1)
        return share


def search(lists: Lists, queries: Matrix, k: int) -> Searches:
    """Search exactly and list by list; distances are squared."""
    base = lists.rows
    norms, number = np.einsum("nd,nd->n", base, base), len(lists.centroids)
    at = looks.grid(number)
    bucket = np.searchsorted(at, np.arange(1, number + 1)).astype(np.uint8)
    q, c = len(queries), len(at)
    route, order = _route(lists.centroids, queries)
    of_row = [np.ascontiguousarray(column, np.int32) for column in lists.of_row.T]
    best, late = np.full((q, c, k), np.inf, np.float32), np.zeros((q, c), np.float32)
    found = np.empty((q, k), np.int64)
    for start in range(0, q, _BLOCK):
        block = np.asarray(queries[start : start + _BLOCK], np.float32)
        distances = norms - 2 * (block @ base.T) + np.einsum("nd,nd->n", block, block)[:, None]
        for row in range(len(block)):
            one = start + row
            rank = np.empty(number, np.int32)
            rank[order[one]] = np.arange(number)
            position = np.minimum.reduce([rank[column] for column in of_row])
            best[one], late[one], found[one] = _follow(distances[row], position, bucket, at, k)
    best = np.maximum(best, 0)
    recall = np.stack([shares_found(best[:, look], best[:, -1]) for look in range(c)], 1)
    trace = Trace(at, route, lists.sizes[order], best, late, recall)
    return Searches(trace, found)


def _follow(
    distance: NDArray[np.float32], position: NDArray[np.int32], bucket: NDArray[np.uint8], at: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The best (c, k), late (c,) and found (k,) of one query: `position` is when each row is read, from 0."""
    when = bucket[position]
    start = int(np.searchsorted(np.cumsum(np.bincount(when, minlength=len(at))), k))  # the first look with k rows
    bound = np.partition(distance[when <= start], k - 1)[k - 1]
    rows = np.flatnonzero(distance <= bound)
    rows = rows[np.argsort(distance[rows], kind="stable")]
    best, late = np.full((len(at), k), np.inf, np.float32), np.ones(len(at), np.float32)
    values, times, positions = distance[rows], when[rows], position[rows]
    for look in range(len(at)):
        if look < start:
            seen = np.sort(distance[when <= look])
            best[look, : len(seen)] = seen
            continue
        chosen = np.flatnonzero(times <= look)[:k]
        best[look] = values[chosen]
        late[look] = np.mean(at[times[chosen]] > at[look] / 2)  # as a search sees it: at which look
    return best, late, positions[:k].astype(np.int64) + 1


def _route(centroids: Matrix, queries: Matrix) -> tuple[FloatMatrix, IntMatrix]:
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    route, order = index.search(np.ascontiguousarray(queries, np.float32), len(centroids))
    return route, order.astype(np.int64)
