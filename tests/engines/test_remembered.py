"""What planning remembers of a query: everything that it depends on may change between two runs of the same text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import skipml
from skipml.engines.dialect import Node
from skipml.engines.sql import Found
from skipml.engines.tree import MARK, nodes
from skipml.engines.virtual import VirtualFiles
from skipml.identity import identity
from tests.engines.conftest import rows, write
from tests.oracle import identity as identity_network
from tests.oracle import linear, model

Change = Callable[[skipml.Connection, Path], object]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[skipml.Connection]:
    """A connection in a folder with two settled files: `a` is 0 to 399 in one, 1000 to 1399 in the other."""
    for name, first in (("one", 0), ("two", 1000)):
        _settled(Path(write(tmp_path / f"{name}.parquet", rows(first))))
    monkeypatch.chdir(tmp_path)
    with skipml.connect() as connection:
        connection.register_model("same", model(identity_network()))
        connection.execute("CREATE VIEW v AS SELECT id, a FROM 'one.parquet'")
        connection.execute("CREATE MACRO m(x) AS same(x)")
        connection.execute("CREATE MACRO other(x) AS x")
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE VIEW s.v AS SELECT id, a FROM 'two.parquet'")
        yield connection


def _settled(path: Path) -> None:
    """Make a file an hour old, so that it is remembered."""
    then = path.stat().st_mtime_ns - 3_600 * 10**9
    os.utime(path, ns=(then, then))


def _replace_file(_: skipml.Connection, folder: Path) -> None:
    _settled(Path(write(folder / "new.parquet", rows(2000))))
    (folder / "new.parquet").replace(folder / "one.parquet")


def _overwrite_file(_: skipml.Connection, folder: Path) -> None:
    table = pa.table({"id": np.arange(400), "a": np.arange(400)[::-1] + 30})
    _settled(Path(write(folder / "one.parquet", table)))


def _replace_model(con: skipml.Connection, _: Path) -> None:
    con.remove_function("same")
    con.register_model("same", model(linear([[-1]], [380])))


def _become_model(con: skipml.Connection, _: Path) -> None:
    con.execute("DROP MACRO other")
    con.register_model("other", model(linear([[-1]], [380])))


def _sql(*statements: str) -> Change:
    return lambda con, _: [con.execute(statement) for statement in statements]


_FROM_FILE = "SELECT id FROM 'one.parquet' WHERE same(a) > 370"
_FROM_VIEW = "SELECT id FROM v WHERE same(a) > 370"
_BY_MACRO = "SELECT id FROM 'one.parquet' WHERE m(a) > 370"
_FIRST_BY_MACRO = "SELECT id FROM 'one.parquet' ORDER BY m(a) DESC, id LIMIT 3"
_FIRST_FROM_VIEW = "SELECT id FROM v ORDER BY same(a) DESC, id LIMIT 3"
_BY_OTHER = "SELECT id FROM 'one.parquet' WHERE other(a) > 370 AND same(a) > 100"
_DIVIDED = "SELECT id FROM 'one.parquet' WHERE same(a / 100) > 3"

CHANGES: dict[str, tuple[str, Change]] = {
    "a file replaced": (_FROM_FILE, _replace_file),
    "a file written over": (_FROM_FILE, _overwrite_file),
    "the file of a view replaced": (_FROM_VIEW, _replace_file),
    "a view replaced": (_FROM_VIEW, _sql("CREATE OR REPLACE VIEW v AS SELECT id, a FROM 'two.parquet'")),
    "a view that turns columns": (
        _FROM_VIEW,
        _sql("CREATE OR REPLACE VIEW v AS SELECT a AS id, -id AS a FROM 'one.parquet'"),
    ),
    "a view that becomes a table": (_FROM_VIEW, _sql("DROP VIEW v", "CREATE TABLE v AS SELECT 7 AS id, 400 AS a")),
    "a temporary view in front": (_FROM_VIEW, _sql("CREATE TEMP VIEW v AS SELECT id, a FROM 'two.parquet'")),
    "another search path": (_FROM_VIEW, _sql("SET search_path = 's'")),
    "another schema": (_FROM_VIEW, _sql("USE s")),
    "the first rows of a view replaced": (
        _FIRST_FROM_VIEW,
        _sql("CREATE OR REPLACE VIEW v AS SELECT id, -a AS a FROM 'one.parquet'"),
    ),
    "the first rows by a macro replaced": (_FIRST_BY_MACRO, _sql("CREATE OR REPLACE MACRO m(x) AS same(-x)")),
    "the first rows of a file written over": (_FIRST_BY_MACRO, _overwrite_file),
    "a function that becomes a model": (_BY_OTHER, _become_model),
    "a macro replaced": (_BY_MACRO, _sql("CREATE OR REPLACE MACRO m(x) AS same(-x) + 380")),
    "a macro without a model": (_BY_MACRO, _sql("CREATE OR REPLACE MACRO m(x) AS -x + 380")),
    "a table with the name of the file": (_FROM_FILE, _sql('CREATE TABLE "one.parquet" AS SELECT 7 AS id, 400 AS a')),
    "a view with the name of the file": (
        _FROM_FILE,
        _sql("CREATE VIEW \"ONE.parquet\" AS SELECT id, a FROM 'two.parquet'"),
    ),
    "a view with the name of the file on the search path": (
        _FROM_FILE,
        _sql("CREATE VIEW s.\"one.parquet\" AS SELECT id, a FROM 'two.parquet'", "SET search_path = 's'"),
    ),
    "a database attached": (
        _FROM_FILE,
        _sql("ATTACH ':memory:' AS far", 'CREATE TABLE far."one.parquet" AS SELECT 7 AS id, 400 AS a', "USE far"),
    ),
    "a division of integers": (_DIVIDED, _sql("SET GLOBAL integer_division = true")),
    "a division of integers in this session": (_DIVIDED, _sql("SET SESSION integer_division = true")),
    "names that are folded": (_FROM_FILE, _sql("SET GLOBAL preserve_identifier_case = false")),
    "another model": (_FROM_FILE, _replace_model),
    "another search path of files": (
        _FROM_FILE,
        lambda con, folder: con.execute(f"SET file_search_path = '{folder}/far'"),
    ),
}


def _answers(con: skipml.Connection, sql: str) -> list[list[str]]:
    """The sorted rows, or the error, with skipping and without."""
    found = []
    for con.skipping in (True, False):
        try:
            found.append(sorted(map(str, con.execute(sql).fetchall())))
        except Exception as error:
            found.append([type(error).__name__])
    con.skipping = True
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_two_runs(here: skipml.Connection, tmp_path: Path, name: str) -> None:
    sql, change = CHANGES[name]
    if "far" in name or "files" in name:
        write(tmp_path / "far" / "one.parquet", rows(5000))
    for _ in range(2):
        before, plain = _answers(here, sql)
        assert before == plain
    change(here, tmp_path)
    for _ in range(2):
        after, plain = _answers(here, sql)
        assert after == plain


def test_the_change_is_undone(here: skipml.Connection, tmp_path: Path) -> None:
    for setting in ("true", "false", "true"):
        here.execute(f"SET GLOBAL integer_division = {setting}")
        skipped, plain = _answers(here, _DIVIDED)
        assert skipped == plain


def test_parameters_of_one_text(here: skipml.Connection) -> None:
    for limit in (370, 5, 370, None, 390.5, 5):
        for con in (here, here.cursor()):
            con.execute("SELECT count(*) FROM 'one.parquet' WHERE same(a) > ?", [limit])
            assert con.fetchall() == [(0 if limit is None else 399 - int(limit),)]
            first = con.execute("SELECT id FROM 'one.parquet' WHERE id < ? ORDER BY same(a) DESC LIMIT 1", [limit])
            assert first.fetchall() == ([] if limit is None else [(-(-limit // 1) - 1,)])


@pytest.mark.parametrize("condition", ["same(wanted.n) > 370", "same(a) > 370 AND wanted.n IS NOT NULL"])
def test_a_variable_of_another_type(here: skipml.Connection, condition: str) -> None:
    sql = f"SELECT id FROM 'one.parquet' AS f JOIN wanted ON f.id = wanted.n WHERE same(a) > 5 AND {condition}"
    columns = {"n": [380, 5]}, {"n": [390.0, 5.0]}, {"n": ["375", "5"]}, {"m": [380, 5]}, {"n": [380, 5]}
    for column in columns:
        skipped, plain = _answers_with(here, sql, pa.table(column))
        assert skipped == plain


def _answers_with(con: skipml.Connection, sql: str, wanted: pa.Table) -> list[list[str]]:
    """The same as `_answers`, of a query that reads the variable `wanted`."""
    assert wanted.num_rows
    found = []
    for con.skipping in (True, False):
        try:
            found.append(sorted(map(str, con.execute(sql).fetchall())))
        except Exception as error:
            found.append([type(error).__name__])
    con.skipping = True
    return found


def test_what_is_remembered_stays_as_it_is(here: skipml.Connection) -> None:
    two = "(SELECT max(a) FROM 'two.parquet' WHERE same(a) > 1100)"
    for sql in (
        f"SELECT max(id), {two} FROM 'one.parquet' WHERE same(a) > 370",
        "SELECT count(*) FROM 'one.parquet' WHERE same(a) > 100 AND same(a) < 300",
        "SELECT same(a), * FROM 'one.parquet' ORDER BY same(a) DESC LIMIT 2",
    ):
        here.execute(sql).fetchall()
        held = here._planner.parser.queries.get(sql)
        assert held is not None
        names = [[i["alias"] for n in nodes(tree) for i in n.get("select_list", [])] for tree in _trees(held)]
        assert MARK not in json.dumps(held.query.tree)
        assert len(names) == 2
        assert names[0] == names[1]


def _trees(held: Found) -> list[Node]:
    """The tree of a query, and those that were made of it to bind it."""
    return [held.query.tree, *(made.tree for made in held.query.bound.values())]


def test_what_the_bound_text_is_made_of(here: skipml.Connection, tmp_path: Path) -> None:
    sql = "SELECT f.id FROM 'one.parquet' AS f JOIN wanted ON f.id = wanted.n WHERE same(f.a) > 5 AND other(f.a) > 5"

    def texts(column: pa.Array) -> int:
        wanted = pa.table({"n": column})
        for _ in range(2):
            assert here.execute(sql).fetchall() == [(380,)]
        held = here._planner.parser.queries.get(sql)
        assert held is not None
        assert wanted.num_rows
        return len(held.query.bound)

    assert texts(pa.array([380])) == 1
    assert texts(pa.array([380.0])) == 2
    _settled(Path(write(tmp_path / "one.parquet", pa.table({"id": np.arange(400), "a": np.arange(400) + 0.5}))))
    assert texts(pa.array([380.0])) == 3
    here.execute("DROP MACRO other")
    here.register_model("other", model(identity_network()))
    assert texts(pa.array([380.0])) == 4


def test_a_view_with_the_name_of_a_file_is_expanded(here: skipml.Connection) -> None:
    here.execute("CREATE VIEW \"one.parquet\" AS SELECT id, a FROM 'two.parquet' WHERE a > 5")
    here.execute("SELECT id FROM 'one.parquet' WHERE same(a) > 1390").fetchall()
    assert here.last_report is not None
    assert here.last_report.counters["skipped"] == 7


def test_the_same_content_has_one_name(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    files = VirtualFiles()
    fresh = [files.add([(str(path), identity(path), [0, 2])]) for _ in range(2)]
    assert fresh[0] != fresh[1]
    _settled(path)
    state = identity(path)
    first = files.add([(str(path), state, [0, 2])])
    assert files.add([(str(path), state, [0, 2])]) == first
    assert files.add([(str(path), state, [0, 3])]) != first
    path.write_bytes(path.read_bytes())
    _settled(path)
    assert files.add([(str(path), identity(path), [0, 2])]) != first
