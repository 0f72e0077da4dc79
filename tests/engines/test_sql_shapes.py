"""Every shape of query gives the same rows with skipping and without, and skips where it should."""

from __future__ import annotations

import re

import pytest

import skipml
from tests.engines.conftest import Lake
from tests.engines.shapes import SHAPES, Shape
from tests.oracle import DUCKDB_2, ask, both_ways


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.sql[:90])
def test_the_rows_are_the_same_and_row_groups_are_skipped(con: skipml.Connection, lake: Lake, shape: Shape) -> None:
    answers = ask(con, lake.sql(shape.sql), shape.params)
    assert answers.skipping == answers.plain
    assert "Error" not in "".join(answers.plain[:1]), "the shape itself must be a query that DuckDB answers"
    if shape.skips == 0:
        assert answers.skipped == 0, "nothing may be skipped here"
    elif shape.skips is not None:
        assert answers.skipped >= shape.skips, str(answers.report)
    if shape.skips:
        assert answers.report is not None
        assert not answers.report.counters["errors"], str(answers.report)


@pytest.mark.parametrize(
    "shape", [s for s in SHAPES if s.params is None and "random" not in s.sql], ids=lambda shape: shape.sql[:90]
)
def test_relations_give_the_same_rows(con: skipml.Connection, lake: Lake, shape: Shape) -> None:
    def fetch() -> object:
        relation = con.sql(lake.sql(shape.sql))
        assert relation is not None
        return relation.fetchall()

    answers = both_ways(con, fetch)
    assert answers.skipping == answers.plain
    if shape.skips is not None:
        assert (answers.skipped > 0) == (shape.skips > 0)


# DuckDB itself leaves out the files of a partition that does not pass.
_COUNTED = [shape for shape in SHAPES if shape.skips and shape.params is None and "minus(p, 0)" not in shape.sql]


@pytest.mark.skipif(not DUCKDB_2, reason="DuckDB 1.5 does not count row groups")
@pytest.mark.parametrize("shape", _COUNTED, ids=lambda shape: shape.sql[:90])
def test_duckdb_itself_counts_fewer_row_groups(con: skipml.Connection, lake: Lake, shape: Shape) -> None:
    plan = con.execute("EXPLAIN ANALYZE " + lake.sql(shape.sql)).fetchall()[0][1]
    scanned = sum(int(k) for k in re.findall(r"Row Groups Scanned: (\d+) /", plan))
    report = con.last_report
    assert report is not None
    con.skipping = False
    whole = con.execute("EXPLAIN ANALYZE " + lake.sql(shape.sql)).fetchall()[0][1]
    con.skipping = True
    assert scanned + report.counters["skipped"] <= sum(int(k) for k in re.findall(r"Scanned: \d+ / (\d+)", whole))
