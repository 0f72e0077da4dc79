"""Standard queries, which call no model: through skipml they must give DuckDB's rows in DuckDB's time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

import skipml
from benchmarks.scorer import ALLOWED
from benchmarks.tpc.data import tpc_tables
from benchmarks.tpc.queries.models import register_models
from benchmarks.tpc.queries.turns import Times, by_turns, check_same, rows_of
from benchmarks.tpc.queries.views import create_views
from benchmarks.tpc.suite import Suite


@dataclass(frozen=True, slots=True)
class Standard:
    """One standard query, plain and through skipml; whether skipml analysed it, because a word of it is the name of a
    model; and the seconds that analysis takes in a database of which a view calls a model, so that any query might.
    """

    query: str
    rows: int
    plain: Times
    skipml: Times
    analysed: bool
    analysis: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times as long the query takes through skipml."""
        return self.skipml.seconds / self.plain.seconds

    @property
    def processor_ratio(self) -> float:
        """How many times as much processor time the query takes through skipml."""
        return self.skipml.processor / self.plain.processor


def measure_standard(
    suite: Suite, queries: Mapping[str, str], scale: float, runs: int, tick: Callable[[], None]
) -> list[Standard]:
    """Run queries by name on plain DuckDB and, in another database, through skipml with the suite's models registered;
    `tick` is called runs + 1 times per query.

    Raises ResultsDifferError where skipml gives another list of rows. Rows are compared on one thread: there DuckDB
    adds floats, and breaks the ties that ORDER BY leaves, in one order.
    """
    with duckdb.connect() as plain, skipml.connect(config=ALLOWED) as ours:
        register_models(ours, suite, scale)
        for connection in (plain, ours):
            create_views(connection, tpc_tables(suite.name, scale=scale))
            connection.execute("SET threads = 1")
        rows = {name: _compared(plain, ours, name, sql, tick) for name, sql in queries.items()}
        for connection in (plain, ours):
            connection.execute("RESET threads")
        found = [_timed((plain, ours), name, sql, rows[name], runs=runs, tick=tick) for name, sql in queries.items()]
        _create_view_with_model(ours, suite)
        return [replace(x, analysis=min(ours.explain(queries[x.query]).seconds for _ in range(2))) for x in found]


def _timed(
    connections: tuple[duckdb.DuckDBPyConnection, skipml.Connection],
    name: str,
    sql: str,
    rows: int,
    *,
    runs: int,
    tick: Callable[[], None],
) -> Standard:
    before = connections[1].last_report
    plain, ours = by_turns(connections, sql, runs, after=tick)
    return Standard(name, rows, plain, ours, analysed=connections[1].last_report is not before)


def _compared(plain: Any, ours: Any, name: str, sql: str, tick: Callable[[], None]) -> int:
    """The number of rows, which are the same on both connections."""
    expected = rows_of(plain, sql)
    check_same(rows_of(ours, sql), expected, name)
    tick()
    return len(expected)


def _create_view_with_model(connection: Any, suite: Suite) -> None:
    spec = next(spec for spec in suite.models if spec.name == suite.representative)
    call = f"{spec.name}({', '.join(spec.columns)})"
    connection.execute(f"CREATE VIEW scored AS SELECT *, {call} AS score FROM {spec.table}")
