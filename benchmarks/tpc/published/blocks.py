"""The rows of the published protocol: the first of a table to train on, the next in row groups of 1,000 to skip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.tpc.data import DATA, tpc_table
from benchmarks.tpc.published.workload import BLOCK_ROWS, EVALUATED_ROWS, TRAINING_ROWS, Function

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Inputs float64 [n, d] and targets [n] of rows in generation order; NaN is NULL."""

    inputs: Floats
    targets: Floats

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows [n] have all inputs and a target."""
        return np.asarray(np.isfinite(self.inputs).all(axis=1) & np.isfinite(self.targets))


def read_rows(function: Function) -> tuple[Rows, Rows]:
    """The rows to train on, and those after them that filters are evaluated on."""
    source = tpc_table(function.suite, function.table)
    names = [f"f{i}" for i in range(len(function.features))]
    texts = [f"{text} AS {name}" for text, name in zip(function.features, names, strict=True)]
    limit = TRAINING_ROWS + EVALUATED_ROWS
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT {', '.join(texts)}, {function.target} AS t FROM '{source}' LIMIT {limit}")
        table = found.to_arrow_table()
    columns = [table.column(name).cast("double").fill_null(np.nan).to_numpy() for name in (*names, "t")]
    inputs, targets = np.stack(columns[:-1], axis=1), columns[-1]
    first = slice(None, TRAINING_ROWS), slice(TRAINING_ROWS, None)
    return Rows(inputs[first[0]], targets[first[0]]), Rows(inputs[first[1]], targets[first[1]])


def evaluated_file(function: Function) -> Path:
    """The evaluated rows as Parquet, 1,000 in each row group, the columns in the types they have in the table."""
    path = DATA / "published" / f"{function.suite}-{function.name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tpc_table(function.suite, function.table)
        columns = ", ".join(f"{text} AS {name}" for name, text in function.columns.items())
        with duckdb.connect() as connection:
            query = f"SELECT {columns} FROM '{source}' LIMIT {EVALUATED_ROWS} OFFSET {TRAINING_ROWS}"
            rows = connection.sql(query).to_arrow_table()
        partial = path.with_suffix(".partial")
        # DuckDB's COPY rounds the size up to a multiple of 2,048. No column here is a float, so no NaN count is missed.
        pq.write_table(rows, partial, row_group_size=BLOCK_ROWS)
        partial.replace(path)
    return path
