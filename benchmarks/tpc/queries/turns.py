"""Queries by turns on several connections: the rows they give, and the times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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


def by_turns(
    connections: Sequence[Any], sql: str, runs: int, *, tick: Callable[[], None], expected: Rows | None = None
) -> list[float]:
    """Seconds of the fastest of `runs` runs on each connection; `tick` is called after each turn. Raises
    ResultsDifferError where a run gives other rows than expected.
    """
    fastest = [float("inf")] * len(connections)
    for turn in range(runs):
        for k in range(len(connections)):
            i = (turn + k) % len(connections)
            started = time.perf_counter()
            rows = rows_of(connections[i], sql)
            fastest[i] = min(fastest[i], time.perf_counter() - started)
            if expected is not None:
                check_same(rows, expected, sql)
        tick()
    return fastest
