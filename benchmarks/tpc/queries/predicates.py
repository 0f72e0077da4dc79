"""Queries with a model predicate: skipping must give the rows of a loaded table, and saves time where it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

import skipml
from benchmarks.scorer import ALLOWED
from benchmarks.tpc.data import tpc_tables
from benchmarks.tpc.queries.model_queries import ModelQuery
from benchmarks.tpc.queries.models import register_models
from benchmarks.tpc.queries.turns import Rows, Times, by_turns, rows_of
from benchmarks.tpc.queries.views import create_views, files, load_tables
from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.layouts import ORDERS, Order
from skipml import Report


@dataclass(frozen=True, slots=True)
class WithModel:
    """One query on tables in one order: on plain DuckDB and with skipping, the least seconds that planning takes of the
    latter, and the row groups of all scans that a model filters, in total and skipped.
    """

    query: str
    purpose: str
    order: Order
    rows: int
    plain: Times
    skipml: Times
    planning: float
    row_groups: int
    skipped: int

    @property
    def speedup(self) -> float:
        """How many times as long the query takes without skipping."""
        return self.plain.seconds / self.skipml.seconds


def measure_predicates(
    suite: Suite, queries: Sequence[ModelQuery], scale: float, runs: int, tick: Callable[[], None]
) -> list[WithModel]:
    """Run queries on one database, by turns on DuckDB's own connection and through skipml, on tables as generated and
    clustered; `tick` is called 2 * runs + 1 times per query.

    Every run must give the rows, and the order of rows, that DuckDB gives on loaded tables; raises ResultsDifferError.
    """
    expected = _on_loaded_tables(suite, queries, scale, tick)
    found = []
    with duckdb.connect(config=ALLOWED) as plain, skipml.connect(plain) as ours:
        register_models(ours, suite, scale)
        for query in queries:
            for order in ORDERS:
                create_views(plain, files(suite, query.models, order, scale))
                found.append(_measured((plain, ours), query, order, expected[query.name], runs=runs, tick=tick))
    return found


def _measured(
    connections: tuple[duckdb.DuckDBPyConnection, skipml.Connection],
    query: ModelQuery,
    order: Order,
    expected: Rows,
    *,
    runs: int,
    tick: Callable[[], None],
) -> WithModel:
    reports: list[Report] = []

    def after() -> None:
        reports.append(_report(connections[1], query))
        tick()

    plain, ours = by_turns(connections, query.sql, runs, after=after, expected=expected)
    return WithModel(
        query=query.name,
        purpose=query.purpose,
        order=order,
        rows=len(expected),
        plain=plain,
        skipml=ours,
        planning=min(report.seconds for report in reports),
        row_groups=reports[0].counters["row_groups"],
        skipped=min(report.counters["skipped"] for report in reports),
    )


def _report(connection: skipml.Connection, query: ModelQuery) -> Report:
    """What was done with the query that has just run."""
    report = connection.last_report
    if report is None or report.counters["errors"] or not report.scans:
        raise RuntimeError(f"{query.name} was not planned: {report}")
    return report


def _on_loaded_tables(
    suite: Suite, queries: Sequence[ModelQuery], scale: float, tick: Callable[[], None]
) -> dict[str, Rows]:
    """The rows of each query where no Parquet file is left to skip anything of."""
    found = {}
    with (
        TemporaryDirectory() as folder,
        duckdb.connect(str(Path(folder) / "loaded.duckdb"), config=ALLOWED) as plain,
    ):
        register_models(skipml.connect(plain), suite, scale)
        load_tables(plain, tpc_tables(suite.name, scale=scale), " ".join(query.sql for query in queries))
        for query in queries:
            found[query.name] = rows_of(plain, query.sql)
            tick()
    return found
