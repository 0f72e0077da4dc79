"""RaBitQ codes (arXiv:2405.12497): a bit per dimension and two numbers, for an estimate of a squared distance.

A code is that of the residual of a row in one list, so a row of two lists has two codes. Rows, centroids and queries
are rotated first, which spreads what an axis says over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.metric import Singles

Indices = NDArray[np.int64]
LEAST_DIMENSION = 32
"""Below it the vectors are read at once: a code says little and saves little."""
_QUERY_BITS = 4


@lru_cache(maxsize=1)
def rotation(width: int) -> Singles:
    """A random rotation [width, width], always the same."""
    q, r = np.linalg.qr(np.random.default_rng(1).standard_normal((width, width)))
    return np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32)


@dataclass(frozen=True)
class Codec:
    """Codes against centroids [lists, width] that are rotated already."""

    centroids: Singles

    @cached_property
    def index(self) -> Any:
        """faiss's index over the centroids, without rows."""
        import faiss

        n, width = self.centroids.shape
        quantizer = faiss.IndexFlatL2(width)
        quantizer.add(self.centroids)
        index = faiss.IndexIVFRaBitQ(quantizer, width, n, faiss.METRIC_L2)
        index.is_trained = True
        index.rabitq.is_trained = True
        index.referenced_objects = [quantizer]
        return index

    @property
    def n_bytes(self) -> int:
        """Of a code."""
        return int(self.index.code_size)

    def encode(self, rows: Singles, lists: Indices) -> NDArray[np.uint8]:
        """The codes [n, n_bytes] of rotated rows [n, width] in a list each [n]."""
        import faiss

        found = np.empty((len(rows), self.n_bytes), np.uint8)
        lists = np.ascontiguousarray(lists, np.int64)
        rows = np.ascontiguousarray(rows)
        self.index.encode_vectors(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(lists), faiss.swig_ptr(found))
        return found


def query_parameters(nprobe: int) -> Any:
    """How codes are compared with a query of so many lists."""
    import faiss

    parameters = faiss.IVFRaBitQSearchParameters()
    parameters.nprobe, parameters.qb = nprobe, _QUERY_BITS
    return parameters
