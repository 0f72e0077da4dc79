"""Statements around a query: what they store is what they store without skipping."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skipml
from skipml.engines.pulling import BATCHES
from skipml.engines.sql import Parser
from skipml.engines.statements import embedded_query
from tests.engines.conftest import Lake
from tests.oracle import both_ways, rows_of

_STORED = [
    "CREATE OR REPLACE TABLE stored AS SELECT id FROM {one} WHERE minus(a, b) > 370",
    "CREATE OR REPLACE TEMP TABLE stored AS FROM {one} SELECT id WHERE minus(a, b) > 370",
    "CREATE OR REPLACE TABLE stored AS WITH c AS (FROM {one}) SELECT id FROM c WHERE minus(a, b) > 370",
    "create or replace table stored as select id from {one} where minus(a, b) > 370;",
    "CREATE OR REPLACE TABLE stored (id INTEGER); INSERT INTO stored SELECT id FROM {one} WHERE minus(a, b) > 370",
    "CREATE OR REPLACE TABLE stored (id INTEGER); INSERT INTO stored (id) FROM {one} SELECT id WHERE minus(a, b) > 370",
    "CREATE OR REPLACE TABLE stored (id INTEGER); INSERT INTO stored BY NAME SELECT id FROM {one} "
    "WHERE minus(a, b) > 370",
    "CREATE OR REPLACE TABLE stored (id INTEGER); INSERT INTO stored WITH c AS (FROM {one}) "
    "SELECT id FROM c WHERE minus(a, b) > 370",
]


@pytest.mark.parametrize("sql", _STORED)
def test_what_is_stored_is_the_same(con: skipml.Connection, lake: Lake, sql: str) -> None:
    def store() -> object:
        con.execute("DROP TABLE IF EXISTS stored")
        con.execute(lake.sql(sql))
        report = con.last_report
        stored = rows_of(con, "FROM stored")
        con.last_report = report
        return stored

    answers = both_ways(con, store)
    assert answers.plain == ["(386,)", "(387,)", "(388,)"]
    assert answers.skipping == answers.plain
    assert answers.skipped == 7
    con.execute("DROP TABLE stored")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE OR REPLACE TABLE stored AS (SELECT id FROM {one} WHERE minus(a, b) > 370)",
        "CREATE OR REPLACE TABLE stored AS SELECT id FROM {one} WHERE minus(a, b) > (370) OR id = 5 WITH DATA",
        "CREATE OR REPLACE TABLE stored (id INTEGER PRIMARY KEY); "
        "INSERT INTO stored SELECT id FROM {one} WHERE minus(a, b) > (370) OR id = 5 ON CONFLICT DO NOTHING",
        "CREATE OR REPLACE TABLE stored (id INTEGER PRIMARY KEY); "
        "INSERT OR IGNORE INTO stored SELECT id FROM {one} WHERE minus(a, b) > 370",
        "CREATE OR REPLACE TABLE stored (id INTEGER); "
        "INSERT INTO stored SELECT id FROM {one} WHERE minus(a, b) > (370) OR id = 5 RETURNING id",
        "CREATE OR REPLACE TABLE stored (id VARCHAR); "
        "INSERT INTO stored VALUES ('SELECT id FROM \"one.parquet\" WHERE minus(a, b) > 370')",
        "CREATE OR REPLACE TABLE stored AS FROM small; DELETE FROM stored "
        "WHERE id IN (SELECT id FROM {one} WHERE minus(a, b) > 370)",
        "CREATE OR REPLACE TABLE stored AS FROM small; UPDATE stored SET z = 100 "
        "WHERE id IN (SELECT id FROM {one} WHERE minus(a, b) > 370)",
    ],
)
def test_whatever_is_understood_of_a_statement_the_result_is_the_same(
    con: skipml.Connection, lake: Lake, sql: str
) -> None:
    def store() -> object:
        con.execute(lake.sql(sql)).fetchall()
        return rows_of(con, "FROM stored")

    answers = both_ways(con, store)
    assert answers.plain
    assert answers.skipping == answers.plain
    con.execute("DROP TABLE stored")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT id FROM {one} WHERE minus(a, b) > 370) TO '{out}'",
        "COPY (SELECT id FROM {one} WHERE (minus(a, b) > 370)) TO '{out}' (FORMAT csv, HEADER false)",
        "COPY (FROM {one} SELECT id WHERE minus(a, b) > 370) TO '{out}' (FORMAT csv, HEADER true)",
    ],
)
def test_what_is_copied_is_the_same(con: skipml.Connection, lake: Lake, sql: str) -> None:
    def copy() -> object:
        con.execute(lake.sql(sql))
        return [(lake.folder / "out").read_text()]

    answers = both_ways(con, copy)
    assert answers.skipping == answers.plain
    assert answers.skipped == 7


def test_a_view_made_through_the_connection_skips(con: skipml.Connection, lake: Lake) -> None:
    con.execute(lake.sql("CREATE OR REPLACE TEMP VIEW late_view AS SELECT id FROM {one} WHERE minus(a, b) > 370"))
    answers = both_ways(con, lambda: rows_of(con, "SELECT * FROM late_view WHERE id > 386"))
    assert answers.plain == ["(387,)", "(388,)"]
    assert answers.skipping == answers.plain
    assert answers.skipped == 7
    con.execute("DROP VIEW late_view")


def test_a_view_that_hides_a_table_is_not_expanded(con: skipml.Connection, lake: Lake) -> None:
    con.execute(lake.sql("CREATE OR REPLACE VIEW hiding AS SELECT id, a, b FROM {one}"))
    con.execute("CREATE TEMP TABLE hiding AS SELECT 1 AS id, 500 AS a, 0 AS b")
    answers = both_ways(con, lambda: rows_of(con, "SELECT id FROM hiding WHERE minus(a, b) > 370"))
    assert answers.skipping == answers.plain == ["(1,)"]
    con.execute("DROP TABLE temp.hiding; DROP VIEW hiding")


def test_a_cte_hides_a_view(con: skipml.Connection) -> None:
    sql = "WITH plain_view AS (SELECT 1 AS id, 500 AS x, 0 AS y) SELECT id FROM plain_view WHERE minus(x, y) > 370"
    answers = both_ways(con, lambda: rows_of(con, sql))
    assert answers.skipping == answers.plain == ["(1,)"]


def test_a_table_named_like_a_file_is_the_table(con: skipml.Connection, lake: Lake) -> None:
    path = str(lake.folder / "one.parquet")
    con.execute(f'CREATE TABLE "{path}" AS SELECT 1 AS id, 500 AS a, 0 AS b')
    answers = both_ways(con, lambda: rows_of(con, f'SELECT id FROM "{path}" WHERE minus(a, b) > 370'))
    con.execute(f'DROP TABLE "{path}"')
    assert answers.skipping == answers.plain == ["(1,)"]


def test_prepared_statements_run_as_they_are(con: skipml.Connection, lake: Lake) -> None:
    con.execute(lake.sql("PREPARE wanted AS SELECT id FROM {one} WHERE minus(a, b) > $1"))
    answers = both_ways(con, lambda: rows_of(con, "EXECUTE wanted(370)"))
    con.execute("DEALLOCATE wanted")
    assert answers.plain == ["(386,)", "(387,)", "(388,)"]
    assert answers.skipping == answers.plain


def test_executemany_runs_as_it_is(con: skipml.Connection, lake: Lake) -> None:
    con.execute("CREATE OR REPLACE TABLE stored (id INTEGER)")
    sql = lake.sql("INSERT INTO stored SELECT id FROM {one} WHERE minus(a, b) > ?")
    con.executemany(sql, [[370], [380]])
    assert len(rows_of(con, "FROM stored")) == 4
    con.execute("DROP TABLE stored")


def test_explain_shows_the_query_that_runs(con: skipml.Connection, lake: Lake) -> None:
    plan = rows_of(con, lake.sql("EXPLAIN SELECT id FROM {one} WHERE minus(a, b) > 370"))[0][1]
    assert con.last_report is not None
    assert ("PARQUET" if con.last_report.scoring != BATCHES else "ANSWER") in plan.upper()
    assert con.last_report.counters["skipped"] == 7
    assert "Total Time" in rows_of(con, lake.sql("EXPLAIN ANALYZE SELECT id FROM {one} WHERE minus(a, b) > 370"))[0][1]


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with skipml.connect() as connection:
        yield connection._planner.parser


@pytest.mark.parametrize(
    ("sql", "query"),
    [
        ("SELECT 1", "SELECT 1"),
        ("CREATE TABLE x AS SELECT 1;", "SELECT 1"),
        ("CREATE TABLE selected AS FROM y", "FROM y"),
        ("COPY (SELECT 1) TO 'x (y)' (FORMAT csv)", "SELECT 1"),
        ("COPY (SELECT (1) + (2)) TO 'x'", "SELECT (1) + (2)"),
        ("INSERT INTO x (a, b) WITH c AS (SELECT 1) SELECT * FROM c", "WITH c AS (SELECT 1) SELECT * FROM c"),
        ("EXPLAIN ANALYZE SELECT 1", "SELECT 1"),
    ],
)
def test_the_query_of_a_statement_is_found(parser: Parser, sql: str, query: str) -> None:
    before, found, after = embedded_query(parser, sql)
    assert found == query
    assert before + found + after == sql


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO x VALUES ('SELECT 1')",
        "INSERT INTO x SELECT 1 RETURNING a",
        "INSERT INTO x WITH c AS (VALUES (1)) SELECT * FROM (SELECT * FROM c) RETURNING a",
        'CREATE TABLE "select" AS SELECT 1',
        "COPY x FROM 'y.csv'",
        "COPY x TO 'y.csv'",
        "CREATE TABLE x (a INTEGER)",
        "UPDATE x SET a = (SELECT 1)",
        "CREATE VIEW x AS SELECT 1",
        "not sql at all (",
        "",
    ],
)
def test_what_holds_no_whole_query_is_left_whole(parser: Parser, sql: str) -> None:
    assert embedded_query(parser, sql) == ("", sql, "")
