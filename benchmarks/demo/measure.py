"""Runs the systems by turns on one table and keeps every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from benchmarks.demo.network import COLUMNS
from benchmarks.demo.systems import FUNCTION, Rows, System, row_groups, same_rows
from skipml import Connection, Report

_CALL = f"{FUNCTION}({', '.join(COLUMNS)})"


@dataclass(slots=True)
class Runs:
    """What one system did with the query: seconds of each warm run, and of the first.

    The first run opens the connection and registers the model too, and nothing of the table's footer is known to it.
    """

    system: str
    first: float = 0.0
    warm: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """Of each warm run, the seconds of processor time of all threads: a busy machine changes these least."""
    planning: list[float] = field(default_factory=list)
    """Of each warm run, the part that skipml spent before DuckDB read a row."""
    verification: list[float] = field(default_factory=list)
    row_groups: tuple[int, int] = (0, 0)
    """Scanned and in total, by DuckDB's count."""

    @property
    def median(self) -> float:
        """Seconds of a warm run."""
        return median(self.warm)


@dataclass(frozen=True, slots=True)
class Measured:
    """The systems on one layout of the table, the baseline first, and what they agree on."""

    layout: str
    query: str
    runs: tuple[Runs, ...]
    rows: int
    total: str
    report: str

    @property
    def speedup(self) -> float:
        """How many times faster skipml is than the baseline."""
        return self.runs[0].median / self.runs[-1].median


def rows_sql(table: Path, limit: float) -> str:
    """The query that is timed."""
    return f"SELECT l_orderkey, l_linenumber, l_extendedprice FROM '{table}' WHERE {_CALL} > {limit}"


def sums_sql(table: Path, limit: float) -> str:
    """The query that is compared only."""
    return f"SELECT count(*), sum(l_extendedprice * (1 - l_discount)) FROM '{table}' WHERE {_CALL} > {limit}"


def measure(
    layout: str, table: Path, systems: Sequence[System], limit: float, *, n_warm: int, tick: Callable[[], None]
) -> Measured:
    """Run the query once on a new connection of each system, then n_warm times by turns; `tick` is called after each.

    Raises AssertionError where two systems differ in a row.
    """
    sql = rows_sql(table, limit)
    runs = tuple(Runs(system.name) for system in systems)
    with ExitStack() as stack:
        connections, found = [], []
        for run, system in zip(runs, systems, strict=True):
            started = time.perf_counter()
            connections.append(stack.enter_context(system.open()))
            found.append(connections[-1].execute(sql).fetchall())
            run.first = time.perf_counter() - started
            tick()
        for turn in range(n_warm):
            for i in (*range(turn % len(runs), len(runs)), *range(turn % len(runs))):
                rows = _timed(connections[i], sql, runs[i])
                assert same_rows(rows, found[i]), f"{runs[i].system} gave other rows when it ran again ({layout})"
                tick()
        for run, connection, rows in zip(runs, connections, found, strict=True):
            assert same_rows(rows, found[0]), f"{run.system} and {runs[0].system} differ in a row ({layout})"
            counted, total = row_groups(connection, sql), pq.read_metadata(table).num_row_groups
            left = total - _skipped(connection)
            run.row_groups = (left if counted is None else counted), total
            assert run.row_groups[0] <= left, f"{run.system} says it skipped more than was ({layout})"
        sums = [connection.execute(sums_sql(table, limit)).fetchall() for connection in connections]
        assert all(found == sums[0] for found in sums), f"counts or sums differ: {sums} ({layout})"
        report = str(connections[-1].explain(sql))
    return Measured(layout, rows_sql(Path(table.name), limit), runs, len(found[0]), str(sums[0][0][1]), report)


def _timed(connection: Any, sql: str, run: Runs) -> Rows:
    """The rows of a warm run, whose times are added to `run`."""
    started, worked = time.perf_counter(), time.process_time()
    rows: Rows = connection.execute(sql).fetchall()
    run.warm.append(time.perf_counter() - started)
    run.processor.append(time.process_time() - worked)
    if (report := _report(connection)) is not None:
        run.planning.append(report.seconds)
        run.verification.append(sum(scan.decisions.seconds for scan in report.scans))
    return rows


def _skipped(connection: Any) -> int:
    """The row groups that the connection says it skipped in its last query."""
    report = _report(connection)
    return report.counters["skipped"] if report is not None else 0


def _report(connection: Any) -> Report | None:
    return connection.last_report if isinstance(connection, Connection) and connection.skipping else None
