"""What a search finds: rows by query, nearest first, and what was read for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.ann.snapshot import Snapshot

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Work:
    """What a search has read, summed over its queries."""

    lists: int = 0
    scanned: int = 0
    """Codes, or vectors where there are no codes."""
    vectors: int = 0
    """Vectors whose distance was computed."""
    bytes_read: int = 0

    def add(self, other: Work) -> None:
        """The work of other queries."""
        self.lists += other.lists
        self.scanned += other.scanned
        self.vectors += other.vectors
        self.bytes_read += other.bytes_read


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The rows that were found, by query and nearest first: `query`, `position`, `row_id` and `distance` [n]."""

    query: Indices
    position: Indices
    row_id: Indices
    distance: Floats
    work: Work
    lists: Indices | None = None
    """The lists that hold the rows, where that is known already."""

    @classmethod
    def nothing(cls) -> Found:
        """No rows."""
        none = np.empty(0, np.int64)
        return cls(none, none, none, np.empty(0), Work())

    def first(self, k: int) -> Found:
        """The k nearest of each query."""
        if len(self.query) <= k:
            return self
        kept = np.arange(len(self.query)) - np.searchsorted(self.query, self.query) < k
        return Found(self.query[kept], self.position[kept], self.row_id[kept], self.distance[kept], self.work)

    def beside(self, queries: Indices, other: Found, others: Indices) -> Found:
        """With what was found for other queries; `queries` and `others` are the numbers of both among all."""
        self.work.add(other.work)
        query = np.concatenate([queries[self.query], others[other.query]])
        order = np.argsort(query, kind="stable")
        position, row_id, distance = (
            np.concatenate([getattr(self, name), getattr(other, name)])[order]
            for name in ("position", "row_id", "distance")
        )
        return Found(query[order], position, row_id, distance, self.work)

    @classmethod
    def ranked(  # noqa: PLR0917
        cls, snapshot: Snapshot, query: Indices, position: Indices, distance: Floats, k: int, work: Work
    ) -> Found:
        """The k nearest of the rows of each query, equal ones in the order of their numbers, NaN last."""
        order = np.lexsort((distance, query))
        query, distance = query[order], distance[order]
        first = np.searchsorted(query, query)
        last = np.minimum(first + k - 1, len(query) - 1)
        # all that are as near as the k-th, NaN being beyond every number: their numbers decide
        kept = (query[last] != query) | ~(distance > distance[last]) & ~(np.isnan(distance) & ~np.isnan(distance[last]))
        query, distance, position = query[kept], distance[kept], position[order[kept]]
        row_id = snapshot.row_ids(position)
        order = np.lexsort((row_id, distance, query))
        order = order[np.arange(len(query)) - np.searchsorted(query, query) < k]
        return cls(query[order], position[order], row_id[order], distance[order], work)
