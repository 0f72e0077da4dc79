"""Generates TPC-H or TPC-DS with the DuckDB extension, or prints its queries; runs under DuckDB 1.5, in a process of
its own.

usage: generator.py (tpch|tpcds) SCALE FOLDER
       generator.py (tpch|tpcds) queries

The extensions exist for DuckDB 1.5.5 only. Each is loaded from the file in its wheel, so that nothing is downloaded.
Prints the name of each table once its Parquet file, in generation order, is written; queries are printed as a JSON list
of [number, SQL].
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import duckdb

GENERATORS = {"tpch": "dbgen", "tpcds": "dsdgen"}


def _extension(suite: str) -> Path:
    spec = importlib.util.find_spec(f"duckdb_extension_{suite}")
    if spec is None or spec.origin is None:
        raise SystemExit(f"the {suite} extension is missing: run make setup, which installs it into .duckdb15")
    return next(Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension"))


def _open(suite: str, database: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(database)
    connection.execute(f"LOAD '{_extension(suite)}'")
    return connection


def queries(suite: str) -> None:
    """Print the suite's queries."""
    print(json.dumps(_open(suite, ":memory:").execute(f"SELECT query_nr, query FROM {suite}_queries()").fetchall()))


def main(suite: str, scale: str, folder: str) -> None:
    """Write every table of the suite to FOLDER/TABLE.parquet."""
    connection = _open(suite, str(Path(folder) / "generated.duckdb"))
    connection.execute(f"CALL {GENERATORS[suite]}(sf={float(scale)})")
    for (table,) in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY estimated_size").fetchall():
        connection.execute(f"COPY {table} TO '{Path(folder) / table}.parquet' (FORMAT parquet)")
        print(table, flush=True)


if __name__ == "__main__":
    queries(sys.argv[1]) if sys.argv[2:] == ["queries"] else main(*sys.argv[1:])
