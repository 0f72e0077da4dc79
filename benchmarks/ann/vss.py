"""DuckDB's own index, the extension vss, which there is for DuckDB 1.5 alone: measured in a process of its own.

Needs `make setup`, which puts DuckDB 1.5 into .duckdb15, and
pip install --no-deps --target .data/ann/vss duckdb-extension-vss==1.5.5

usage: python -m benchmarks.ann.vss PARQUET DATABASE QUERIES TRUTH, with .duckdb15 in PYTHONPATH
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from benchmarks.ann.data import FOLDER, Matrix
from benchmarks.ann.settings import Measured, Setting, ask_sql, measured_of

_ROOT = Path(__file__).parents[2]
_DUCKDB, _EXTENSION = _ROOT / ".duckdb15", FOLDER / "vss"


class NotMeasuredError(Exception):
    """What is needed is not there; the text says what."""


def measure(parquet: Path, database: Path, queries: Matrix, truth: NDArray[np.int64]) -> list[Measured]:
    """Every setting, over a table in a database with the columns `id` and `vector` of a Parquet file; raises
    NotMeasuredError.
    """
    if not (_DUCKDB / "duckdb").is_dir():
        raise NotMeasuredError("DuckDB 1.5 is not in .duckdb15: make setup")
    if not list(_EXTENSION.rglob("vss.duckdb_extension")):
        raise NotMeasuredError("pip install --no-deps --target .data/ann/vss duckdb-extension-vss==1.5.5")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("queries.npy", "truth.npy")]
        np.save(paths[0], queries)
        np.save(paths[1], truth)
        command = [sys.executable, "-m", "benchmarks.ann.vss", *map(str, (parquet, database, *paths))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_DUCKDB), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotMeasuredError(f"vss ended with {done.returncode}; run {' '.join(command[1:4])} by hand")
    return [Measured(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def _settings(parquet: str, database: str, size: int, k: int) -> Iterator[Setting]:
    connection = duckdb.connect(database, config={"threads": 1})
    connection.execute(f"LOAD '{next(_EXTENSION.rglob('vss.duckdb_extension'))}'")
    connection.execute("SET hnsw_enable_experimental_persistence = true")
    if not connection.execute("SELECT count(*) FROM duckdb_indexes()").fetchall()[0][0]:
        connection.execute(
            f"CREATE OR REPLACE TABLE rows AS SELECT id, vector::FLOAT[{size}] AS vector FROM '{parquet}'"
        )
        connection.execute(
            "CREATE INDEX near ON rows USING HNSW (vector) WITH (metric = 'l2sq', M = 16, ef_construction = 128)"
        )
    for effort in (16, 64, 128, 256):
        ask = partial(ask_sql, connection, "rows", k, f"SET hnsw_ef_search = {effort}")
        yield Setting(f"DuckDB {duckdb.__version__} vss", str(effort), ask, "RAM")


def main() -> None:
    """Measure and print as JSON."""
    parquet, database, *paths = sys.argv[1:]
    queries, truth = (np.load(path) for path in paths)
    settings = _settings(parquet, database, queries.shape[1], truth.shape[1])
    print(json.dumps([asdict(measured_of(setting, queries, truth)) for setting in settings]))


if __name__ == "__main__":
    main()
