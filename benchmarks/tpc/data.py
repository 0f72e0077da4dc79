"""TPC-H and TPC-DS tables as Parquet files in generation order, made once and kept under .data/.

usage: python -m benchmarks.tpc.data tpch:lineitem tpcds:store_sales [--scale 1] [--row-group-rows 10000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / ".data"
OVERLAY = ROOT / ".duckdb15"


def tpc_table(suite: str, table: str, *, scale: float = 1, row_group_rows: int | None = None) -> Path:
    """The Parquet file of a table, made if it is not there: suite "tpch" or "tpcds", scale in GB, rows per row group.

    Rows are in generation order. Without row_group_rows the row groups have DuckDB's default size, with it that many
    rows rounded up to a multiple of 2,048. The first call for a suite and scale takes half a minute per GB. Raises
    FileNotFoundError for a table that the suite does not have, or while make setup has not run.
    """
    base = _generated(suite, scale)
    source = base / f"{table}.parquet"
    if not source.exists():
        tables = sorted(path.stem for path in base.glob("*.parquet"))
        raise FileNotFoundError(f"{suite} has no table {table}; it has {', '.join(tables)}")
    if row_group_rows is None:
        return source
    target = base / f"row_groups_{row_group_rows}" / f"{table}.parquet"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        write_parquet(f"SELECT * FROM '{source}'", target, row_group_rows)
    return target


def tpc_tables(suite: str, *, scale: float = 1) -> dict[str, Path]:
    """Every table of a suite by name, as tpc_table makes it without row_group_rows."""
    return {path.stem: path for path in sorted(_generated(suite, scale).glob("*.parquet"))}


def write_parquet(query: str, target: Path, row_group_rows: int) -> None:
    """Write a query's rows, in its order, as one Parquet file with row groups of this size, rounded up to 2,048s."""
    partial = target.with_suffix(".partial")
    with duckdb.connect() as connection:
        connection.execute(
            "SET enable_progress_bar = false; SET threads = 1"
        )  # row groups of the exact size: threads hand over batches of their own
        connection.execute(f"COPY ({query}) TO '{partial}' (FORMAT parquet, ROW_GROUP_SIZE {row_group_rows})")
    partial.replace(target)


def _generated(suite: str, scale: float) -> Path:
    """The folder of all tables of a suite, generated if it is not there."""
    folder = DATA / f"{suite}-sf{scale:g}"
    if folder.exists():
        return folder
    environment = overlay_environment()
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).with_name("generator.py")), suite, str(scale), str(partial)]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns) as progress, _run(command, environment) as process:
        task = progress.add_task(f"{suite} SF{scale:g}: generating", total=None)
        for line in process.stdout or ():
            progress.update(task, description=f"{suite} SF{scale:g}: wrote {line.strip()}")
    if process.returncode:
        raise RuntimeError(f"generating {suite} failed with status {process.returncode}; its output is above")
    (partial / "generated.duckdb").unlink()
    partial.rename(folder)
    return folder


def overlay_environment() -> dict[str, str]:
    """The environment of a process that runs generator.py; raises FileNotFoundError while make setup has not run."""
    if not OVERLAY.exists():
        raise FileNotFoundError(f"{OVERLAY} is missing; run make setup, which installs the TPC extensions there")
    return {**os.environ, "PYTHONPATH": str(OVERLAY)}


def _run(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def main() -> None:
    """Make the tables named on the command line and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tables", nargs="+", metavar="SUITE:TABLE", help="for example tpch:lineitem")
    parser.add_argument("--scale", type=float, default=1, help="scale factor in GB")
    parser.add_argument("--row-group-rows", type=int, help="rows per row group, in 2048s")
    options = parser.parse_args()
    for name in options.tables:
        suite, _, table = name.partition(":")
        print(tpc_table(suite, table, scale=options.scale, row_group_rows=options.row_group_rows))


if __name__ == "__main__":
    main()
