"""Relations: lazy, chained, planned anew at each execution."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import skipml
from tests.engines.conftest import Lake, rows, write
from tests.oracle import DUCKDB_2, both_ways, rows_of

Chain = Callable[[Any], Any]

_CHAINS: Mapping[str, tuple[Chain, int | None]] = {
    "filter": (lambda r: r.filter("minus(a, b) > 370"), 7),
    "filter twice": (lambda r: r.filter("id % 2 = 0").filter("minus(a, b) > 370"), 7),
    "filter, project": (lambda r: r.filter("minus(a, b) > 370").project("id, b AS a"), 7),
    "project, filter": (lambda r: r.project("id, b AS a, a AS b").filter("minus(b, a) > 370"), 7),
    "select": (lambda r: r.filter("minus(a, b) > 370").select("id", "s"), 7),
    "order, limit": (lambda r: r.filter("minus(a, b) > 370").order("id DESC").limit(2), 7),
    "sort": (lambda r: r.filter("minus(a, b) > 370").sort("id"), 7),
    "limit, filter": (lambda r: r.order("id").limit(60).filter("minus(a, 0) > 40"), 0),
    "aggregate": (lambda r: r.filter("minus(a, b) > 370").aggregate("s, count(*) AS n", "s"), 7),
    "count": (lambda r: r.filter("minus(a, b) > 370").count("*"), 7),
    "sum": (lambda r: r.filter("minus(a, b) > 370").sum("id"), 7),
    "distinct": (lambda r: r.filter("minus(a, b) > 370").project("s").distinct(), 7),
    "union": (lambda r: r.filter("minus(a, b) > 370").union(r.filter("minus(a, b) > 380")), 7),
    "except": (lambda r: r.except_(r.filter("minus(a, b) > 370")), None),
    "intersect": (lambda r: r.filter("minus(a, b) > 370").intersect(r.filter("minus(a, b) > 380")), 7),
    "column": (lambda r: r.filter("minus(a, b) > 370")["id"], 7),
    "attribute": (lambda r: r.filter("minus(a, b) > 370").id, 7),
    "query": (lambda r: r.query("outer_name", "SELECT id FROM outer_name WHERE minus(a, b) > 370"), None),
    "join": (
        lambda r: r.set_alias("x").join(r.filter("minus(a, b) > 370").project("id").set_alias("y"), "x.id = y.id"),
        None,
    ),
    "expression": (
        lambda r: r.filter(
            duckdb.FunctionExpression("minus", duckdb.ColumnExpression("a"), duckdb.ColumnExpression("b")) > 370
        ),
        7,
    ),
}


@pytest.mark.parametrize("name", _CHAINS)
def test_chains_give_the_same_rows(con: skipml.Connection, lake: Lake, name: str) -> None:
    chain, skips = _CHAINS[name]
    answers = both_ways(con, lambda: chain(con.sql(lake.sql("SELECT id, a, b, s FROM {one}"))).fetchall())
    assert answers.plain
    assert answers.skipping == answers.plain
    if skips is not None:  # DuckDB 2.0 makes one scan of several, 1.5 does not
        assert answers.skipped >= skips
        assert skips > 0 or answers.skipped == 0


_FETCHES: Mapping[str, Callable[[Any], Any]] = {
    "fetchall": lambda r: r.fetchall(),
    "fetchnumpy": lambda r: r.fetchnumpy()["id"].tolist(),
    "df": lambda r: r.df()["id"].tolist(),
    "to_df": lambda r: r.to_df()["id"].tolist(),
    "pl": lambda r: r.pl()["id"].to_list(),
    "to_arrow_table": lambda r: r.to_arrow_table()["id"].to_pylist(),
    "arrow stream": lambda r: pa.table(r)["id"].to_pylist(),
    **(
        {}
        if DUCKDB_2  # relations of 2.0 keep no result between calls
        else {
            "fetchone": lambda r: list(iter(r.fetchone, None)),
            "fetchmany": lambda r: [row for part in iter(lambda: r.fetchmany(2), []) for row in part],
            "execute": lambda r: r.execute().fetchall(),
            "fetchone, fetchall": lambda r: [r.fetchone(), *r.fetchall()],
        }
    ),
}


@pytest.mark.parametrize("name", _FETCHES)
def test_every_way_to_fetch_gives_the_same_rows(con: skipml.Connection, lake: Lake, name: str) -> None:
    sql = lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370")
    answers = both_ways(con, lambda: _FETCHES[name](con.sql(sql)))
    assert len(answers.plain) == 3
    assert answers.skipping == answers.plain
    assert answers.skipped == 7


def test_two_results_do_not_disturb_each_other(con: skipml.Connection, lake: Lake) -> None:
    high = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
    low = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) < -80"))
    assert high is not None
    assert low is not None
    first = high.fetchall()
    assert low.fetchall() == [(14,)]
    assert high.fetchall() == first, "a relation can be executed again"


def test_what_a_relation_says_of_itself_is_duckdbs(con: skipml.Connection, lake: Lake) -> None:
    relation = con.sql(lake.sql("SELECT id, s FROM {one} WHERE minus(a, b) > 370"))
    assert relation is not None
    assert relation.columns == ["id", "s"]
    assert [str(t) for t in relation.types] == ["BIGINT", "VARCHAR"]
    assert "id" in relation
    assert "388" in str(relation)
    assert "388" in repr(relation)
    assert "minus" in relation.sql_query()


@pytest.mark.parametrize("how", ["create", "to_table", "insert_into", "create_view", "write_parquet", "write_csv"])
def test_a_relation_can_be_stored(con: skipml.Connection, lake: Lake, tmp_path: Path, how: str) -> None:
    con.execute("DROP TABLE IF EXISTS stored; DROP VIEW IF EXISTS stored_view")
    file = tmp_path / "stored"
    target = {"write_parquet": f"{file}.parquet", "write_csv": f"{file}.csv", "create_view": "stored_view"}
    if how == "insert_into":
        con.execute("CREATE TABLE stored (id BIGINT)")
    relation = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
    assert relation is not None
    getattr(relation, how)(target.get(how, "stored"))
    source = target.get(how, "stored") if how == "create_view" else f"'{target[how]}'" if how in target else "stored"
    assert sorted(rows_of(con, f"SELECT id FROM {source}")) == [(386,), (387,), (388,)]
    assert con.last_report is not None
    con.execute("DROP TABLE IF EXISTS stored; DROP VIEW IF EXISTS stored_view")


def test_a_relation_sees_the_files_as_they_are_when_it_is_executed(con: skipml.Connection, tmp_path: Path) -> None:
    def ids() -> list[int]:
        assert relation is not None
        return sorted(row[0] for row in relation.fetchall())

    write(tmp_path / "part0.parquet", rows())
    relation = con.sql(f"SELECT id FROM '{tmp_path}/*.parquet' WHERE minus(a, b) > 370")
    assert ids() == [386, 387, 388]
    write(tmp_path / "part1.parquet", rows(400, 50))
    assert ids() == [i for i in range(450) if i - i * 7 % 100 > 370], "a file was added"
    shutil.copy(tmp_path / "part1.parquet", tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "part0.parquet")
    assert min(ids()) >= 400, "a file was replaced"
    (tmp_path / "part1.parquet").unlink()
    assert min(ids()) >= 400, "a file was removed"
    (tmp_path / "part0.parquet").unlink()
    with pytest.raises(duckdb.IOException):
        ids()


def test_a_relation_is_planned_anew_when_a_limit_in_a_table_changes(con: skipml.Connection, lake: Lake) -> None:
    con.execute("CREATE OR REPLACE TABLE wanted AS SELECT 386 AS id")
    relation = con.sql(lake.sql("SELECT t.id FROM {one} t JOIN wanted USING (id) WHERE minus(t.a, t.b) > 370"))
    assert relation is not None
    assert relation.fetchall() == [(386,)]
    con.execute("INSERT INTO wanted VALUES (388)")
    assert sorted(relation.fetchall()) == [(386,), (388,)]


@pytest.mark.skipif(DUCKDB_2, reason="relations of DuckDB 2.0 keep no result")
def test_a_relation_read_to_its_end_or_closed_is_as_duckdb_leaves_it(con: skipml.Connection, lake: Lake) -> None:
    def read_on() -> object:
        relation: Any = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
        first = [relation.fetchone() for _ in range(5)]
        return [first, relation.fetchall(), relation.fetchall(), relation.execute().fetchall()]

    def read_in_chunks() -> object:
        relation: Any = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
        return [len(relation.fetch_df_chunk()) for _ in range(3)] + [len(relation.fetchall())]

    def read_closed() -> object:
        relation: Any = con.sql(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
        relation.fetchone()
        relation.close()
        return relation.fetchone()

    for read in (read_on, read_in_chunks, read_closed):
        answers = both_ways(con, read)
        assert answers.skipping == answers.plain
