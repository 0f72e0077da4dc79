"""Exact answers: a list is a ball, and no row in it is nearer to a query than the ball is.

The bounds are float64 and rounded outward by more than the float32 arithmetic of DuckDB's functions can be off, so
they hold for the distance that DuckDB computes as well as for the true one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.ann.metric import Matrix, Metric, Singles, distances
from skipml.ann.search import Found, Snapshot, Work, joined, run_all

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_UNIT = 2.0**-24
_OVERFLOW = 1e18
"""Beyond it squares may overflow as float32: nothing is concluded there."""
_UNIT_SLACK = 2.0**-21
_ROUND_ROWS = 4096
"""Rows that are read before the k-th best distance is looked at again."""


@dataclass(frozen=True, slots=True, eq=False)
class Balls:
    """Around the rows of N lists: `centers` [N, width] in the space of the metric, `radii` [N]."""

    metric: Metric
    dimension: int
    centers: Singles
    radii: Floats

    def bounds(self, query: Singles) -> tuple[Floats, Floats]:
        """Between which values the distance of every row of a list to a query [d] lies, [N] and [N]; infinite where
        nothing is known, and NaN distances aside.

        Sound by the triangle inequality, which float64 is off from by less than the slack that is taken.
        """
        q = query.astype(np.float64)
        centers = self.centers[:, : self.dimension].astype(np.float64)
        length = float(np.sqrt(q @ q))
        error = (self.dimension + 8) * _UNIT
        if self.metric == "ip":
            reach = np.sqrt(np.einsum("ij,ij->i", centers, centers)) + self.radii
            middle, half = -(centers @ q), length * self.radii
            slack = 2 * error * length * reach + np.finfo(np.float32).tiny
            return self._known(middle - half - slack, middle + half + slack, length * reach, reach, length)
        if self.metric == "cosine":
            if length == 0:
                return np.full(len(centers), -np.inf), np.full(len(centers), np.inf)
            q /= length
        away = centers - q
        middle = np.sqrt(np.einsum("ij,ij->i", away, away))
        low = np.maximum(middle * (1 - 2.0**-40) - self.radii, 0)
        high = middle * (1 + 2.0**-40) + self.radii
        if self.metric == "cosine":
            slack = 4 * error + _UNIT_SLACK
            return low**2 / 2 - slack, np.minimum(high**2 / 2 + slack, 2)
        tiny = float(np.sqrt(np.finfo(np.float32).tiny * self.dimension))
        return self._known(low * (1 - error) - tiny, high * (1 + error) + tiny, high, high, length)

    def _known(self, low: Floats, high: Floats, *sizes: Floats | float) -> tuple[Floats, Floats]:
        known = np.logical_and.reduce([np.less(size, _OVERFLOW) & np.isfinite(low) for size in sizes])
        return np.where(known, low, -np.inf), np.where(known, high, np.inf)


def balls_of(snapshot: Snapshot) -> Balls:
    """Those of the lists of an index."""
    manifest = snapshot.manifest
    return Balls(manifest.metric, manifest.vector.dimension, manifest.centroids, manifest.radii)


def exact_search(snapshot: Snapshot, queries: Singles, k: int, threads: int = 1) -> Found:
    """The k nearest rows to each query, proved: lists are read in the order of their bounds until none that is left
    can hold a nearer row, or one as near with a smaller number.
    """
    snapshot.check_unchanged()
    k = min(k, snapshot.manifest.n_rows)
    if not k or not len(queries):
        return Found.nothing()
    balls = balls_of(snapshot)
    starts = range(len(queries))
    return joined(run_all(lambda i: _one(snapshot, balls, queries[i : i + 1], k), starts, threads), starts)


def _one(snapshot: Snapshot, balls: Balls, query: Singles, k: int) -> Found:
    low, _ = balls.bounds(query[0])
    rows = sum((s.counts for s in snapshot.manifest.segments), np.zeros(snapshot.n_lists, np.int64))
    order = np.argsort(low, kind="stable")
    order = order[rows[order] > 0]
    best = Found.nothing()
    done, limit = 0, np.inf
    while done < len(order) and not low[order[done]] > limit:
        upto = int(np.searchsorted(np.cumsum(rows[order[done:]]), _ROUND_ROWS)) + 1
        lists = order[done : done + upto]
        lists = lists[~(low[lists] > limit)]
        done += len(lists)
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
