"""The extension scores as Python does, on every connection to a database, and says so; without it, Python scores."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.engines import planner, scorers
from skipml.engines.extension import load_extension
from skipml.engines.kernels import Kernels
from skipml.function import Function
from skipml.graph import Elementwise, Graph, Node
from skipml.heads import Head
from skipml.library import NoExtensionError, find_extension
from skipml.linked import Linked
from skipml.links import Link
from skipml.network import Affine, LeakyRelu, Network
from skipml.scores import PYTHON_COST
from tests.engines.conftest import Lake
from tests.oracle import ask, identity, linear, model, rows_of
from tests.scorers import no_kernels

_ALLOWED: dict[str, Any] = {"allow_unsigned_extensions": "true"}


def _runs() -> bool:
    with duckdb.connect(config=_ALLOWED) as connection:
        try:
            load_extension(connection, find_extension())
        except NoExtensionError:
            return False
    return True


pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.skipif(not _runs(), reason="the extension is not built")]


def _registered(con: skipml.Connection) -> skipml.Connection:
    con.register_model("minus", model(linear([[1, -1]], [0])))
    con.register_model("minus64", model(linear([[1, -1]], [0], "float64")))
    con.register_model("multi", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0])))
    con.register_model("multi64", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0], "float64")))
    return con


@pytest.fixture
def native() -> Iterator[skipml.Connection]:
    with skipml.connect(config={"threads": 1, **_ALLOWED}) as con:
        yield _registered(con)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Iterator[skipml.Connection]:
    monkeypatch.setattr(scorers, "Kernels", no_kernels)
    with skipml.connect(config={"threads": 1, "allow_unsigned_extensions": "false"}) as con:
        yield _registered(con)


@pytest.fixture
def kernels(python: skipml.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[skipml.Connection]:
    monkeypatch.setattr(scorers, "Kernels", Kernels)
    with skipml.connect(config={"threads": 1, "allow_unsigned_extensions": "false"}) as con:
        yield _registered(con)


_ARGUMENTS = (
    *("1, 2", "i, i", "i::TINYINT, u", "h, i", "f, i", "dec, i", "i, NULL", "NULL, NULL", "n, i", "i, '3'", "i, l[1]"),
    *("i, d", "i, s", "i, bo", "i, ts", "i, 'x'", "i, l", "i", "i, i, i", "i, INTERVAL 1 DAY", "i, '1'::BLOB", ""),
    *("i, nothing", "i, (SELECT max(u) FROM t)", "i, CASE WHEN i > 1 THEN 1 END", "i, bo::INTEGER", "i, epoch(ts)"),
    *("'nan'::FLOAT, i", "i, 'inf'::DOUBLE", "i + 1e39, i", "i * 0, i * 0", "DISTINCT i, i", "i, minus(i, 1)", "*"),
)
_FORMS = ("SELECT {call} FROM t", "SELECT i FROM t WHERE {call} > 0", "SELECT count(*) FROM t GROUP BY {call}")


@pytest.mark.parametrize("function", ["minus", "minus64", "multi", "multi64", "multi_class", "multi64_class"])
def test_the_same_arguments_give_the_same_rows_or_errors(
    native: skipml.Connection, python: skipml.Connection, kernels: skipml.Connection, function: str
) -> None:
    for con in (native, python, kernels):
        con.execute(
            "CREATE TABLE t AS SELECT i, i::UBIGINT u, i::HUGEINT h, i::FLOAT f, i::DECIMAL(9, 2) AS dec, "
            "DATE '2020-01-01' d, i::VARCHAR s, i > 1 AS bo, TIMESTAMP '2020-01-01' ts, [i] AS l, "
            "CASE WHEN i % 3 > 0 THEN i END AS n FROM range(5000) t(i)"
        )
    for arguments in _ARGUMENTS:
        for form in _FORMS:
            sql = form.format(call=f"{function}({arguments})")
            assert _outcome(native, sql) == _outcome(python, sql) == _outcome(kernels, sql), sql


def _outcome(con: skipml.Connection, sql: str) -> object:
    try:
        result = con.execute(sql)
        return [column[:2] for column in result.description], sorted(map(repr, result.fetchall()))
    except duckdb.Error as error:
        return type(error).__name__


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT (i).minus(1), main.minus(i, 1), "MINUS"(i, 2) FROM t',
        "SELECT list_transform([1, 2], lambda x1: minus(x1, i)) FROM t",
        "SELECT minus(i, i), count(*) FROM t GROUP BY ALL HAVING minus(count(*), 0) > 0 ORDER BY minus(count(*), i)",
        "SELECT sum(minus(i, 1)) OVER (ORDER BY i) FROM t QUALIFY minus(i, 1) > 1",
        "SELECT a.i FROM t a JOIN t b ON minus(a.i, b.i) = 1 WHERE EXISTS (FROM t c WHERE minus(a.i, c.i) > 0)",
        "SELECT x1 FROM (SELECT i AS x1, minus(1, i) AS x2 FROM t) WHERE minus(x1, x2) > 3",
        "PREPARE p AS SELECT minus(i, ?) FROM t; EXECUTE p(1)",
        "CREATE OR REPLACE VIEW v AS SELECT minus(i, 1) AS score, multi(i, 1) FROM t; DESCRIBE v",
        "CREATE OR REPLACE MACRO m(p) AS minus(p, 1) > 2; SELECT i FROM t WHERE m(i)",
        "CREATE OR REPLACE TABLE u AS SELECT multi(i, 1) AS outputs FROM t; DESCRIBE u",
        "SELECT minus(COLUMNS(c -> c = 'i'), 1) FROM t",
        "SELECT minus(i, 1) FILTER (i > 1) FROM t",
    ],
)
def test_calls_stand_where_functions_stand(native: skipml.Connection, python: skipml.Connection, sql: str) -> None:
    for con in (native, python):
        con.execute("CREATE TABLE t AS SELECT i FROM range(8) t(i)")
    assert _outcome(native, sql) == _outcome(python, sql)


def test_scores_are_those_of_python_but_for_rounding(
    tmp_path: Path, count_cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorers, "Kernels", Kernels)
    rng = np.random.default_rng(7)
    path = tmp_path / "x.parquet"
    values = rng.normal(size=(4000, 3))
    values[:60] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, 1e-40], (60, 3))
    null = rng.random((4000, 3)) < 0.05
    pq.write_table(pa.table({c: pa.array(values[:, i], mask=null[:, i]) for i, c in enumerate("abc")}), path)
    forbidden = {"allow_unsigned_extensions": "false"}
    with skipml.connect(config=_ALLOWED) as con, skipml.connect(config=forbidden) as other:
        assert "kernels" in other.explain("SELECT 1").scorer
        for case, (dtype, outputs) in enumerate((d, n) for d in (np.float32, np.float64) for n in (1, 3)):
            width = int(rng.integers(1, 40))
            first = Affine(rng.normal(size=(width, 3)).astype(dtype), rng.normal(size=width).astype(dtype))
            last = Affine(rng.normal(size=(outputs, width)).astype(dtype), rng.normal(size=outputs).astype(dtype))
            network = Network(3, outputs, np.dtype(dtype), (first, LeakyRelu(0.1), last))
            sql = f"SELECT m{case}(a, b, c) FROM '{path}'"
            for connection in (con, other):
                connection.register_model(f"m{case}", model(network))
            found = [row[0] for row in con.execute(sql).fetchall()]
            assert repr(found) == repr([row[0] for row in other.execute(sql).fetchall()])  # the same kernels
            assert [score is None for score in found] == null.any(axis=1).tolist()
            some = ~null.any(axis=1)
            with np.errstate(over="ignore"):
                expected = network.forward(values[some])
            scores = np.array([s for s in found if s is not None], dtype).reshape(-1, outputs)
            near = 1e-4 if dtype is np.float32 else 1e-12
            assert np.allclose(scores, expected, rtol=near, atol=near, equal_nan=True)
    count_cases(4 * 4000)


def test_the_report_says_which_scorer_runs(
    native: skipml.Connection, python: skipml.Connection, kernels: skipml.Connection, lake: Lake
) -> None:
    sql = lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370")
    for con, name in (
        (native, "native ("),
        (python, "Python (unsigned extensions are not allowed"),
        (kernels, "Python with the extension's kernels (unsigned extensions are not allowed"),
    ):
        for report in (con.explain(sql), con.explain("SELECT 1")):
            assert report.to_dict()["scorer"].startswith(name)
            assert f"scorer: {name}" in str(report)
    assert [con.explain(sql).counters["skipped"] for con in (native, python, kernels)] == [7, 7, 7]
    assert native.explain(sql).scans[0].predicate == python.explain(sql).scans[0].predicate


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "is not a file"), (b"nothing", "could not be loaded"), ("package", "no extension")]
)
def test_without_the_extension_python_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str | None, reason: str
) -> None:
    path = tmp_path / "skipml.duckdb_extension"
    if content == "package":
        monkeypatch.delenv("SKIPML_EXTENSION", raising=False)
        monkeypatch.setattr("skipml.library.__file__", str(tmp_path / "skipml/library.py"))
    else:
        monkeypatch.setenv("SKIPML_EXTENSION", str(path))
    if isinstance(content, bytes):
        path.write_bytes(content)
    with skipml.connect(config=_ALLOWED) as con:
        con.register_model("same", model(identity()))
        assert rows_of(con, "SELECT same(3)") == [(3.0,)]
        assert reason in con.explain("SELECT 1").scorer


def test_a_network_too_large_for_the_extension_is_scored_by_python(
    native: skipml.Connection, kernels: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> bytes:
        raise skipml.ModelError("too large")

    monkeypatch.setattr(scorers, "to_bytes", refuse)
    monkeypatch.setattr("skipml.engines.kernels.to_bytes", refuse)
    for con in (native, kernels):
        con.register_model("large", model(linear([[1], [2]], [0, 0])))
        assert rows_of(con, "SELECT large(3), large_class(3)") == [([3.0, 6.0], 1)]
    answers = ask(native, lake.sql("SELECT id FROM {one} WHERE large(a)[1] > 370 AND minus(a, b) > 0"))
    assert answers.skipping == answers.plain
    assert answers.skipped == 7
    native.remove_function("large")
    with pytest.raises(duckdb.CatalogException):
        native.execute("SELECT large(3)")


@pytest.mark.parametrize("kind", ["Graph", "Linked", "Head"])
def test_the_report_names_models_that_python_scores_beside_the_extension(
    native: skipml.Connection, python: skipml.Connection, lake: Lake, kind: str
) -> None:
    graph = Graph(1, np.dtype("f4"), (Node(Elementwise("tanh"), (0,)),))
    functions: dict[str, Function] = {
        "Graph": graph,
        "Linked": Linked(graph, Link("logistic")),
        "Head": Head(linear([[1, 1]], [0])),
    }
    argument = "[a, b]::FLOAT[]" if kind == "Head" else "a"
    sql = lake.sql(f"SELECT id FROM {{one}} WHERE other({argument}) > 0.5 AND minus(a, b) > 370")
    for con in (native, python):
        con.register_model("other", skipml.Model(functions[kind], ("a",)))
    said, silent = native.explain(sql), native.explain(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
    assert re.search(rf"; Python for other: the DuckDB extension evaluates .*not a {kind}", said.scorer)
    assert said.scorer in str(said)
    assert said.to_dict()["scorer"] == said.scorer
    assert "Python for" not in silent.scorer
    assert "Python for" not in python.explain(sql).scorer, "all are scored by Python, which is said"
    assert rows_of(native, sql) == rows_of(python, sql)
    native.execute(f"CREATE MACRO hidden(a, b) AS other({argument}) > 0.5")
    behind = native.explain(lake.sql("SELECT id FROM {one} WHERE hidden(a, b) AND minus(a, b) > 370"))
    assert "Python for other" in behind.scorer


def test_a_scan_says_how_much_smaller_its_network_got(python: skipml.Connection, lake: Lake) -> None:
    hidden = Affine(np.array([[1, 0], [-1, 0], [0, -1], [0, -2]], "f"), np.array([0, -1, -1, -1], "f"))
    ops = (hidden, LeakyRelu(0.0), Affine(np.ones((1, 4), "f"), np.zeros(1, "f")))
    python.register_model("dead", skipml.Model(Network(2, 1, np.dtype("f4"), ops), ("a", "b")))
    report = python.explain(lake.sql("SELECT id FROM {one} WHERE dead(a, b) > 370 AND minus(a, b) > -1000"))
    assert "bounded as 2-1-1 instead of 2-4-1: 75 % of the weights give nothing here" in str(report)
    assert report.to_dict()["scans"][0]["narrowed"][0]["weights"] == 3
    rows = rows_of(python, lake.sql("SELECT id FROM {one} WHERE dead(a, b) > 370 ORDER BY id"))
    assert rows == rows_of(python, lake.sql("SELECT id FROM {one} WHERE a > 370 ORDER BY id"))


def test_a_cursor_follows_what_another_registers_and_removes(native: skipml.Connection) -> None:
    cursor = native.cursor()
    native.register_model("later", model(identity()))
    relation = cursor.sql("SELECT later(1)")
    assert relation is not None
    assert relation.fetchall() == [(1.0,)]
    native.remove_function("later")
    native.register_model("later", model(linear([[2]], [0])))
    assert rows_of(cursor, "SELECT later(1)") == [(2.0,)]
    relation = cursor.sql("FROM range(3) t(i)")
    cursor.remove_function("later")
    with pytest.raises(skipml.RegistrationError):
        native.register_model("minus", model(identity()))
    native.register_model("final", model(identity()))
    assert relation is not None
    assert relation.filter("final(i) > 1").fetchall() == [(2,)]
    for con in (native, cursor):
        with pytest.raises(duckdb.CatalogException):
            con.execute("SELECT later(1)")
    assert {row[0].split("@")[0] for row in rows_of(native, "FROM skipml_models()")} == {
        *("minus", "minus64", "multi", "multi64", "final")
    }


def test_a_macro_of_a_cursor_stays(native: skipml.Connection) -> None:
    cursor = native.cursor()
    cursor.execute("CREATE TEMP MACRO mine(x) AS 7")
    native.register_model("mine", model(identity()))
    assert rows_of(native, "SELECT mine(1)") == [(1.0,)]
    assert rows_of(cursor, "SELECT mine(1)") == [(7,)]
    with pytest.raises(skipml.RegistrationError, match="already"):
        native.register_model("MINE", model(identity()))


def test_registration_survives_a_transaction_that_is_rolled_back(native: skipml.Connection) -> None:
    native.execute("BEGIN")
    native.register_model("later", model(identity()))
    native.remove_function("minus")
    native.register_model("minus", model(linear([[1, 1]], [0])))
    assert rows_of(native, "SELECT later(1), minus(1, 1)") == [(1.0, 2.0)]
    native.execute("ROLLBACK")
    for _ in range(2):
        assert rows_of(native, "SELECT later(1), minus(1, 1)") == [(1.0, 2.0)]
    native.execute("BEGIN")
    with pytest.raises(duckdb.Error):
        native.execute("SELECT error('aborts')")
    cursor = native.cursor()
    cursor.register_model("other", model(identity()))
    native.execute("ROLLBACK")
    assert rows_of(native, "SELECT other(1)") == [(1.0,)]


def test_nothing_is_stored_in_a_database(tmp_path: Path) -> None:
    path = str(tmp_path / "kept.duckdb")
    for read_only in (False, True):
        with skipml.connect(path, read_only=read_only, config=_ALLOWED) as con:
            con.register_model("minus", model(linear([[1, -1]], [0])))
            assert con.explain("SELECT 1").scorer.startswith("native")
            assert rows_of(con, "SELECT minus(3, 1)") == [(2.0,)]
    with duckdb.connect(path) as plain, pytest.raises(duckdb.CatalogException):
        plain.execute("SELECT minus(3, 1)")


def test_a_saved_model_is_loaded_by_sql(native: skipml.Connection, tmp_path: Path) -> None:
    model(linear([[1, -1]], [0.5])).save(tmp_path / "saved.skipml")
    native.execute(f"CALL skipml_load('{tmp_path}/saved.skipml')")
    assert rows_of(native, "SELECT skipml_score('saved', 3, 1)") == [(2.5,)]


def test_a_view_is_read_with_the_model_of_the_day(tmp_path: Path) -> None:
    path = str(tmp_path / "kept.duckdb")
    for scale in (1, 2):
        with skipml.connect(path, config=_ALLOWED) as con:
            con.register_model("scaled", model(linear([[scale]], [0])))
            con.execute("CREATE VIEW IF NOT EXISTS v AS SELECT scaled(3) AS score")
            assert rows_of(con, "FROM v") == [(3.0 * scale,)]


def test_a_plan_with_another_models_macro_skips_nothing(native: skipml.Connection, lake: Lake) -> None:
    native._plain.execute("CREATE OR REPLACE TEMP MACRO minus(a, b) AS skipml_score('nobody@0', b, a)")
    report = native.explain(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
    assert report.counters["skipped"] == 0


def test_threads_score_and_register_at_once(native: skipml.Connection) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        cursor = native.cursor()
        for round_ in range(5):
            name = f"m{number}_{round_}"
            cursor.register_model(name, model(linear([[number]], [round_])))
            if rows_of(cursor, f"SELECT {name}(10)") != [(10.0 * number + round_,)]:
                wrong.append(name)
            cursor.remove_function(name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_budget_is_that_of_the_scorer(
    native: skipml.Connection,
    python: skipml.Connection,
    kernels: skipml.Connection,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs: list[float] = []

    def note(cost: float, **given: Any) -> Budget:
        costs.append(cost)
        return Budget(cost, **given)

    monkeypatch.setattr(planner, "Budget", note)
    monkeypatch.setattr(scorers, "measured_seconds_per_row", lambda function, estimate, private: estimate)
    for con in (python, native, kernels):
        monkeypatch.setattr(con._shared.scorer, "_measured", {})
    sql = lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370 AND minus(a, b) < 500 AND multi_class(a, b) = 1")
    for con, threads in ((python, 1), (python, 2), (native, 1), (native, 2), (kernels, 2)):
        con.execute(f"SET threads = {threads}")
        con.explain(sql)
    assert costs[0] == costs[1]
    assert costs[2] == 2 * costs[3]
    assert costs[0] > 5 * costs[2]
    macs = 2 + 6
    assert costs[0] == pytest.approx(2 * PYTHON_COST.per_row + macs * PYTHON_COST.per_mac)
    assert costs[2] == pytest.approx(2 * scorers.NATIVE_COST.per_row + macs * scorers.NATIVE_COST.per_mac)
    assert costs[4] == pytest.approx(2 * scorers.KERNELS_COST.per_row + macs * scorers.KERNELS_COST.per_mac)


def test_damaged_and_foreign_libraries_have_no_kernels(tmp_path: Path) -> None:
    path = tmp_path / "skipml.duckdb_extension"
    path.write_bytes(find_extension().read_bytes()[:4096])
    with pytest.raises(NoExtensionError, match="could not be loaded"):
        Kernels(path)
    with pytest.raises(NoExtensionError, match="could not be loaded"):
        Kernels(duckdb.__file__)


def test_threads_share_the_kernels_and_other_threads_run_meanwhile() -> None:
    rng = np.random.default_rng(0)
    wide = Affine(rng.normal(size=(64, 2)).astype(np.float32), rng.normal(size=64).astype(np.float32))
    last = Affine(rng.normal(size=(1, 64)).astype(np.float32), np.zeros(1, np.float32))
    loaded = Kernels(find_extension()).load(Network(2, 1, np.dtype(np.float32), (wide, LeakyRelu(0.0), last)))
    columns = [rng.normal(size=20_000) for _ in range(2)]
    expected = loaded.forward_columns(columns)
    found: list[bool] = []

    def work(start: int) -> None:
        for size in (1, 7, 1000, 20_000 - start):
            part = [column[start : start + size] for column in columns]
            found.append(np.array_equal(loaded.forward_columns(part), expected[start : start + size]))

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1, 13, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 16
