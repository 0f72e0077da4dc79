"""Exact search: lists are read in the order of their bounds until none that is left can hold a nearer row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.ann.balls import distance_bounds
from skipml.ann.found import Found, Work
from skipml.ann.metric import Matrix, Singles, distances
from skipml.ann.search import joined, run_all
from skipml.ann.snapshot import Snapshot
from skipml.regions import Balls

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_FIRST_ROWS = 256
"""Rows that are read before the k-th best distance is looked at, then twice as many each time."""


def exact_search(snapshot: Snapshot, queries: Singles, k: int, threads: int = 1) -> Found:
    """The k nearest rows to each query, proved: no list that is not read holds a nearer row, or one as near with a
    smaller number.
    """
    snapshot.check_unchanged()
    k = min(k, snapshot.manifest.n_rows)
    if not k or not len(queries):
        return Found.nothing()
    balls = snapshot.balls
    starts = range(len(queries))
    return joined(run_all(lambda i: _one(snapshot, balls, queries[i : i + 1], k), starts, threads), starts)


def _one(snapshot: Snapshot, balls: Balls, query: Singles, k: int) -> Found:
    low, _ = distance_bounds(snapshot.manifest.metric, balls, query[0])
    rows = sum((s.counts for s in snapshot.manifest.segments), np.zeros(snapshot.n_lists, np.int64))
    order = np.argsort(low, kind="stable")
    order = order[rows[order] > 0]
    best = Found.nothing()
    done, limit, n_rows = 0, np.inf, max(_FIRST_ROWS, k)
    while done < len(order) and not low[order[done]] > limit:
        upto = int(np.searchsorted(np.cumsum(rows[order[done:]]), n_rows)) + 1
        lists = order[done : done + upto]
        lists = lists[~(low[lists] > limit)]
        done, n_rows = done + len(lists), 2 * n_rows
        position, distance = _read(snapshot, lists, query, best.work)
        position = np.concatenate([best.position, position])
        distance = np.concatenate([best.distance, distance])
        best = Found.ranked(snapshot, np.zeros(len(position), np.int64), position, distance, k, best.work)
        if len(best.distance) == k and not np.isnan(best.distance[-1]):
            limit = best.distance[-1]
    return best


def _read(snapshot: Snapshot, lists: Indices, query: Singles, work: Work) -> tuple[Indices, Floats]:
    """The rows of some lists that are there, and their distances."""
    positions, found = [], []
    for reader, start in zip(snapshot.readers, snapshot.starts.tolist(), strict=False):
        mine = lists[reader.segment.counts[lists] > 0]
        reader.fetch_vectors(mine)
        for number in mine.tolist():
            vectors: Matrix = reader.list_vectors(number)
            first = start + int(reader.starts[number])
            positions.append(np.arange(first, first + len(vectors)))
            found.append(distances(snapshot.manifest.metric, query, np.zeros(len(vectors), np.int64), vectors))
    position, distance = np.concatenate(positions), np.concatenate(found)
    work.lists += len(lists)
    work.scanned += len(position)
    work.vectors += len(position)
    work.bytes_read += len(position) * snapshot.manifest.vector.n_bytes
    there = ~snapshot.is_deleted(position)
    return position[there], distance[there]
