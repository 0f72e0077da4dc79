"""The tables of a query: views over Parquet files as generated or clustered, or tables that DuckDB has loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tpc.data import tpc_tables
from benchmarks.tpc.suite import ModelSpec, Suite
from benchmarks.tpc.tables.layouts import Layout, Order

ROW_GROUP_ROWS = 16_384
"""Of the tables that a model filters; the others have DuckDB's default."""


def files(suite: Suite, models: Sequence[ModelSpec], order: Order, scale: float) -> Mapping[str, Path]:
    """The Parquet file of each table of a suite, those of the models in this order; made where they are not there."""
    filtered = {spec.table: Layout(suite, spec.table, order, ROW_GROUP_ROWS, scale).path for spec in models}
    return {**tpc_tables(suite.name, scale=scale), **filtered}


def create_views(connection: Any, tables: Mapping[str, Path]) -> None:
    """Let each table be a view over its file."""
    for name, path in tables.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM '{path}'")


def load_tables(connection: Any, tables: Mapping[str, Path], text: str) -> None:
    """Load those tables whose names a text has."""
    for name, path in tables.items():
        if name in text:
            connection.execute(f"CREATE TABLE {name} AS FROM '{path}'")
