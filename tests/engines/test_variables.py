"""`FROM df`: variables of the caller are found through the wrapper, where DuckDB would find them itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import skipml
from tests.engines.conftest import Lake
from tests.oracle import both_ways

module_frame = pd.DataFrame({"id": np.arange(0, 400, 2), "w": 1.5})
shadowed = pd.DataFrame({"id": [1]})

_JOINED = "SELECT t.id, w FROM {one} t JOIN %s USING (id) WHERE minus(t.a, t.b) > 370"


def _frame(kind: str) -> object:
    columns = {"id": np.arange(0, 400, 2), "w": np.full(200, 1.5)}
    return {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table, "numpy": dict, "lazy": pl.LazyFrame}[
        kind
    ](columns)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "lazy"])
@pytest.mark.parametrize("method", ["sql", "query", "execute", "from_query"])
def test_a_local_variable_is_found(con: skipml.Connection, lake: Lake, kind: str, method: str) -> None:
    def fetch() -> object:
        frame = _frame(kind)
        found = getattr(con, method)(lake.sql(_JOINED % "frame")).fetchall()
        del frame  # only named in the SQL
        return found

    answers = both_ways(con, fetch)
    assert answers.plain == ["(386, 1.5)", "(388, 1.5)"]
    assert answers.skipping == answers.plain
    assert answers.skipped == 7, str(answers.report)


def test_a_variable_of_the_module_is_found(con: skipml.Connection, lake: Lake) -> None:
    answers = both_ways(con, lambda: con.execute(lake.sql(_JOINED % "module_frame")).fetchall())
    assert answers.plain == ["(386, 1.5)", "(388, 1.5)"]
    assert answers.skipping == answers.plain


def test_a_local_variable_hides_one_of_the_module(con: skipml.Connection, lake: Lake) -> None:
    def fetch() -> object:
        shadowed = pd.DataFrame({"id": [387], "w": [2.5]})
        found = con.execute(lake.sql(_JOINED % "shadowed")).fetchall()
        del shadowed
        return found

    assert both_ways(con, fetch).skipping == ["(387, 2.5)"]


def test_a_table_hides_a_variable(con: skipml.Connection, lake: Lake) -> None:
    small = pd.DataFrame({"id": [386], "z": [100]})
    sql = "SELECT t.id, z FROM {one} t JOIN small USING (id) WHERE minus(t.a, t.b) > 370"
    answers = both_ways(con, lambda: con.execute(lake.sql(sql)).fetchall())
    assert len(small) == 1
    assert answers.plain == ["(387, 2)"]
    assert answers.skipping == answers.plain


def test_a_model_filters_a_variable(con: skipml.Connection) -> None:
    def fetch() -> object:
        frame = _frame("pandas")
        relation = con.sql("SELECT id FROM frame WHERE minus(id, w) > 390")
        assert relation is not None
        del frame
        return relation.fetchall()

    answers = both_ways(con, fetch)
    assert answers.plain == ["(392,)", "(394,)", "(396,)", "(398,)"]
    assert answers.skipping == answers.plain


def test_a_relation_is_a_variable_too(con: skipml.Connection, lake: Lake) -> None:
    def fetch() -> object:
        relation = con.sql(lake.sql("SELECT id, a, b FROM {one}"))
        filtered = con.sql("SELECT id FROM relation WHERE minus(a, b) > 370")
        assert relation is not None
        assert filtered is not None
        return filtered.fetchall()

    answers = both_ways(con, fetch)
    assert answers.plain == ["(386,)", "(387,)", "(388,)"]
    assert answers.skipping == answers.plain


def test_a_registered_frame_is_found(con: skipml.Connection, lake: Lake) -> None:
    con.register("registered", _frame("pandas"))
    answers = both_ways(con, lambda: con.execute(lake.sql(_JOINED % "registered")).fetchall())
    con.unregister("registered")
    assert answers.plain == ["(386, 1.5)", "(388, 1.5)"]
    assert answers.skipping == answers.plain


def test_a_name_that_is_no_variable_fails_as_in_duckdb(con: skipml.Connection, lake: Lake) -> None:
    answers = both_ways(con, lambda: con.execute(lake.sql(_JOINED % "no_such_variable")).fetchall())
    assert answers.plain[0].startswith("CatalogException")
    assert answers.skipping == answers.plain


def test_explain_sees_variables(con: skipml.Connection, lake: Lake) -> None:
    frame = _frame("arrow")
    assert con.explain(lake.sql(_JOINED % "frame")).counters["skipped"] == 7
    del frame


def test_a_relation_keeps_the_variables_it_was_made_with(con: skipml.Connection, lake: Lake) -> None:
    def made() -> object:
        frame = pd.DataFrame({"id": [386, 387], "w": [0.5, 0.5]})
        relation = con.sql(lake.sql(_JOINED % "frame"))
        del frame
        return relation

    frame = pd.DataFrame({"id": [388], "w": [1.0]})
    relation = made()
    assert len(frame) == 1
    assert sorted(relation.fetchall()) == [(386, 0.5), (387, 0.5)]  # type: ignore[attr-defined]


def test_a_view_or_macro_may_read_a_variable(con: skipml.Connection) -> None:
    frame = pd.DataFrame({"id": [3, 4]})
    con.execute("CREATE OR REPLACE TEMP VIEW over_frame AS FROM frame")
    con.execute("CREATE OR REPLACE TEMP MACRO of_frame() AS TABLE FROM frame")
    for sql in ("FROM over_frame", "FROM of_frame()"):
        assert con.execute(sql).fetchall() == [(3,), (4,)]
        relation = con.sql(sql)
        assert relation is not None
        assert relation.fetchall() == [(3,), (4,)]
    assert con.execute("FROM query_table(?)", ["frame"]).fetchall() == [(3,), (4,)]
    del frame


def test_methods_of_the_connection_find_variables(con: skipml.Connection) -> None:
    frame = pd.DataFrame({"id": [3, 4]})
    assert con.table("frame").fetchall() == [(3,), (4,)]
    con.execute("CREATE OR REPLACE TEMP TABLE numbered (n BIGINT, id BIGINT)")
    con.executemany("INSERT INTO numbered SELECT ?, id FROM frame", [[1], [2]])
    assert con.execute("SELECT sum(n), sum(id) FROM numbered").fetchall() == [(6, 14)]
    del frame


def test_methods_of_relations_find_variables(con: skipml.Connection, lake: Lake) -> None:
    def fetch() -> object:
        frame = pd.DataFrame({"id": [386, 387, 3]})
        whole: Any = con.sql(lake.sql("SELECT id, a, b FROM {one}"))
        relation = whole.filter("minus(a, b) > 370")
        found = [
            relation.filter("id IN (SELECT id FROM frame)").fetchall(),
            relation.project("id, (SELECT max(id) FROM frame) AS m").fetchall(),
            relation.query("it", "SELECT it.id FROM it JOIN frame USING (id)").fetchall(),
        ]
        del frame
        return found

    answers = both_ways(con, fetch)
    assert "[(386,), (387,)]" in answers.plain
    assert answers.skipping == answers.plain


def test_a_relation_may_be_registered(con: skipml.Connection, lake: Lake) -> None:
    for sql in ("SELECT id FROM {one} WHERE minus(a, b) > 370", "SELECT 7 AS id"):
        relation: Any = con.sql(lake.sql(sql))
        con.register("registered", relation)
        expected = sorted(relation.fetchall())
        assert sorted(con.execute("FROM registered").fetchall()) == expected
        con.unregister("registered")
