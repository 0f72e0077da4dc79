"""Queries that call no model cost no more than it takes to see that, and those that do are found by every name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import skipml
from skipml.engines.planner import Planner
from skipml.engines.sql import Parser
from tests.engines.conftest import rows, write
from tests.oracle import ask, identity, linear, model, rows_of

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with skipml.connect(config={"threads": 1}) as connection:
        connection.register_model("same", model(identity()))
        connection.register_model("multi", model(linear([[1, -1], [0, 1]], [0, 0])))
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> str:
    """`a` is 0 to 399."""
    return write(tmp_path / "one.parquet", rows())


@pytest.mark.parametrize("sql", ["SELECT sum(a) AS all_the_same FROM '{}'", "SELECT samen(a) FROM '{}'"])
def test_a_longer_name_is_not_the_model(
    con: skipml.Connection, file: str, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    con.execute("CREATE MACRO samen(x) AS x + 1")
    monkeypatch.setattr(Planner, "plan", lambda *_: pytest.fail("the query was analysed"))
    assert rows_of(con, sql.format(file))


@pytest.mark.parametrize(
    "call", ["same(a)", "SAME (a)", '"same"(a)', "(a).same()", "main.same(a)", "-(-same(a))", "multi_class(a, a) + a"]
)
def test_a_call_is_found_as_it_is_written(file: str, con: skipml.Connection, call: str) -> None:
    registry = con._shared.registry
    sql = f"SELECT id FROM '{file}' WHERE id IN (SELECT max({call}) FROM '{file}')"
    assert registry.may_be_called(sql)
    assert registry.is_called(con._planner.parser.tree(sql))


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIEW scored AS SELECT id, same(a) AS score FROM '{}'",
        "CREATE OR REPLACE TEMP VIEW scored AS SELECT id, multi(a, 0)[1] AS score FROM '{}'",
        "CREATE VIEW deep AS SELECT id, same(a) AS score FROM '{}'; CREATE VIEW scored AS FROM deep",
        "CREATE MACRO hidden(x) AS same(x); CREATE VIEW scored AS SELECT id, hidden(a) AS score FROM '{}'",
    ],
)
def test_a_query_that_names_no_model_skips(con: skipml.Connection, file: str, definition: str) -> None:
    con.execute(definition.format(file))
    answers = ask(con, "SELECT id FROM scored WHERE score > 390")
    assert len(answers.plain) == 9
    assert answers.skipping == answers.plain
    assert answers.skipped == 7


def test_a_view_that_calls_a_model_leaves_other_queries_alone(
    con: skipml.Connection, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    con.execute(f"CREATE VIEW scored AS SELECT id, same(a) AS score FROM '{file}'; CREATE VIEW plain AS FROM '{file}'")
    monkeypatch.setattr(Parser, "describe", lambda *_: pytest.fail("the query was bound"))
    assert rows_of(con, "SELECT count(*) FROM plain WHERE a > 390") == [(9,)]
    assert con.explain("SELECT count(*) FROM plain WHERE a > 390").notes == ("no registered model is called",)


def test_a_view_that_is_replaced_is_read_again(con: skipml.Connection, file: str) -> None:
    for limit, found in ((390, 9), (350, 49)):
        con.execute(f"CREATE OR REPLACE VIEW high AS SELECT id FROM '{file}' WHERE same(a) > {limit}")
        answers = ask(con, "SELECT id FROM high")
        assert (len(answers.plain), answers.skipping == answers.plain) == (found, True)
        assert answers.skipped >= 7 - found // 49


@pytest.mark.parametrize("definition", ["VIEW kept AS SELECT same(1) AS x", "MACRO kept(x) AS same(x) + 1"])
def test_definitions_in_a_file_are_told_apart(tmp_path: Path, definition: str) -> None:
    with skipml.connect(tmp_path / "kept.duckdb") as con:
        con.register_model("same", model(identity()))
        con.execute(f"CREATE {definition}")
    with skipml.connect(tmp_path / "kept.duckdb") as con:
        registry = con._shared.registry
        assert not registry.may_be_called("FROM kept")
        con.register_model("same", model(identity()))
        assert registry.may_be_called("FROM kept")
        assert registry.views_call_models == definition.startswith("VIEW")
        assert registry.macros_call_models == definition.startswith("MACRO")
