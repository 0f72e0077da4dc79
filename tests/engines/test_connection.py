"""The connection behaves as DuckDB's does, with models on it."""

from __future__ import annotations

import decimal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import pytest

import skipml
from skipml.engines.planner import Planner
from skipml.network import Affine, Network
from tests.engines.conftest import Lake
from tests.oracle import DUCKDB_2, ask, both_ways, identity, linear, model, rows_of, standing_clock

_HIGH = "SELECT id FROM {one} WHERE minus(a, b) > 370"


@pytest.fixture
def fresh() -> Iterator[skipml.Connection]:
    """A connection of its own, for what changes it."""
    with standing_clock(), skipml.connect() as connection:
        connection.register_model("minus", model(linear([[1, -1]], [0])))
        yield connection


@pytest.mark.parametrize("name", ["", "a b", "1st", "a.b", 'a"b', "ü", "a; DROP TABLE x", "a-b"])
def test_a_name_that_is_no_identifier_is_refused(fresh: skipml.Connection, name: str) -> None:
    with pytest.raises(skipml.RegistrationError, match="identifier"):
        fresh.register_model(name, model(identity()))


@pytest.mark.parametrize("name", ["minus", "MINUS", "abs", "count"])
def test_a_name_that_is_taken_is_refused(fresh: skipml.Connection, name: str) -> None:
    with pytest.raises(skipml.RegistrationError, match="already"):
        fresh.register_model(name, model(identity()))


def test_a_class_function_that_is_taken_leaves_nothing_behind(fresh: skipml.Connection) -> None:
    fresh.register_model("multi_class", model(identity()))
    several = model(linear([[1], [2]], [0, 0]))
    with pytest.raises(skipml.RegistrationError):
        fresh.register_model("multi", several)
    fresh.remove_function("multi_class")
    fresh.register_model("multi", several)
    assert rows_of(fresh, "SELECT multi(3), multi_class(3)") == [([3.0, 6.0], 1)]


def test_what_is_no_model_is_refused(fresh: skipml.Connection) -> None:
    with pytest.raises(skipml.RegistrationError, match=r"expected a skipml.Model"):
        fresh.register_model("other", lambda a: a)  # type: ignore[arg-type]


def test_a_model_with_nan_weights_is_refused() -> None:
    weight = np.array([[np.nan]], np.float32)
    with pytest.raises(skipml.ModelError, match="NaN"):
        Network(1, 1, np.dtype(np.float32), (Affine(weight, np.zeros(1, np.float32)),))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT minus(a) FROM {one}",
        "SELECT minus(a, b, a) FROM {one}",
        "SELECT id FROM {one} WHERE minus(a) > 3",
        "SELECT id FROM {one} WHERE minus(a, s) > 3",
        "SELECT id FROM {one} WHERE minus(a, d) > 3",
        "SELECT id FROM {one} WHERE minus(a, nothing) > 3",
        "SELECT nothing FROM {one} WHERE minus(a, b) > 3",
        "SELECT id FROM 'nowhere/*.parquet' WHERE minus(a, b) > 3",
        "SELECT id FROM {one} WHERE unknown_model(a, b) > 3",
        "SELECT id FRM {one} WHERE minus(a, b) > 3",
        "SELECT id FROM {one} WHERE minus(a, b) > ?",
        "SELECT id::TINYINT FROM {one} WHERE minus(a, b) > 370",
        "SELECT error('broken') FROM {one} WHERE minus(a, b) > 370",
    ],
)
def test_errors_are_those_of_duckdb(con: skipml.Connection, lake: Lake, query: str) -> None:
    answers = ask(con, lake.sql(query))
    assert "Error" in answers.plain[0] or "Exception" in answers.plain[0]
    assert answers.skipping == answers.plain


def test_a_removed_model_filters_nothing(fresh: skipml.Connection, lake: Lake) -> None:
    fresh.remove_function("minus")
    fresh._plain.create_function("minus", lambda a, b: b - a, ["DOUBLE", "DOUBLE"], "DOUBLE")
    answers = ask(fresh, lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 60"))
    assert answers.plain
    assert answers.skipping == answers.plain
    assert answers.skipped == 0


def test_a_macro_of_the_same_name_is_not_the_model(fresh: skipml.Connection, lake: Lake) -> None:
    fresh.execute("CREATE SCHEMA mine; CREATE MACRO mine.minus(p, q) AS q - p")
    answers = ask(fresh, lake.sql("SELECT id FROM {one} WHERE mine.minus(a, b) > 60"))
    assert answers.plain
    assert answers.skipping == answers.plain


def test_queries_without_a_model_are_not_analysed(
    fresh: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planner, "plan", lambda *_: pytest.fail("the query was analysed"))
    assert rows_of(fresh, lake.sql("SELECT count(*) FROM {one} WHERE a > 3")) == [(396,)]
    assert fresh.last_report is None
    assert fresh.explain("SELECT 1").notes == ("no registered model is called",)


def test_skipping_can_be_switched_off(con: skipml.Connection, lake: Lake) -> None:
    rows_of(con, lake.sql(_HIGH))
    before = con.last_report
    con.skipping = False
    assert len(rows_of(con, lake.sql(_HIGH + " AND id > 0"))) == 3
    assert con.last_report is before
    con.skipping = True


def test_explain_reads_nothing_and_reports_all(con: skipml.Connection, lake: Lake) -> None:
    report = con.explain(lake.sql(_HIGH))
    (scan,) = report.scans
    assert scan.counts == {"row_groups": 8, "skip": 7, "evaluate": 1, "keep": 0}
    assert report.to_dict()["scans"][0]["skip"] == 7
    assert con.explain(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > $t"), {"t": 370}).counters["skipped"] == 7


def _fetches() -> dict[str, Callable[[skipml.Connection], Any]]:
    def one_by_one(con: skipml.Connection) -> list[Any]:
        return list(iter(con.fetchone, None))

    def in_parts(con: skipml.Connection) -> list[Any]:
        return [row for rows in iter(lambda: con.fetchmany(2), []) for row in rows]

    found: dict[str, Callable[[skipml.Connection], Any]] = {
        "fetchall": lambda con: con.fetchall(),
        "fetchone": one_by_one,
        "fetchmany": in_parts,
        "fetchnumpy": lambda con: con.fetchnumpy()["id"].tolist(),
        "df": lambda con: con.df()["id"].tolist(),
        "fetchdf": lambda con: con.fetchdf()["id"].tolist(),
    }
    if not DUCKDB_2:  # 2.0 gives frames from relations
        found["pl"] = lambda con: con.pl()["id"].to_list()
    return found


@pytest.mark.parametrize("name", _fetches())
def test_every_way_to_fetch_gives_the_same_rows(con: skipml.Connection, lake: Lake, name: str) -> None:
    answers = both_ways(con, lambda: _fetches()[name](con.execute(lake.sql(_HIGH))))
    assert len(answers.plain) == 3
    assert answers.skipping == answers.plain
    assert answers.skipped == 7


def test_a_query_after_a_result_that_was_not_read_to_its_end_skips(fresh: skipml.Connection, lake: Lake) -> None:
    fresh.execute("FROM range(100)").fetchone()
    assert len(rows_of(fresh, lake.sql(_HIGH))) == 3
    assert _skipped(fresh) == 7


def test_several_statements_run_in_order(con: skipml.Connection, lake: Lake) -> None:
    sql = f"CREATE OR REPLACE TEMP TABLE low AS SELECT 385 AS z; {_HIGH} AND id > (SELECT z FROM low);"
    answers = ask(con, lake.sql(sql))
    assert answers.plain == ["(386,)", "(387,)", "(388,)"]
    assert answers.skipping == answers.plain
    assert answers.skipped == 7
    relation = con.sql(lake.sql(sql))
    assert relation is not None
    assert sorted(relation.fetchall()) == [(386,), (387,), (388,)]


def test_a_cursor_has_the_models_and_a_report_of_its_own(fresh: skipml.Connection, lake: Lake) -> None:
    cursor = fresh.cursor()
    assert len(rows_of(cursor, lake.sql(_HIGH))) == 3
    assert (_skipped(cursor), _skipped(fresh)) == (7, None)
    cursor.register_model("later", model(identity()))
    assert len(rows_of(fresh, lake.sql("SELECT id FROM {one} WHERE later(a) > 370"))) == 29
    assert _skipped(fresh) == 7


def _skipped(con: skipml.Connection) -> int | None:
    return con.last_report.counters["skipped"] if con.last_report else None


def test_threads_with_cursors_do_not_disturb_each_other(fresh: skipml.Connection, lake: Lake) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        cursor = fresh.cursor()
        for limit in range(number * 50, number * 50 + 8):
            rows = rows_of(cursor, lake.sql("SELECT id FROM {one} WHERE minus(a, 0) > ?"), [limit])
            if (len(rows), _skipped(cursor)) != (399 - limit, limit // 50):
                wrong.append((limit, len(rows), str(cursor.last_report)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_transaction_sees_its_own_tables_and_rolls_back(fresh: skipml.Connection, lake: Lake) -> None:
    fresh.execute("BEGIN")
    fresh.execute("CREATE TABLE mine AS SELECT 386 AS id")
    sql = lake.sql("SELECT t.id FROM {one} t JOIN mine USING (id) WHERE minus(t.a, t.b) > 370")
    for _ in range(2):
        answers = ask(fresh, sql)
        assert answers.skipping == answers.plain == ["(386,)"]
    fresh.execute("ROLLBACK")
    with pytest.raises(duckdb.CatalogException):
        fresh.execute("FROM mine")


def test_a_committed_insert_stays(fresh: skipml.Connection, lake: Lake) -> None:
    fresh.execute("CREATE TABLE kept (id BIGINT)")
    fresh.execute("BEGIN")
    fresh.execute(lake.sql("INSERT INTO kept " + _HIGH))
    fresh.execute("COMMIT")
    assert sorted(rows_of(fresh, "FROM kept")) == [(386,), (387,), (388,)]


def test_the_users_schema_holds_nothing_of_ours(fresh: skipml.Connection, lake: Lake) -> None:
    rows_of(fresh, lake.sql(_HIGH))
    assert rows_of(fresh, "SHOW TABLES") == []


def test_a_connection_of_duckdb_can_be_taken_over(lake: Lake) -> None:
    plain = duckdb.connect()
    plain.execute("CREATE TABLE mine AS SELECT 386 AS id")
    with skipml.connect(plain) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        sql = lake.sql("SELECT t.id FROM {one} t JOIN mine USING (id) WHERE minus(t.a, t.b) > 370")
        assert ask(con, sql).skipping == ["(386,)"]
        again = skipml.connect(plain)
        assert rows_of(again, sql) == [(386,)]


def test_a_relation_of_the_connection_can_be_filtered(con: skipml.Connection, lake: Lake) -> None:
    def fetch() -> object:
        return con.read_parquet(str(lake.folder / "one.parquet")).filter("minus(a, b) > 370").project("id").fetchall()

    answers = both_ways(con, fetch)
    assert len(answers.plain) == 3
    assert answers.skipping == answers.plain


def test_the_wrapper_is_duckdbs_connection_otherwise(con: skipml.Connection) -> None:
    con.execute("SELECT 1 AS x")
    assert con.description[0][0] == "x"
    assert con.fetchall() == [(1,)]
    with pytest.raises(AttributeError):
        _ = con.no_such_attribute


def test_a_decimal_parameter_with_an_exponent(con: skipml.Connection, lake: Lake) -> None:
    answers = ask(con, lake.sql("SELECT id FROM {one} WHERE same(a) > ?"), [decimal.Decimal("3E+2")])
    assert answers.skipping == answers.plain


def test_a_comment_is_a_statement_without_rows(con: skipml.Connection) -> None:
    results = []
    for con.skipping in (False, True):
        con.execute("SELECT 1")
        con.execute("-- minus")
        try:
            results.append(repr(con.fetchall()))
        except duckdb.Error as error:
            results.append(type(error).__name__)
    assert results[0] == results[1]
