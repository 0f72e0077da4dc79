"""Tables to rewrite, and what is compared of the files before and after."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def random_table(n_rows: int, n_columns: int = 3, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(n_rows) for name in "abcdefgh"[:n_columns]}
    return pa.table({**columns, "row": np.arange(n_rows)})


def write(table: pa.Table, path: Path, **options: Any) -> Path:
    pq.write_table(table, path, **{"row_group_size": 1000, **options})
    return path


def rows_of(path: Path) -> Counter[str]:
    """The multiset of rows, -0.0, NaN and NULL told apart."""
    columns = [_plain(column) for column in pq.read_table(path).columns]
    return Counter(repr(row) for row in zip(*columns, strict=True))


def _plain(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return list(column.to_pylist())


def group_sizes(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def left_over(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if "skipml-" in name]
