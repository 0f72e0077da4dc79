"""Small tables in place of those that the benchmarks of whole tables generate."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from benchmarks.tpc.tables import layouts, metadata, training


def use_small_tables(monkeypatch: pytest.MonkeyPatch, folder: Path, select: str) -> None:
    """Every generated table holds the rows of one query, and benchmarks keep what they make in a folder."""

    def table(suite: str, name: str, *, scale: float, row_group_rows: int) -> Path:
        path = folder / f"{name}-{row_group_rows}.parquet"
        if not path.exists():
            write(select, path)
        return path

    monkeypatch.setattr(layouts, "tpc_table", table)
    monkeypatch.setattr(training, "DATA", folder)
    monkeypatch.setattr(metadata, "DATA", folder)


def write(select: str, path: Path) -> None:
    """Write the rows of a query to a file with 2,048 rows per group, in its order."""
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
