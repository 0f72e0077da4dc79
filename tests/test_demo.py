"""The demo on a small table: it compares what it says it compares, and writes what it measured."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from rich.console import Console

from benchmarks.demo.__main__ import run
from benchmarks.demo.measure import Measured, measure
from benchmarks.demo.network import threshold
from benchmarks.demo.output import BEGIN, END, plot, print_measured, update_readme, write_json
from benchmarks.demo.systems import System

pytestmark = pytest.mark.skipif(duckdb.__version__ < "2", reason="the row groups scanned are shown by DuckDB 2.0")

_ROWS = 40_960
_ENVIRONMENT = {"processor": "P", "cores": 2, "duckdb": "2", "torch": "2"}
_LINES = f"""
    SELECT i // 4 AS l_orderkey, i % 4 AS l_linenumber, (1 + i * 7919 % 50)::DECIMAL(15, 2) AS l_quantity,
           (900 + i * 7907 % 100_000)::DECIMAL(15, 2) AS l_extendedprice,
           (i % 11 / 100)::DECIMAL(15, 2) AS l_discount, (i % 9 / 100)::DECIMAL(15, 2) AS l_tax
    FROM range({_ROWS}) AS t(i)"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    paths = {"as generated": folder / "lines.parquet", "sorted": folder / "sorted.parquet"}
    with duckdb.connect(config={"threads": 1}) as con:
        for path, order in zip(paths.values(), ("i", "l_extendedprice"), strict=True):
            con.execute(f"COPY ({_LINES} ORDER BY {order}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return paths


@pytest.fixture(scope="module")
def results(tables: dict[str, Path]) -> list[Measured]:
    console = Console(file=io.StringIO())
    return run(console, tables, tables["sorted"].with_name("charge.onnx"), n_warm=2)


def test_every_way_runs_on_every_layout(results: list[Measured]) -> None:
    assert [measured.layout for measured in results] == ["as generated", "sorted"]
    for measured in results:
        names = [run.system for run in measured.runs]
        assert (names[0], names[-2:]) == ("PyTorch UDF", ["skipml, skipping off", "skipml"])
        assert ("scorer: native" in measured.report) == ("skipml, scoring in Python" in names)
        assert all(len(run.warm) == 2 and run.first > 0 for run in measured.runs)
        assert 30 <= measured.rows <= 50


def test_the_row_groups_are_those_that_duckdb_counts(results: list[Measured]) -> None:
    for measured in results:
        assert [measured.runs[i].row_groups for i in (0, -2)] == [(20, 20)] * 2
        scanned, total = measured.runs[-1].row_groups
        assert (0 < scanned <= 20, total) == (True, 20)


def test_only_skipml_plans(results: list[Measured]) -> None:
    for runs in results[0].runs:
        assert len(runs.planning) == (0 if runs.system in ("PyTorch UDF", "skipml, skipping off") else 2)


def test_a_lost_row_fails_the_demo(tables: dict[str, Path]) -> None:
    def connection(limit: int) -> duckdb.DuckDBPyConnection:
        found = duckdb.connect()
        found.execute(f"CREATE MACRO charge(a, b, c) AS CASE WHEN b < {limit} THEN b ELSE 0 END")
        return found

    whole, lossy = System("whole", lambda: connection(200_000)), System("lossy", lambda: connection(100_899))
    with pytest.raises(AssertionError, match="lossy and whole differ in a row"):
        measure("sorted", tables["sorted"], [whole, lossy], 100_000, n_warm=1, tick=lambda: None)


def test_output(results: list[Measured], tmp_path: Path) -> None:
    out = io.StringIO()
    for measured in results:
        print_measured(Console(file=out, width=120), measured)
    assert out.getvalue().count("20 of 20") >= 4
    assert out.getvalue().count("Row groups: 20, skipped") == 2
    write_json(tmp_path / "demo.json", _ENVIRONMENT, results)
    assert len(json.loads((tmp_path / "demo.json").read_text())["layouts"][0]["systems"][0]["warm_seconds"]) == 2
    plot(tmp_path / "demo.png", results)
    assert (tmp_path / "demo.png").stat().st_size > 5000
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update_readme(readme, _ENVIRONMENT, results)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("\n| ") == 1 + sum(len(measured.runs) for measured in results)


def test_the_readme_needs_its_markers(results: list[Measured], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(BEGIN)
    with pytest.raises(ValueError, match=r"README\.md lacks the lines"):
        update_readme(tmp_path / "README.md", _ENVIRONMENT, results)


def test_the_threshold_lies_in_the_widest_gap() -> None:
    scores = np.arange(10_000, dtype=np.float64)
    scores[9_900:] += 7
    assert threshold(np.random.default_rng(0).permutation(scores), 0.01) == 9_903.0
