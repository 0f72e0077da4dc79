"""One way to ask a system for nearest rows, and what it reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ann.data import Matrix

QUERIES, SLOW_QUERIES = 200, 10
_RUNS = 2

Search = Callable[[Matrix], NDArray[np.int64]]
"""A query [d] -> the ids of the rows found [<= k]."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to ask a system; `bytes_read` tells what the search before read, where that is known."""

    system: str
    setting: str
    search: Search
    where: str
    queries: int = QUERIES
    bytes_read: Callable[[Matrix], int] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a setting reached: mean recall@k, microseconds of a query (median and 95 %), bytes read on average."""

    system: str
    setting: str
    where: str
    recall: float
    median: float
    p95: float
    bytes_read: float | None


def measured_of(setting: Setting, queries: Matrix, truth: NDArray[np.int64]) -> Measured:
    """Every query once to warm up, then some rounds of which the best time of each query counts."""
    queries, truth = queries[: setting.queries], truth[: setting.queries]
    found = [setting.search(query) for query in queries]
    seconds = np.empty((_RUNS, len(queries)))
    read = np.zeros(len(queries))
    for run in range(_RUNS):
        for row, query in enumerate(queries):
            started = time.perf_counter()
            setting.search(query)
            seconds[run, row] = time.perf_counter() - started
            read[row] = setting.bytes_read(query) if setting.bytes_read is not None else 0
    best = seconds.min(0) * 1e6
    recall = np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)])
    bytes_read = float(read.mean()) if setting.bytes_read is not None else None
    p95 = float(np.percentile(best, 95))
    return Measured(
        setting.system, setting.setting, setting.where, float(recall), float(np.median(best)), p95, bytes_read
    )


def ask_sql(connection: Any, source: str, k: int, before: str, query: Matrix) -> NDArray[np.int64]:
    """The query goes in as a string, which DuckDB binds far faster than a list of numbers."""
    if before:
        connection.execute(before)
    text, size = str(query.tolist()), len(query)
    sql = f"SELECT id FROM {source} ORDER BY array_distance(vector::FLOAT[{size}], '{text}'::FLOAT[{size}]) LIMIT {k}"
    return np.asarray(connection.execute(sql).fetchnumpy()["id"])
