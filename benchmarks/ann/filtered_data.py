"""The embeddings with columns to filter by: an index of them, and the same rows as DuckDB would have them.

`share` is random; `along` is the place of a row, in thousandths, along the direction in which the rows differ most, so
that a condition on it has to do with the vectors; `a`, `b` and `c` are three more directions, inputs of a model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.ann.data import FOLDER, IN_DISTRIBUTION, Matrix, embeddings
from skipml import VectorIndex
from skipml.ann.manifest import NAME
from skipml.errors import MetadataError

_LOG = 6000
_INPUTS = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Filtered:
    """The index, the table as a Parquet file, queries (q, d) that no calibration has seen, and those of them that lie
    at the far end of `along`.
    """

    index: VectorIndex
    parquet: Path
    queries: Matrix
    far: Matrix


def filtered() -> Filtered:
    """Made once, under .data/ann."""
    data = embeddings()
    base = np.asarray(data.base, np.float32)
    queries = np.asarray(data.queries[IN_DISTRIBUTION], np.float32)
    mean = base.mean(0)
    _, axes = np.linalg.eigh(np.cov(base[:20_000].T))
    directions = axes[:, ::-1].astype(np.float32)
    path, table = FOLDER / "filtered.index", FOLDER / "filtered.parquet"
    if not (path / NAME).exists():
        rows = _table(base, (base - mean) @ directions[:, :4])
        pq.write_table(rows, table.with_suffix(".tmp"), compression="zstd")
        os.replace(table.with_suffix(".tmp"), table)
        VectorIndex.build(table, column="vector", path=path)
    index = VectorIndex.open(path)
    try:
        index.search(queries[:1], recall=0.95)
    except MetadataError:  # not calibrated yet, or by an earlier skipml
        index.calibrate(queries[:_LOG], [0.95])
    held_out = queries[_LOG:]
    along = (held_out - mean) @ directions[:, 0]
    return Filtered(index, table, held_out, held_out[along > np.quantile(along, 0.8)])


def _table(base: Matrix, places: NDArray[np.float32]) -> pa.Table:
    n = len(base)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(base).ravel()), base.shape[1])
    columns = {
        "id": pa.array(np.arange(n)),
        "share": pa.array(np.random.default_rng(11).permutation(n) * 1000 // n, pa.int32()),
        "along": pa.array(np.argsort(np.argsort(places[:, 0])) * 1000 // n, pa.int32()),
    }
    columns |= {name: pa.array(places[:, i]) for i, name in enumerate(_INPUTS, 1)}
    return pa.table({**columns, "vector": vectors})


if __name__ == "__main__":
    made = filtered()
    print(len(made.index), made.queries.shape, made.far.shape)
