"""The ways to run a filter on a model's score, each as a session that runs queries and takes their time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import onnxruntime
import pyarrow as pa
from torch import nn

import skipml
from benchmarks.scorer import connect
from benchmarks.torch_function import create_classes, create_score
from benchmarks.tpc.networks import load
from benchmarks.tpc.suite import ModelSpec, TableSpec
from benchmarks.tpc.tables.filters import Filter
from benchmarks.tpc.tables.inlined import inlined_query
from benchmarks.tpc.tables.rows import Rows
from skipml.bounds.memory import SHARED
from skipml.report import Report

_BATCH_ROWS = 131_072


@dataclass(frozen=True, slots=True)
class Query:
    """The rows of a file that pass a filter: key and value of each. `row_groups` are those to read, None for all."""

    file: Path
    table: TableSpec
    spec: ModelSpec
    inputs: tuple[str, ...]
    """The inputs of the model in SQL."""
    filter: Filter
    row_groups: tuple[int, ...] | None = None

    @property
    def selected(self) -> str:
        """The columns that are asked for."""
        return ", ".join((*self.table.key, self.table.value))

    @property
    def sql(self) -> str:
        """The query with a call of the model."""
        condition = self.filter.condition(f"{self.spec.name}({', '.join(self.inputs)})")
        if self.row_groups is not None:
            condition = f"file_row_group_number IN ({', '.join(map(str, self.row_groups))}) AND {condition}"
        return f"SELECT {self.selected} FROM '{self.file}' WHERE {condition}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows, and what they took; the report where skipml ran the query."""

    rows: Rows
    seconds: float
    report: Report | None = None


class Session(Protocol):
    """An open connection on which the model can be called."""

    def run(self, query: Query) -> Answer:
        """Run a query and take the time until its rows are an Arrow table."""

    def close(self) -> None:
        """Close the connection."""


class SqlSession:
    """A DuckDB connection, skipml's or a plain one, and the SQL that it is given for a query."""

    def __init__(self, connection: Any, sql: Callable[[Query], str] = lambda query: query.sql) -> None:
        self._connection, self._sql = connection, sql
        # Else each query parses the footer, 10 ms for lineitem.
        connection.execute("SET parquet_metadata_cache = true; SET enable_progress_bar = false")

    def run(self, query: Query) -> Answer:
        """Run the SQL."""
        sql = self._sql(query)
        SHARED.forget()  # what earlier filters on the model, or this one, found out about the blocks
        started = time.perf_counter()
        table = _arrow(self._connection.execute(sql))
        seconds = time.perf_counter() - started
        report = self._connection.last_report if isinstance(self._connection, skipml.Connection) else None
        return Answer(Rows.of(table), seconds, report)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _arrow(result: Any) -> pa.Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a relation copies less, but binds the query once more
        table: pa.Table = result.to_arrow_table()
    return table


class PulledSession:
    """onnxruntime on the batches that DuckDB hands out, filtered in Arrow; for models with one output."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # DuckDB's threads read the next batches meanwhile
        self._model = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._connection = duckdb.connect()

    def run(self, query: Query) -> Answer:
        """Pull the inputs and the columns that are asked for, score each batch, keep the rows that pass."""
        inputs = ", ".join(f"{text}::FLOAT AS input{i}" for i, text in enumerate(query.inputs))
        started = time.perf_counter()
        relation = self._connection.sql(f"SELECT {inputs}, {query.selected} FROM '{query.file}'")
        reader = relation.to_arrow_reader(_BATCH_ROWS)
        d = len(query.inputs)
        wanted = pa.schema(list(reader.schema)[d:])
        kept = [self._passing(batch, d, query.filter) for batch in reader]
        table = pa.Table.from_batches([batch for batch in kept if batch.num_rows], wanted)
        return Answer(Rows.of(table), time.perf_counter() - started)

    def _passing(self, batch: pa.RecordBatch, d: int, wanted: Filter) -> pa.RecordBatch:
        rows = np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns[:d]], axis=1)
        scores = self._model.run(None, {"rows": rows})[0][:, 0]
        passed = (scores > wanted.low) & (scores < wanted.high)  # a NULL is NaN here, which does not pass
        return batch.select(range(d, batch.num_columns)).filter(pa.array(passed))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def pytorch_udf(network: nn.Sequential, spec: ModelSpec, inputs: Sequence[str]) -> SqlSession:
    """PyTorch in an Arrow function of DuckDB: the score, or the list of all outputs and the class."""
    connection = duckdb.connect()
    types = ["DOUBLE" if text.startswith("epoch(") else "FLOAT" for text in inputs]
    create = create_classes if spec.classes else create_score
    create(connection, spec.name, network, types)
    return SqlSession(connection)


def skipml_session(
    model: skipml.Model, spec: ModelSpec, *, root: Path | None = None, skipping: bool = True, extension: bool = True
) -> SqlSession:
    """skipml, which finds metadata below `root` if one is given, and scores with its extension where it is built."""
    connection = connect(extension=extension, root=root)
    connection.register_model(spec.name, model)
    connection.skipping = skipping
    return SqlSession(connection)


def inlined_session(model: Path) -> SqlSession:
    """The model as SQL arithmetic."""
    network = load(model)
    return SqlSession(
        duckdb.connect(), lambda query: inlined_query(network, query.inputs, query.selected, query.file, query.filter)
    )


def column_session(file: Path) -> SqlSession:
    """A file that holds the table with a column of the model's scores, under ordinary zone maps."""
    return SqlSession(
        duckdb.connect(),
        lambda query: f"SELECT {query.selected} FROM '{file}' WHERE {query.filter.condition('score')}",
    )
