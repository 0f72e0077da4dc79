"""The Parquet files of a table: in generation order and clustered, with large and with small row groups."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import duckdb
import numpy as np
from numpy.typing import NDArray

import skipml
from benchmarks.tpc.data import tpc_table
from benchmarks.tpc.networks import Floats
from benchmarks.tpc.suite import Suite
from skipml.layout import Method

Order = Literal["generated", "clustered"]
ORDERS: tuple[Order, ...] = get_args(Order)
ROW_GROUP_ROWS = (16_384, 122_880)
METHOD: Method = "kdtree"


@dataclass(frozen=True)
class Layout:
    """A table in one order, as a file with row groups of one size; clustered means by the inputs of all its models."""

    suite: Suite
    table: str
    order: Order
    row_group_rows: int
    scale: float = 1

    @cached_property
    def path(self) -> Path:
        """The file, made if it is not there: up to a minute per GB."""
        source = tpc_table(self.suite.name, self.table, scale=self.scale, row_group_rows=self.row_group_rows)
        if self.order == "generated":
            return source
        by = self.suite.columns_of(self.table)
        digest = hashlib.sha256(f"{METHOD} {by}".encode()).hexdigest()[:8]
        path = source.with_name(f"{self.table}_clustered_{digest}.parquet")
        if not path.exists():
            skipml.cluster(source, path, by, method=METHOD, row_group_rows=self.row_group_rows)
        return path

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each row group."""
        query = "SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata(?) ORDER BY 1"
        with duckdb.connect() as connection:
            sizes = np.array([n for _, n in connection.execute(query, [str(self.path)]).fetchall()], np.int64)
        return np.cumsum(sizes) - sizes

    def read(self, expressions: tuple[str, ...]) -> Floats:
        """SQL expressions of every row in the order of the file, float64 [n, k], NaN for NULL; dates are seconds."""
        with duckdb.connect() as connection:
            connection.execute("SET enable_progress_bar = false")
            return read_numbers(connection, f"'{self.path}'", expressions)


def input_sql(connection: duckdb.DuckDBPyConnection, source: str, column: str) -> str:
    """How a query hands a column to a model: dates as seconds since 1970."""
    kind = connection.execute(f"SELECT typeof({column}) FROM {source} LIMIT 1").fetchall()[0][0]
    return f"epoch({column})" if kind == "DATE" else column


def read_numbers(connection: duckdb.DuckDBPyConnection, source: str, expressions: tuple[str, ...]) -> Floats:
    """SQL expressions over a table reference as float64 [n, k], in its order, NaN for NULL; dates are seconds."""
    numbers = [f"CAST({input_sql(connection, source, text)} AS DOUBLE)" for text in expressions]
    selected = ", ".join(f"coalesce({number}, 'nan'::DOUBLE) AS x{i}" for i, number in enumerate(numbers))
    columns = connection.execute(f"SELECT {selected} FROM {source}").fetchnumpy()
    return np.stack([np.asarray(columns[f"x{i}"], np.float64) for i in range(len(expressions))], axis=1)
