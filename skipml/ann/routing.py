"""The order in which a query reads the posting lists: nearest centroid first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.metric import Singles

Indices = NDArray[np.int64]

FLAT = 20_000
"""Up to so many lists every centroid is looked at."""
_NEIGHBOURS, _BUILD_EFFORT, _LEAST_EFFORT = 16, 80, 128


@dataclass(frozen=True)
class Router:
    """Finds the nearest of the centroids [lists, width], which are rotated where the queries are."""

    centroids: Singles

    @cached_property
    def _flat(self) -> Any:
        import faiss

        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(self.centroids)
        return index

    @cached_property
    def _graph(self) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(self.centroids.shape[1], _NEIGHBOURS)
        index.hnsw.efConstruction = _BUILD_EFFORT
        index.add(self.centroids)
        return index

    def nearest(self, queries: Singles, count: int) -> tuple[Singles, Indices]:
        """Squared distances and numbers [q, count] of the nearest lists, ascending; -1 and inf where the graph finds
        fewer. Looks at every centroid where many are asked for.
        """
        import faiss

        n = len(self.centroids)
        count = min(count, n)
        queries = np.ascontiguousarray(queries)
        if n > FLAT and count <= n // 16:
            effort = faiss.SearchParametersHNSW(efSearch=max(_LEAST_EFFORT, 2 * count))
            found = self._graph.search(queries, count, params=effort)
            return found[0], found[1]
        route, order = np.empty((len(queries), count), np.float32), np.empty((len(queries), count), np.int64)
        pointers = faiss.swig_ptr(queries), count, faiss.swig_ptr(route), faiss.swig_ptr(order)
        self._flat.search_c(len(queries), *pointers)
        return route, order
