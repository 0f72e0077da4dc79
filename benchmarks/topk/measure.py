"""Asks for the first rows by score in every way, compares the rows, and keeps times and what was scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow.parquet as pq

import skipml
from benchmarks.scorer import connect
from benchmarks.torch_function import create_score
from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.layouts import Layout
from benchmarks.tpc.tables.metadata import with_hulls, with_score_maps
from skipml.bounds.memory import SHARED

_ROUNDING = 1e-5
"""PyTorch sums in another order: scores differ by this share of the largest of the table at most."""
_SETTINGS = "SET parquet_metadata_cache = true; SET enable_progress_bar = false"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """How many rows, in which direction, among which."""

    order: str
    k: int
    where: str

    def sql(self, case: Case, layout: Layout, *, keys: bool = False) -> str:
        """The query: the keys of the rows and their scores; with `keys` they break ties."""
        names = ", ".join(case.table.key)
        call = f"{case.spec.name}({', '.join(case.inputs)})"
        where, behind = (f" WHERE {self.where}" if self.where else ""), (f", {names}" if keys else "")
        return (
            f"SELECT {names}, {call} AS score FROM '{layout.path}'{where} "
            f"ORDER BY score {self.order}{behind} LIMIT {self.k}"
        )


@dataclass(slots=True)
class Runs:
    """Seconds of the warm runs of one way, with planning, and processor seconds of all threads."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of a warm run."""
        return median(self.seconds)


@dataclass(slots=True)
class Skipping:
    """skipml with one kind of metadata, and the same connection with skipping off, by turns."""

    metadata: str
    on: Runs = field(default_factory=Runs)
    off: Runs = field(default_factory=Runs)
    planning: list[float] = field(default_factory=list)
    verification: list[float] = field(default_factory=list)
    visited: int = 0
    """Row groups scored beforehand."""
    read: int = 0
    """Row groups that the query itself reads then."""
    rows_scored: int = 0
    """In both."""

    @property
    def ratio(self) -> float:
        """How many times as fast as computing every score."""
        return self.off.median / self.on.median

    @property
    def processor_ratio(self) -> float:
        """The same in processor time, which a busy machine changes least."""
        return median(self.off.processor) / median(self.on.processor)


@dataclass(slots=True)
class Measured:
    """One question about one layout; `pytorch` are the seconds of PyTorch in a DuckDB function, once."""

    model: str
    layout: str
    question: Question
    row_groups: int
    rows: int
    ties: int
    """How many of the rows found score as the last one does."""
    pytorch: float
    skipping: list[Skipping]


def measure(
    case: Case, layout: Layout, questions: Sequence[Question], *, runs: int, tick: Callable[[], None]
) -> list[Measured]:
    """Each question once on every connection, then `runs` times by turns with skipping and without; raises
    AssertionError where two ways give other rows.
    """
    roots: dict[str, Path | None] = {
        "footers": None,
        "hulls": with_hulls(layout),
        "score maps": with_score_maps(layout, case.model),
    }
    found = []
    with closing(_pytorch(case)) as pytorch:
        call = f"{case.spec.name}({', '.join(case.inputs)})"
        largest = pytorch.execute(f"SELECT max(abs({call})) FROM '{layout.path}'").fetchall()[0][0]
        for question in questions:
            sql = question.sql(case, layout)
            started = time.perf_counter()
            theirs = pytorch.execute(sql).fetchall()
            seconds = time.perf_counter() - started
            measured = Measured(
                case.spec.name,
                layout.order,
                question,
                len(layout.starts),
                pq.read_metadata(layout.path).num_rows,
                0,
                round(seconds, 4),
                [Skipping(metadata) for metadata in roots],
            )
            for one, root in zip(measured.skipping, roots.values(), strict=True):
                rows = _ask(case, layout, measured, one, root=root, runs=runs)
                assert _alike(rows, theirs, _ROUNDING * largest), f"PyTorch gave other scores for {sql}"
            found.append(measured)
            tick()
    return found


def _ask(case: Case, layout: Layout, measured: Measured, one: Skipping, *, root: Path | None, runs: int) -> Rows:
    """The rows with skipping off; takes the times of `one`."""
    question = measured.question
    sql, strict = question.sql(case, layout), question.sql(case, layout, keys=True)
    expected: Rows
    with connect(root=root) as con:
        con.register_model(case.spec.name, case.model)
        con.execute(_SETTINGS)
        con.skipping = False
        expected, in_order = con.execute(sql).fetchall(), con.execute(strict).fetchall()
        con.skipping = True
        assert con.execute(strict).fetchall() == in_order, f"other rows ({one.metadata}): {strict}"
        _check(con.execute(sql).fetchall(), in_order, f"{one.metadata}: {sql}")
        for turn in range(runs):
            for skipping in (True, False) if turn % 2 else (False, True):
                con.skipping = skipping
                _check(_timed(con, sql, one), in_order, f"{one.metadata}: {sql}")
                if skipping and con.last_report is not None:
                    _note(con.last_report, one, measured)
    measured.ties = sum(row[-1] == expected[-1][-1] for row in expected)
    return expected


def _timed(con: skipml.Connection, sql: str, one: Skipping) -> Rows:
    SHARED.forget()  # what earlier queries found out about the row groups
    started, worked = time.perf_counter(), time.process_time()
    rows: Rows = con.execute(sql).fetchall()
    runs = one.on if con.skipping else one.off
    runs.seconds.append(round(time.perf_counter() - started, 5))
    runs.processor.append(round(time.process_time() - worked, 5))
    if con.skipping and con.last_report is not None:
        one.planning.append(round(con.last_report.seconds, 5))
        one.verification.append(round(sum(scan.decisions.seconds for scan in con.last_report.scans), 5))
    return rows


def _note(report: skipml.Report, one: Skipping, measured: Measured) -> None:
    """What the last run scored: all rows where nothing was looked for."""
    scan = report.scans[0] if report.scans else None
    visits = scan.visits if scan is not None else None
    if scan is None or visits is None:
        one.read, one.rows_scored = measured.row_groups, measured.rows
        return
    one.visited, one.read = int(visits.visited.sum()), measured.row_groups - scan.counts["skip"]
    one.rows_scored = visits.rows_scored + measured.rows - scan.rows_skipped


def _check(rows: Rows, expected: Rows, asked: str) -> None:
    """The same scores, and the same rows but for those that score as the last one does, of which any may come."""
    assert [row[-1] for row in rows] == [row[-1] for row in expected], f"other scores: {asked}"
    last = expected[-1][-1]
    assert {row for row in rows if row[-1] != last} == {row for row in expected if row[-1] != last}, f"rows: {asked}"
    assert len(set(rows)) == len(expected), f"a row twice: {asked}"


def _alike(rows: Rows, theirs: Rows, rounding: float) -> bool:
    """Whether the scores are those of PyTorch but for rounding."""
    near = (abs(a[-1] - b[-1]) <= rounding for a, b in zip(rows, theirs, strict=True))
    return len(rows) == len(theirs) and all(near)


def _pytorch(case: Case) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    create_score(connection, case.spec.name, case.network, ["FLOAT"] * len(case.inputs))
    connection.execute(_SETTINGS)
    return connection
