"""What every row is worth, computed without an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml import VectorIndex
from skipml.ann.metric import Metric, distances

METRICS: tuple[Metric, ...] = ("l2", "ip", "cosine")


def table_of(vectors: NDArray[Any], **columns: Any) -> pa.Table:
    """A table with the vectors in `v`."""
    kind = pa.int8() if vectors.dtype == np.int8 else pa.float32()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), kind), vectors.shape[1])
    return pa.table({**columns, "v": lists})


def clustered(n: int, d: int, seed: int = 0, *, int8: bool = False) -> NDArray[Any]:
    """Rows around a few centres, some of them twice, some zero."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, d)) * 2
    rows = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.standard_normal((n, d))
    rows[rng.random(n) < 0.1] = rows[0]
    rows[rng.random(n) < 0.05] = 0
    return (rows * 20).clip(-128, 127).astype(np.int8) if int8 else rows.astype(np.float32)


def nearest(metric: Metric, query: NDArray[Any], rows: NDArray[Any], k: int) -> tuple[list[int], list[float]]:
    """The numbers of the k nearest rows and their distances, ties by number and NaN last."""
    found = distances(metric, query[None].astype(np.float32), np.zeros(len(rows), np.int64), rows)
    order = np.lexsort((np.arange(len(rows)), found))[:k]
    return order.tolist(), found[order].tolist()


def built(path: Path, vectors: NDArray[Any], metric: Metric = "l2", **options: Any) -> VectorIndex:
    """An index of the vectors."""
    table = table_of(vectors, id=pa.array(np.arange(len(vectors)) * 7))
    return VectorIndex.build(table, column="v", path=path, metric=metric, **options)
