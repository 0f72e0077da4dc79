"""What zone maps promise, checked against the rows and the statistics that DuckDB reads from the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.footers import ColumnStats, read_footers
from tests.writers import write_pyarrow


def rows_of(path: Path, column: str = "x") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The model inputs as DuckDB computes them from the file, and where they are NULL."""
    sql_type = duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall()[0][1]
    if sql_type == "TIMESTAMPTZ_NS":
        expression = f"epoch(CAST({column} AS TIMESTAMPTZ))"
    else:
        expression = f"epoch({column})" if sql_type.startswith(("DATE", "TIME")) else f"CAST({column} AS DOUBLE)"
    rows = duckdb.execute(f"SELECT {expression} FROM '{path}' ORDER BY file_row_number").fetchall()
    null = np.array([row[0] is None for row in rows])
    return np.array([0.0 if row[0] is None else row[0] for row in rows]), null


def assert_sound(
    path: Path, stats: ColumnStats, n_rows: NDArray[np.int64], values: NDArray[np.float64], null: NDArray[np.bool_]
) -> None:
    """Every row lies in what is said of its row group."""
    block = np.repeat(np.arange(len(n_rows)), n_rows)
    assert len(block) == len(values), f"{path}: the row groups have other rows than the file"
    nan = np.isnan(values) & ~null
    inside = (values >= stats.lower[block]) & (values <= stats.upper[block])
    assert (inside | null | nan | ~stats.known[block]).all(), "a value is outside of its row group's limits"
    assert not (nan & ~stats.may_be_nan[block]).any(), "a NaN where none was said to be"
    assert not (~null & stats.all_null[block]).any(), "a value in a row group that was said to be NULL"
    counts = np.bincount(block, weights=null, minlength=len(n_rows))
    assert ((stats.null_count < 0) | (stats.null_count == counts)).all(), "a wrong number of NULLs"


def stats_of(path: Path, column: str = "x") -> ColumnStats:
    return read_footers([str(path)], [column], strict=True).columns[column]


def small_file(tmp_path: Path, kind: pa.DataType | None = None, **options: object) -> Path:
    """Two row groups of the column x: 1, 2 and 3, 4."""
    path = tmp_path / "small.parquet"
    write_pyarrow(
        pa.table(
            {"x": pa.array([1, 2, 3, 4], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind or pa.int64())}
        ),
        path,
        2,
        **options,
    )
    return path


def duckdb_statistics(path: Path) -> list[tuple[int, str | None, str | None, int | None]] | None:
    statistics = "row_group_num_rows, stats_min_value, stats_max_value, stats_null_count"
    query = f"SELECT {statistics} FROM parquet_metadata('{path}') WHERE path_in_schema = 'x'"
    try:
        return duckdb.execute(query).fetchall()
    except duckdb.Error:
        return None
