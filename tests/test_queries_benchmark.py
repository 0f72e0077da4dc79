"""The benchmark of whole queries sees what it looks for, and sums up what it measured."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import skipml
from benchmarks.tpc.queries import predicates, standard
from benchmarks.tpc.queries.model_queries import ModelQuery, model_queries
from benchmarks.tpc.queries.output import print_figures, record
from benchmarks.tpc.queries.predicates import WithModel, measure_predicates
from benchmarks.tpc.queries.standard import Standard, measure_standard
from benchmarks.tpc.queries.turns import ResultsDifferError, Times, check_same
from benchmarks.tpc.suite import ModelSpec, Suite, TableSpec
from benchmarks.tpc.tables.layouts import ORDERS
from tests.oracle import identity, model

_SPEC = ModelSpec("same", "lines", ("a",), "a")
_SQL = "-- Rows at the end.\nSELECT a FROM lines WHERE same(a) > 90 ORDER BY a"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "q01.sql").write_text(_SQL)
    return Suite("tpch", tmp_path, (_SPEC,), (TableSpec("lines", ("a",), "a"),), "same")


def write(path: Path, values: list[int]) -> Mapping[str, Path]:
    pq.write_table(pa.table({"a": values}), path, row_group_size=10)
    return {"lines": path}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`lines` has 100 rows, clustered the same as generated."""
    tables = write(tmp_path / "lines.parquet", list(range(100)))

    def register(connection: skipml.Connection, *_: object) -> None:
        connection.register_model("same", model(identity()))

    for module in (predicates, standard):
        monkeypatch.setattr(module, "tpc_tables", lambda *_, **__: tables)
        monkeypatch.setattr(module, "register_models", register)
    monkeypatch.setattr(predicates, "files", lambda *_: tables)


def nothing() -> None:
    pass


def test_queries_say_what_they_are_for(suite: Suite) -> None:
    (query,) = model_queries(suite)
    assert (query.name, query.purpose, query.models) == ("q01", "Rows at the end.", (_SPEC,))
    (suite.folder / "queries" / "q02.sql").write_text("-- Calls nothing.\nSELECT 1")
    with pytest.raises(ValueError, match=r"q02.sql must begin with a comment and call one of same"):
        model_queries(suite)


def test_row_groups_are_skipped_and_the_rows_are_right(suite: Suite) -> None:
    found = measure_predicates(suite, model_queries(suite), 1, 2, nothing)
    assert [(x.order, x.rows, x.row_groups, x.skipped) for x in found] == [
        ("generated", 9, 10, 9),
        ("clustered", 9, 10, 9),
    ]


def test_a_lost_row_is_found(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = write(tmp_path / "lossy.parquet", list(range(99)))
    monkeypatch.setattr(predicates, "files", lambda *_: lossy)
    with pytest.raises(ResultsDifferError, match=r"row 8 is missing, on plain DuckDB it is \(99,\)"):
        measure_predicates(suite, model_queries(suite), 1, 1, nothing)


def test_a_query_that_is_not_planned_is_an_error(suite: Suite) -> None:
    with pytest.raises(RuntimeError, match="q09 was not planned"):
        measure_predicates(suite, [ModelQuery("q09", "SELECT same(1)", (_SPEC,))], 1, 1, nothing)


def test_standard_queries_run_both_ways(suite: Suite) -> None:
    queries = {"q01": "SELECT count(*), sum(a) FROM lines", "q02": "SELECT a AS same FROM lines ORDER BY a"}
    found = measure_standard(suite, queries, 1, 2, nothing)
    assert [(x.query, x.rows, x.analysed) for x in found] == [("q01", 1, False), ("q02", 100, True)]
    assert min(found[0].plain.seconds, found[0].skipml.processor, found[0].analysis) > 0


def test_order_counts() -> None:
    check_same([(1,), (2,)], [(1,), (2,)], "q")
    with pytest.raises(ResultsDifferError, match=r"q: row 0 is \(2,\), on plain DuckDB it is \(1,\)"):
        check_same([(2,), (1,)], [(1,), (2,)], "q")


def test_figures() -> None:
    fast, slow = Times(0.5, 0.75), Times(2.0, 1.5)
    queries = [Standard("q01", 3, fast, slow, False, 0.01), Standard("q02", 3, slow, fast, True, 0.03)]
    measured = [WithModel("q03", "", order, 5, slow, fast, 0.1, 10, 9) for order in ORDERS]
    found = record(queries, measured)
    assert found["standard"]["ratio"] == {"geometric_mean": 1.0, "worst": 4.0, "worst_query": "q01"}
    assert found["standard"]["processor_ratio"]["worst"] == 2.0
    assert found["standard"]["analysed"] == ["q02"]
    assert found["standard"]["analysis_ms_if_a_view_calls_a_model"] == {"mean": 20.0, "most": 30.0}
    assert found["with_model"]["clustered"]["speedup"] == {"geometric_mean": 4.0, "least": 4.0, "greatest": 4.0}
    assert (found["with_model"]["generated"]["skipped"], found["with_model"]["generated"]["row_groups"]) == (9, 10)
    out = io.StringIO()
    print_figures(Console(file=out, width=120), found)
    assert out.getvalue().count("9 of 10") == 2
    assert "1.000 times as long" in out.getvalue()
