"""The three metrics, as DuckDB computes them, and the one space in which all of them are Euclidean.

| metric | distance | DuckDB | a row x in the space | a query q in the space |
|---|---|---|---|---|
| l2 | sqrt(sum (x - q)^2) | array_distance | x | q |
| ip | -(x . q) | array_negative_inner_product | (x, sqrt(M^2 - x.x)) | (q M / sqrt(q.q), 0) |
| cosine | 1 - x . q / sqrt(x.x q.q) | array_cosine_distance | x / sqrt(x.x) | q / sqrt(q.q) |

A zero vector has no direction: among cosine distances it is put far away. M is the norm of the longest row that the
index was built of. Clusters, codes and routes live in the space, so they are the same for all metrics; distances that
are handed out, and what proofs rest on, never do.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skipml.ann import compiled
from skipml.errors import PredicateError

Metric = Literal["l2", "ip", "cosine"]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Matrix = NDArray[np.float32] | NDArray[np.int8]

SQL_FUNCTIONS: dict[Metric, str] = {
    "l2": "array_distance",
    "ip": "array_negative_inner_product",
    "cosine": "array_cosine_distance",
}
_BLOCK_VALUES = 1 << 20
_ORDINARY = 30
"""Powers of two of norms that need no scale."""
_BEYOND = 1e4
_FAR = 4.0
"""Where zero vectors are: behind every other from a query of length 1, as their cosine distance is NaN."""


def check_metric(metric: str) -> Metric:
    """The metric of that name; raises PredicateError for a name that is none."""
    for name in SQL_FUNCTIONS:
        if metric == name:
            return name
    raise PredicateError(f"the metric is one of {', '.join(SQL_FUNCTIONS)}, not {metric!r}")


@dataclass(frozen=True, slots=True)
class Space:
    """The Euclidean space of a metric over vectors of `dimension` values."""

    metric: Metric
    dimension: int
    longest: float = 1.0
    """M: the norm of the longest row."""

    @property
    def scale(self) -> float:
        """What vectors are multiplied by in the space, a power of two: squares of very long or very short ones leave
        the range of float32. Cosine distances need none.
        """
        exponent = int(np.frexp(self.longest)[1])
        return 1.0 if self.metric == "cosine" or abs(exponent) < _ORDINARY else float(np.ldexp(1.0, -exponent))

    @property
    def width(self) -> int:
        """How many values a vector has in the space."""
        return self.dimension + (self.metric == "ip")

    def rows(self, vectors: Matrix) -> Singles:
        """Rows [n, dimension] in the space, [n, width]."""
        x = vectors.astype(np.float32)
        if self.metric == "cosine":
            placed = _normalised(x)
            placed[~x.any(axis=1), 0] = _FAR
            return placed
        x *= np.float32(self.scale)
        if self.metric == "ip":
            squares = np.einsum("ij,ij->i", x, x, dtype=np.float64)
            rest = np.sqrt(np.maximum((self.longest * self.scale) ** 2 - squares, 0))
            return np.hstack([x, rest[:, None].astype(np.float32)])
        return x

    def queries(self, vectors: Singles) -> Singles:
        """Queries [n, dimension] in the space, [n, width]."""
        longest = self.longest * self.scale
        if self.metric == "l2":
            # a query far beyond every row may overflow: a nearer place in the same direction is as good
            limit = _BEYOND * max(longest, 1.0)
            if (abs(vectors) * self.scale < limit).all():
                return vectors * np.float32(self.scale) if self.scale != 1 else vectors
            return np.clip(vectors.astype(np.float64) * self.scale, -limit, limit).astype(np.float32)
        unit = _normalised(vectors)
        if self.metric == "cosine":
            return unit
        return np.hstack([unit * np.float32(longest), np.zeros((len(unit), 1), np.float32)])


def _normalised(x: Singles) -> Singles:
    norms = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    norms[norms == 0] = 1
    return np.asarray(x / norms[:, None], np.float32)


def distances(metric: Metric, queries: Singles, which: NDArray[np.int64], rows: Matrix) -> Floats:
    """The distance [n] of each row [n, d] to the query [q, d] of its number in `which` [n], in float64: it depends on
    the row and the query alone, so that equal rows are equally far. Cosine distances from zero vectors are NaN.
    """
    if (library := compiled.library()) is not None:
        return _compiled_distances(library, metric, queries, which, rows)
    if len(queries) == 1:
        which = np.zeros(1, np.int64)  # one row that stands for all
    found = np.empty(len(rows))
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        mine = queries[which[part] if len(queries) > 1 else which].astype(np.float64)
        found[part] = _distances(metric, mine, rows[part].astype(np.float64))
    return found


def _compiled_distances(
    library: ctypes.CDLL, metric: Metric, queries: Singles, which: NDArray[np.int64], rows: Matrix
) -> Floats:
    found = np.empty(len(rows))
    which = np.zeros(len(rows), np.int64) if len(queries) == 1 else which
    laid = (
        np.ascontiguousarray(queries, np.float32),
        np.ascontiguousarray(which, np.int64),
        np.ascontiguousarray(rows),
    )
    pointers = [array.ctypes.data for array in laid]
    is_int8, n = rows.dtype == np.int8, len(rows)
    library.skipml_distances(compiled.METRICS[metric], is_int8, rows.shape[1], *pointers, n, found.ctypes.data)
    return found


def _distances(metric: Metric, q: Floats, x: Floats) -> Floats:
    if metric == "l2":
        x -= q
        return np.asarray(np.sqrt(_dot(x, x)))
    if metric == "ip":
        return -_dot(x, q)
    # the root of each by itself, as the product of two squares may overflow
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - np.clip(_dot(x, q) / (np.sqrt(_dot(x, x)) * np.sqrt(_dot(q, q))), -1, 1))


def _dot(a: Floats, b: Floats) -> Floats:
    """Sums over the rows, each in one order whatever the other rows are (a matrix product has no such order); one row
    may stand for all.
    """
    return np.asarray(np.einsum("ij,ij->i", a, b if len(a) == len(b) else np.broadcast_to(b, a.shape)))
