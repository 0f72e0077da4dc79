"""The rows of the workload: a Parquet file with row groups of an exact size, and the same inputs as arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.effectiveness.workload import Function, Workload
from benchmarks.tpc.data import DATA, tpc_table

Floats = NDArray[np.float64]


def sliced_table(workload: Workload, function: Function) -> Path:
    """The first rows of the function's table, in generation order, with the columns that the workload needs of it."""
    columns = workload.columns_of(function.table)
    key = f"{workload.scale} {workload.rows_per_table} {workload.row_group_rows} {columns}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = DATA / "effectiveness" / f"{function.table}-{digest}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        query = f"SELECT {', '.join(columns)} FROM {_first_rows(workload, function)}"
        with duckdb.connect() as connection:
            rows = connection.sql(query).to_arrow_table()
        # DuckDB's COPY rounds the size up to a multiple of 2,048. No column here is a float, so no NaN count is missed.
        pq.write_table(rows, partial, row_group_size=workload.row_group_rows)
        partial.replace(path)
    return path


def read_inputs(path: Path, columns: list[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """The inputs of a model, float64 [n, d], and whether none of a row's is NULL [n]."""
    with duckdb.connect() as connection:
        numbers = _numbers(connection, f"'{path}'", columns)
    return numbers, np.logical_not(np.isnan(numbers).any(axis=1))


def read_target(workload: Workload, function: Function) -> Floats:
    """The regressed column of a function, float64 [n], NaN for NULL."""
    with duckdb.connect() as connection:
        return _numbers(connection, _first_rows(workload, function), [function.target])[:, 0]


def _first_rows(workload: Workload, function: Function) -> str:
    source = tpc_table(function.suite, function.table, scale=workload.scale)
    return f"(FROM '{source}' LIMIT {workload.rows_per_table})"


def _numbers(connection: duckdb.DuckDBPyConnection, source: str, expressions: list[str]) -> Floats:
    """SQL expressions as float64 [n, k], NaN for NULL; dates are seconds since 1970, as models take them."""
    types = [row[1] for row in connection.execute(f"DESCRIBE SELECT {', '.join(expressions)} FROM {source}").fetchall()]
    numbers = [
        f"epoch({e})" if t == "DATE" else f"CAST({e} AS DOUBLE)" for e, t in zip(expressions, types, strict=True)
    ]
    selected = ", ".join(f"coalesce({number}, 'nan'::DOUBLE) AS x{i}" for i, number in enumerate(numbers))
    columns = connection.execute(f"SELECT {selected} FROM {source}").fetchnumpy()
    return np.stack([np.asarray(columns[f"x{i}"], np.float64) for i in range(len(expressions))], axis=1)
