"""Clusters: k-means, balanced by splitting, and the two lists that each row belongs to.

The second list is chosen as SOAR does (arXiv:2404.00774): near, and with a residual as orthogonal as possible to that
of the first, so that a query for which the first list looks far finds the row in the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.metric import Singles

Indices = NDArray[np.int64]

SAMPLE_PER_LIST = 64
"""Rows of the sample for each list: more hardly change the centroids."""
_ITERATIONS = 10
_LARGEST = 2.0
"""A list of the sample is split if it is so many times the mean."""
_SECOND_OF = 24
"""The second list is one of so many nearest."""
_SOAR_WEIGHT = 1.0
_BLOCK_VALUES = 1 << 22


def n_lists(n_rows: int) -> int:
    """How many lists k-means makes of so many rows: reading the centroids then costs about what reading lists does."""
    return int(max(1, min(4 * n_rows**0.5, n_rows / 24)))


def train(sample: Singles, count: int) -> Singles:
    """Centroids [c, d] of a sample [n, d]: about `count`, some more where lists were too long and are split."""
    if count <= 1:
        return _middle(sample)
    centroids = _kmeans(sample, min(count, len(sample)))
    nearest = assign(sample, centroids, 1)[:, 0]
    order = np.argsort(nearest, kind="stable")
    limit = max(_LARGEST * len(sample) / len(centroids), 16)
    bounds = np.searchsorted(nearest[order], np.arange(len(centroids) + 1))
    parts: list[Singles] = []
    for i in range(len(centroids)):
        members = order[bounds[i] : bounds[i + 1]]
        parts.append(centroids[i : i + 1] if len(members) <= limit else _split(sample[members], limit))
    return np.concatenate(parts)


def _split(members: Singles, limit: float) -> Singles:
    """Centroids of a list that is too long, by bisection; rows that are all alike stay together."""
    middle = _middle(members)
    if len(members) <= limit or (members == members[0]).all():
        return middle
    two = _kmeans(members, 2)
    side = assign(members, two, 1)[:, 0]
    if not 0 < side.sum() < len(side):
        return middle
    halves: list[Singles] = [_split(members[side == 0], limit), _split(members[side == 1], limit)]
    return np.concatenate(halves)


def _middle(rows: Singles) -> Singles:
    return np.asarray(rows.mean(axis=0, dtype=np.float64, keepdims=True), np.float32)


def _kmeans(sample: Singles, count: int) -> Singles:
    import faiss

    kmeans: Any = faiss.Kmeans(
        sample.shape[1], count, niter=_ITERATIONS, seed=1, min_points_per_centroid=1, max_points_per_centroid=1 << 30
    )
    kmeans.train(np.ascontiguousarray(sample))
    return np.asarray(kmeans.centroids, np.float32)


def assign(rows: Singles, centroids: Singles, count: int) -> Indices:
    """The `count` nearest centroids of each row, nearest first, [n, count]; equal rows get equal ones."""
    import faiss

    index: Any = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    return np.asarray(index.search(np.ascontiguousarray(rows), min(count, len(centroids)))[1], np.int64)


def two_lists(rows: Singles, centroids: Singles) -> tuple[Indices, Indices]:
    """The first and the second list of each row [n]; the second is -1 where there is one list only."""
    near = assign(rows, centroids, _SECOND_OF)
    first = near[:, 0]
    second = np.full(len(rows), -1, np.int64)
    if near.shape[1] == 1:
        return first, second
    step = max(1, _BLOCK_VALUES // (near.shape[1] * rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        others = near[part, 1:]
        residual = rows[part] - centroids[first[part]]
        length = np.sqrt(np.einsum("ij,ij->i", residual, residual))
        residual /= np.where(length > 0, length, 1)[:, None]
        away = rows[part, None, :] - centroids[others]
        parallel = np.einsum("ij,ikj->ik", residual, away)
        loss = np.einsum("ikj,ikj->ik", away, away) + _SOAR_WEIGHT * parallel**2
        second[part] = others[np.arange(len(others)), np.argmin(loss, axis=1)]
    return first, second
