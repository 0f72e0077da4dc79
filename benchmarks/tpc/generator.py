"""Generates TPC-H or TPC-DS with the DuckDB extension; run by data.py in a process of its own, under DuckDB 1.5.

usage: generator.py (tpch|tpcds) SCALE FOLDER

The extensions exist for DuckDB 1.5.5 only. Each is loaded from the file in its wheel, so that nothing is downloaded.
Prints the name of each table once its Parquet file, in generation order, is written.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import duckdb

GENERATORS = {"tpch": "dbgen", "tpcds": "dsdgen"}


def _extension(suite: str) -> Path:
    spec = importlib.util.find_spec(f"duckdb_extension_{suite}")
    if spec is None or spec.origin is None:
        raise SystemExit(f"the {suite} extension is missing: run make setup, which installs it into .duckdb15")
    return next(Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension"))


def main(suite: str, scale: str, folder: str) -> None:
    """Write every table of the suite to FOLDER/TABLE.parquet."""
    connection = duckdb.connect(str(Path(folder) / "generated.duckdb"))
    connection.execute(f"LOAD '{_extension(suite)}'")
    connection.execute(f"CALL {GENERATORS[suite]}(sf={float(scale)})")
    for (table,) in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY estimated_size").fetchall():
        connection.execute(f"COPY {table} TO '{Path(folder) / table}.parquet' (FORMAT parquet)")
        print(table, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
