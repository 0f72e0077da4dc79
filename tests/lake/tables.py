"""Small lakes whose rows are known, and what a filter on them has to give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from skipml.network import Affine, LeakyRelu, Network

LONG_AGO = 1_600_000_000


def score(scale: float = 1.0) -> skipml.Model:
    """relu(a + b) * scale - relu(-(a + b)) * scale: the sum, by a network over the columns a and b."""
    both = np.array([[1.0, 1.0], [-1.0, -1.0]], np.float32)
    out = np.array([[scale, -scale]], np.float32)
    zeros = np.zeros(2, np.float32)
    ops = (Affine(both, zeros), LeakyRelu(0.0), Affine(out, zeros[:1]))
    return skipml.Model(Network(2, 1, np.dtype(np.float32), ops), ("a", "b"))


def write(path: Path, rows: pa.Table, row_group_rows: int = 10, seconds: int = LONG_AGO) -> str:
    """Write rows as a file that was last written at a time, long ago by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=row_group_rows)
    settle(path, seconds)
    return str(path)


def settle(path: Path, seconds: int = LONG_AGO) -> None:
    """Let a file have been written at a time."""
    os.utime(path, (seconds, seconds))


def rows(start: int, n: int = 40) -> pa.Table:
    """`a` from a start on, `b` small, `id` unique."""
    number = np.arange(start, start + n)
    return pa.table({"id": number, "a": number, "b": number % 7})


def lake(folder: Path, n_files: int = 8) -> list[str]:
    """Files whose values follow each other, four row groups in each."""
    return [write(folder / f"{i:02d}.parquet", rows(1000 * i)) for i in range(n_files)]


def ids(plan: skipml.Plan) -> list[int]:
    """The rows that a plan gives."""
    found: list[int] = plan.scan(["id"]).read_all().column("id").to_pylist()
    return sorted(found)


def brute(files: Sequence[str], model: skipml.Model, above: float) -> list[int]:
    """The rows whose score passes, by scoring them all; DuckDB's NaN is above everything."""
    found: list[int] = []
    for file in files:
        table = pq.read_table(file)
        a, b = (np.array(table.column(name).to_pylist(), float) for name in ("a", "b"))  # NULL is NaN there
        null = np.array(table.column("a").is_null()) | np.array(table.column("b").is_null())
        scores = np.float32(a) + np.float32(b)
        passed = ~null & ((scores > above) | np.isnan(scores))
        found += np.array(table.column("id"))[passed].tolist()
    return sorted(found)
