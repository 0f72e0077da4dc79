"""How long one query takes outside of its scans: analysis, pruning, and a whole query over a small file.

OMP_NUM_THREADS=1 pytest benchmarks/micro/test_queries.py --benchmark-enable; `us_each` is the time per query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
import torch
from torch import nn

import skipml
from benchmarks.micro.timing import timed

ROW_GROUPS, ROW_GROUP_ROWS = 64, 2048

SIMPLE = "SELECT id FROM readings WHERE wear(heat, load) > 3.9"
JOINED = """
    WITH worn AS (SELECT machine, count(*) AS n FROM readings WHERE wear(heat, load) > 3.9 GROUP BY machine)
    SELECT m.machine, m.place, n FROM worn JOIN machines m USING (machine)
    WHERE EXISTS (SELECT * FROM readings r WHERE r.machine = m.machine AND wear(r.heat, r.load) < 0.1)
    ORDER BY n DESC, m.machine LIMIT 10"""
WITHOUT_MODEL = "SELECT id FROM readings WHERE heat > 1.99"


def network() -> nn.Sequential:
    """A 2-16-1 network whose score is about twice the first input."""
    torch.manual_seed(0)
    first, last = nn.Linear(2, 16), nn.Linear(16, 1)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.mul_(0.01)
            layer.bias.zero_()
            layer.weight[0, 0] = 2**0.5
    return nn.Sequential(first, nn.ReLU(), last)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[skipml.Connection]:
    """A file of 64 row groups in which `heat` rises from 0 to 2, seen through a view, and a small table."""
    path = tmp_path_factory.mktemp("queries") / "readings.parquet"
    n = ROW_GROUPS * ROW_GROUP_ROWS
    with skipml.connect(config={"threads": 1}) as connection:
        connection.execute(
            f"COPY (SELECT i AS id, i % 7 AS machine, 2 * i / {n} AS heat, hash(i) % 100 / 100 AS load "
            f"FROM range({n}) t(i)) TO '{path}' (ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
        connection.execute(f"CREATE VIEW readings AS FROM '{path}'")
        connection.execute("CREATE TABLE machines AS SELECT i AS machine, 'hall ' || i AS place FROM range(7) t(i)")
        connection.register_model("wear", skipml.Model.from_torch(network(), columns=["heat", "load"]))
        yield connection


@pytest.mark.parametrize("sql", [SIMPLE, JOINED], ids=["simple", "joined"])
def test_plan(benchmark: Any, con: skipml.Connection, sql: str) -> None:
    """Analysis, footers, verification and rewriting, without running the query."""
    assert con.explain(sql).counters["skipped"] > ROW_GROUPS // 2
    timed(benchmark, 1, con.explain, sql)


@pytest.mark.parametrize("skipping", [True, False], ids=["skipping", "skipping off"])
def test_query(benchmark: Any, con: skipml.Connection, skipping: bool) -> None:
    """A whole query, of which two of the 64 row groups hold a match."""
    con.skipping = skipping
    timed(benchmark, 1, lambda: con.execute(SIMPLE).fetchall())
    con.skipping = True


def test_query_without_model(benchmark: Any, con: skipml.Connection) -> None:
    """A query that calls no model, through skipml."""
    timed(benchmark, 1, lambda: con.execute(WITHOUT_MODEL).fetchall())


def test_query_without_skipml(benchmark: Any, con: skipml.Connection) -> None:
    """The same query on DuckDB's own connection."""
    plain: duckdb.DuckDBPyConnection = con._plain
    timed(benchmark, 1, lambda: plain.execute(WITHOUT_MODEL).fetchall())
