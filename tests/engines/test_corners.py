"""Corners of the promise of the same rows, each found as a bug."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import scan_regions
from tests.oracle import ask, linear, model, rows_of

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with skipml.connect() as connection:
        connection.register_model("minus", model(linear([[1, -1]], [0])))
        connection.register_model("multi", model(linear([[1, -1], [0, 1]], [0, 0])))
        yield connection


def ramp(path: Path, n: int = 400, rows_per_group: int = 50) -> str:
    """`a` rises through the file from 0, `b` is 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": np.arange(n), "a": np.arange(n), "b": np.zeros(n, np.int64)})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return str(path)


@pytest.fixture
def infinite(tmp_path: Path) -> str:
    """Scores infinity - infinity = NaN, in files whose writer is known to record NaN."""
    path = tmp_path / "infinite.parquet"
    duckdb.execute(f"COPY (SELECT i AS id, 'inf'::DOUBLE AS a, 'inf'::DOUBLE AS b FROM range(50) t(i)) TO '{path}'")
    return str(path)


def test_a_nan_score_of_finite_inputs_is_greater_than_infinity(con: skipml.Connection, infinite: str) -> None:
    answers = ask(con, f"SELECT id FROM '{infinite}' WHERE minus(a, b) > 'inf'::DOUBLE")
    assert len(answers.plain) == 50, "NaN is greater than infinity"
    assert answers.skipping == answers.plain


def test_a_nan_score_of_finite_inputs_is_not_kept_below_infinity(infinite: str) -> None:
    plan = skipml.plan(infinite, model(linear([[1, -1]], [0])) <= float("inf"))
    assert plan.scan().read_all().num_rows == 0


def test_a_partition_column_hides_a_column_of_the_file(con: skipml.Connection, tmp_path: Path) -> None:
    ramp(tmp_path / "a=5000" / "x.parquet")
    answers = ask(con, f"SELECT id, a FROM '{tmp_path}/*/*.parquet' WHERE minus(a, b) > 4000")
    assert len(answers.plain) == 400, "DuckDB takes the value from the path"
    assert answers.skipping == answers.plain


def test_a_partition_above_a_relative_path_adds_no_column(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp(tmp_path / "run=3" / "x1.parquet")
    ramp(tmp_path / "run=3" / "x2.parquet")
    monkeypatch.chdir(tmp_path / "run=3")
    answers = ask(con, "SELECT * FROM 'x*.parquet' WHERE minus(a, b) > 390")
    assert answers.skipped == 14
    assert answers.skipping == answers.plain


def test_a_cte_of_an_insert_is_not_taken_for_a_view(con: skipml.Connection, tmp_path: Path) -> None:
    con.execute(f"CREATE VIEW c AS FROM '{ramp(tmp_path / 'x.parquet')}'")
    con.execute("CREATE TABLE target (id BIGINT)")
    sql = (
        "INSERT INTO target WITH c(id, a, b) AS (VALUES (1, 5, 1)) "
        "SELECT id FROM (SELECT * FROM c WHERE minus(a, b) > 300) RETURNING id"
    )
    answers = ask(con, sql)
    assert answers.plain == []
    assert answers.skipping == answers.plain


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO target SELECT id FROM '{file}' WHERE minus(a, b) > 390",
        "SELECT error('broken') FROM '{file}' WHERE minus(a, b) > 390",
    ],
)
def test_an_error_in_a_transaction_is_the_one_duckdb_raises(
    con: skipml.Connection, tmp_path: Path, statement: str
) -> None:
    con.execute("CREATE TABLE target (id BIGINT PRIMARY KEY)")
    con.execute("INSERT INTO target VALUES (395)")
    sql = statement.format(file=ramp(tmp_path / "x.parquet"))
    assert con.explain(sql).counters["skipped"] == 7
    errors = []
    for skipping in (True, False):
        con.skipping = skipping
        con.execute("BEGIN")
        with pytest.raises(duckdb.Error) as raised:
            con.execute(sql).fetchall()
        errors.append(raised.type)
        con.execute("ROLLBACK")
    assert errors[0] == errors[1]


def test_pivot_statements_run(con: skipml.Connection, tmp_path: Path) -> None:
    file = ramp(tmp_path / "x.parquet")
    sql = f"PIVOT (SELECT id % 3 AS s, b FROM '{file}' WHERE minus(a, b) > 390) ON s USING count(*)"
    relation = con.sql(sql)
    assert relation is not None
    assert relation.fetchall() == [(0, 3, 3, 3)]


def test_explain_leaves_an_unfinished_result_alone(con: skipml.Connection, tmp_path: Path) -> None:
    con.execute("SELECT i FROM range(5000) t(i)")
    con.fetchone()
    con.explain(f"SELECT id FROM '{ramp(tmp_path / 'x.parquet')}' WHERE minus(a, b) > 390")
    assert con.fetchone() == (1,)


def test_a_read_only_database_can_be_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "data.duckdb")
    duckdb.connect(path).close()
    file = ramp(tmp_path / "x.parquet")
    with skipml.connect(path, read_only=True) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        assert rows_of(con, f"SELECT count(*) FROM '{file}' WHERE minus(a, b) > 390") == [(9,)]


def test_a_removed_model_of_several_outputs_can_be_registered_again(con: skipml.Connection, tmp_path: Path) -> None:
    con.remove_function("multi")
    con.register_model("multi", model(linear([[1, -1], [0, 1], [1, 1]], [0, 0, 0])))
    answers = ask(con, f"SELECT id FROM '{ramp(tmp_path / 'x.parquet')}' WHERE multi(a, b)[3] > 390")
    assert answers.skipped == 7
    assert answers.skipping == answers.plain


@pytest.mark.parametrize(
    "error",
    [
        *(OSError, ValueError, AttributeError, RuntimeError, AssertionError, RecursionError, MemoryError),
    ],
)
def test_no_error_while_planning_fails_a_query(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("broken")

    monkeypatch.setattr(scan_regions, "read_footers", broken)
    answers = ask(con, f"SELECT id FROM '{ramp(tmp_path / 'x.parquet')}' WHERE minus(a, b) > 390")
    assert answers.skipping == answers.plain
    assert answers.report is not None
    assert answers.report.counters["errors"] == 1


def test_a_model_outlives_the_cursor_that_registered_it(tmp_path: Path) -> None:
    # In a process of its own: DuckDB calls freed memory.
    script = """
        import gc, numpy as np, skipml
        from tests.oracle import linear, model
        con = skipml.connect()
        cursor = con.cursor()
        cursor.register_model("minus", model(linear([[1, -1]], [0])))
        cursor.close()
        del cursor
        gc.collect()
        print(con.execute("SELECT minus(3, 1)").fetchall())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[(2.0,)]", done.stderr


@pytest.mark.parametrize(
    "condition",
    [
        'minus(-a, "-(a)") > 700',
        'minus("-(a)", -a) < -700',
        'minus(1, "1::INTEGER") < -300',
        'minus("1::INTEGER", 1) > 300',
    ],
)
def test_a_column_is_not_taken_for_an_expression(con: skipml.Connection, tmp_path: Path, condition: str) -> None:
    n = np.arange(400)
    table = pa.table({"id": n, "a": n, "-(a)": -3 * n, "1::INTEGER": n})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, row_group_size=50)
    answers = ask(con, f"SELECT id FROM '{path}' WHERE {condition}")
    assert answers.plain
    assert answers.skipping == answers.plain


def test_a_query_that_duckdb_answers_in_a_transaction_does_not_fail(con: skipml.Connection, tmp_path: Path) -> None:
    sql = (
        f"SELECT *, row_number() OVER (ORDER BY id) AS place FROM '{ramp(tmp_path / 'x.parquet')}' "
        "WHERE minus(a, b) > 390 QUALIFY place < 5"
    )
    con.explain(sql)
    con.execute("BEGIN")
    answers = ask(con, sql)
    con.execute("ROLLBACK")
    assert len(answers.plain) == 4
    assert answers.skipping == answers.plain


@pytest.mark.parametrize("join", ["LEFT", "FULL", "ANTI"])
def test_conditions_of_outer_joins_are_analysed(con: skipml.Connection, tmp_path: Path, join: str) -> None:
    con.execute("CREATE TABLE small AS SELECT i AS id FROM range(0, 400, 3) t(i)")
    file = ramp(tmp_path / "x.parquet")
    answers = ask(con, f"SELECT t.id FROM '{file}' t {join} JOIN small s ON s.id = t.id AND minus(t.a, t.b) > 390")
    assert answers.skipping == answers.plain
    assert answers.report is not None
    assert answers.report.counters["errors"] == 0
