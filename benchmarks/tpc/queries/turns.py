"""Queries by turns on several connections: the rows they give, and the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Rows = list[tuple[Any, ...]]


class ResultsDifferError(AssertionError):
    """A query gave other rows than plain DuckDB gives."""


def rows_of(connection: Any, sql: str) -> Rows:
    """The rows of a query, in its order."""
    rows: Rows = connection.execute(sql).fetchall()
    return rows


def check_same(found: Rows, expected: Rows, what: str) -> None:
    """Raise ResultsDifferError, with the first row that differs, unless both are the same rows in the same order."""
    if found == expected:
        return
    n = min(len(found), len(expected))
    i = next((i for i in range(n) if found[i] != expected[i]), n)
    left, right = (str(rows[i]) if i < len(rows) else "missing" for rows in (found, expected))
    raise ResultsDifferError(f"{what}: row {i} is {left}, on plain DuckDB it is {right}")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the fastest of several runs, and the least processor time of all threads: a busy machine changes that
    less.
    """

    seconds: float
    processor: float


def by_turns(
    connections: Sequence[Any], sql: str, runs: int, *, after: Callable[[], None], expected: Rows | None = None
) -> list[Times]:
    """The times of a query on each connection, of `runs` turns; `after` is called at the end of each. Raises
    ResultsDifferError where a run gives other rows than expected.
    """
    times: list[list[tuple[float, float]]] = [[] for _ in connections]
    for turn in range(runs):
        for k in range(len(connections)):
            i = (turn + k) % len(connections)
            started, worked = time.perf_counter(), time.process_time()
            rows = rows_of(connections[i], sql)
            times[i].append((time.perf_counter() - started, time.process_time() - worked))
            if expected is not None:
                check_same(rows, expected, sql)
        after()
    return [Times(*map(min, zip(*found, strict=True))) for found in times]
