"""The commands on real files: what they print where, and their exit codes."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model
from typer.testing import CliRunner, Result

from skipml.cli import app

N = 10_240
LIMIT = 9_990


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """t.parquet: five row groups, `a` ascending; f.parquet: the same, no NaN counts; m.onnx: a + b / 2; two.onnx."""
    path = tmp_path_factory.mktemp("cli")
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute(
            f"COPY (SELECT range AS a, (range % 7)::DECIMAL(5, 2) AS b, DATE '2024-01-01' + (range % 300)::INT AS d, "
            f"'x' AS name, CASE WHEN range % 2 = 0 THEN range END AS half FROM range({N})) "
            f"TO '{path / 't.parquet'}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
        )
    rows = np.arange(N, dtype=np.float64)
    pq.write_table(pa.table({"a": rows, "b": rows % 7}), path / "f.parquet", row_group_size=2048)
    _save_model(path / "m.onnx", [[1.0, 0.5]])
    _save_model(path / "two.onnx", [[1.0, 0.5], [-1.0, 0.0]])
    return path


def _save_model(path: Path, weight: list[list[float]]) -> None:
    array = np.array(weight, np.float32)
    shape = [None, array.shape[0]]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, array.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, "w")],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(folder)
    return CliRunner()


def _query(run: CliRunner, *options: str, sql: str = f"SELECT a, b FROM 't.parquet' WHERE m(a, b) > {LIMIT}") -> Result:
    return run.invoke(app, ["query", sql, "--model", "m=m.onnx", *options])


def _expected() -> list[int]:
    return [a for a in range(N) if a + (a % 7) / 2 > LIMIT]


def test_query_prints_a_table_and_the_summary_apart(run: CliRunner) -> None:
    result = _query(run, "--rows", "3")
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if "│" in line]
    assert len(lines) == 3
    assert "Only 3 rows are shown" in result.stderr
    assert "t: Row groups: 5, skipped 4, kept 0, evaluated 1; 80.0 % of 10,240 rows are not read" in result.stderr


def test_query_as_json(run: CliRunner) -> None:
    result = _query(run, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [row["a"] for row in rows] == _expected()
    assert {row["b"] for row in rows} == set(range(7))


def test_query_as_csv(run: CliRunner) -> None:
    result = _query(run, "--csv")
    names, *rows = csv.reader(io.StringIO(result.stdout))
    assert names == ["a", "b"]
    assert [int(row[0]) for row in rows] == _expected()


@pytest.mark.parametrize("options", [["--json"], ["--csv"], []])
def test_the_rows_are_the_same_without_skipping(run: CliRunner, options: list[str]) -> None:
    result = _query(run, "--no-skipping", *options)
    assert result.exit_code == 0
    assert result.stdout == _query(run, *options).stdout
    assert "skipping is switched off" in result.stderr


def test_json_of_every_kind_of_value(run: CliRunner) -> None:
    sql = (
        "SELECT NULL AS nothing, 1.5::FLOAT AS f, 'nan'::DOUBLE AS nan, 0.1::DECIMAL(3, 1) AS short, true AS yes, "
        "12345678901234567890.123456789::DECIMAL(38, 9) AS long, DATE '2024-02-03' AS day, 'ab'::BLOB AS raw, "
        "TIMESTAMP '2024-02-03 04:05:06' AS at, INTERVAL 2 SECONDS AS span, [1, 2] AS list, {'k': 1.0::DOUBLE} AS pair"
    )
    result = run.invoke(app, ["query", sql, "--json"])
    assert json.loads(result.stdout) == [
        {
            "nothing": None,
            "f": 1.5,
            "nan": None,
            "short": 0.1,
            "yes": True,
            "long": "12345678901234567890.123456789",
            "day": "2024-02-03",
            "raw": "6162",
            "at": "2024-02-03T04:05:06",
            "span": 2.0,
            "list": [1, 2],
            "pair": {"k": 1.0},
        }
    ]


def test_no_rows_are_an_empty_array(run: CliRunner) -> None:
    assert _query(run, "--json", sql="SELECT 1 WHERE false").stdout == "[]\n"


def test_several_statements_from_standard_input(run: CliRunner) -> None:
    sql = f"CREATE VIEW v AS FROM 't.parquet'; SELECT count(*) AS n FROM v WHERE m(a, b) > {LIMIT};"
    for command in ("query", "explain"):
        result = run.invoke(app, [command, "-", "-m", "m=m.onnx", "--json"], input=sql)
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert found == [{"n": len(_expected())}] if command == "query" else found["counters"]["skipped"] == 4


def test_the_views_of_a_database(run: CliRunner, folder: Path) -> None:
    with duckdb.connect(folder / "my views.duckdb") as con:
        con.execute(f"CREATE OR REPLACE VIEW v AS FROM '{folder / 't.parquet'}'")
    sql = f"SELECT count(*) AS n FROM v WHERE m(a, b) > {LIMIT}"
    result = _query(run, "--database", "my views.duckdb", "--json", sql=sql)
    assert json.loads(result.stdout) == [{"n": len(_expected())}]
    assert "skipped 4" in result.stderr


def test_explain(run: CliRunner) -> None:
    sql = f"SELECT * FROM 't.parquet' WHERE m(a, b) > {LIMIT}"
    text = run.invoke(app, ["explain", sql, "-m", "m=m.onnx"])
    assert text.exit_code == 0
    assert "skipped 4" in text.stdout
    report = json.loads(run.invoke(app, ["explain", sql, "-m", "m=m.onnx", "--json"]).stdout)
    assert [block["decision"] for block in report["scans"][0]["blocks"]] == ["SKIP"] * 4 + ["EVALUATE"]


def test_a_model_of_several_outputs(run: CliRunner) -> None:
    sql = "SELECT count(*) AS n FROM 't.parquet' WHERE two(a, b)[2] > -5 AND two_class(a, b) = 0"
    result = run.invoke(app, ["query", sql, "-m", "two=two.onnx", "--json"])
    assert json.loads(result.stdout) == [{"n": 5}]
    assert "skipped 4" in result.stderr


def test_inspect_a_parquet_file(run: CliRunner) -> None:
    facts = json.loads(run.invoke(app, ["inspect", "t.parquet", "--json"]).stdout)
    assert (facts["row_groups"], facts["rows"]) == (5, N)
    columns = {column["name"]: column for column in facts["columns"]}
    assert (columns["a"]["min"], columns["a"]["max"], columns["a"]["row_groups_known"]) == (0, N - 1, 5)
    assert columns["half"]["nulls"] == N // 2
    assert columns["d"]["type"] == "DATE"
    assert columns["name"]["min"] is None
    assert columns["name"]["notes"] == {"no model input": 5}
    text = run.invoke(app, ["inspect", "t.parquet"]).stdout
    assert "5 row groups, 10,240 rows" in text
    assert "no model input" in text


def test_inspect_tells_where_nan_is_possible(run: CliRunner) -> None:
    facts = json.loads(run.invoke(app, ["inspect", "f.parquet", "--json"]).stdout)
    assert facts["columns"][0]["row_groups_that_may_hold_nan"] == 5
    assert facts["columns"][0]["notes"] == {"no NaN count; skipml enrich adds one": 5}


def test_inspect_many_files(run: CliRunner) -> None:
    result = run.invoke(app, ["inspect", "t.parq*"])
    assert result.exit_code == 0
    assert "1 file, 5 row groups" in result.stdout


def test_inspect_a_model(run: CliRunner) -> None:
    facts = json.loads(run.invoke(app, ["inspect", "m.onnx", "--json"]).stdout)
    assert (facts["inputs"], facts["outputs"], facts["dtype"], facts["ops"]) == (2, 1, "float32", ["Affine 2 -> 1"])
    assert len(facts["hash"]) == 64
    assert "Affine 2 -> 1" in run.invoke(app, ["inspect", "m.onnx"]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "SELECT * FROM 'nowhere.parquet'"], "nowhere.parquet"),
        (["query", "SELEC 1"], "syntax error"),
        (["query", "SELECT 1", "-m", "m=nowhere.onnx"], "nowhere.onnx: cannot be read"),
        (["query", "SELECT 1", "-m", "m=t.parquet"], "t.parquet"),
        (["query", "SELECT 1", "-m", "two words=m.onnx"], "not a plain SQL identifier"),
        (["query", "SELECT 1", "--database", "nowhere.duckdb"], "nowhere.duckdb"),
        (["query", "SELECT m(1, 2)"], "--model NAME=FILE"),
        (["explain", "SELEC 1"], "syntax error"),
        (["inspect", "nowhere.parquet"], "no file matches 'nowhere.parquet'"),
        (["inspect", "garbage.parquet"], "garbage.parquet"),
        (["inspect", "nowhere.onnx"], "nowhere.onnx: cannot be read"),
    ],
)
def test_an_error_is_one_line(run: CliRunner, folder: Path, arguments: list[str], message: str) -> None:
    (folder / "garbage.parquet").write_bytes(b"garbage" * 10)
    result = run.invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["query"],
        ["query", " ; "],
        ["query", "SELECT 1", "-m", "m.onnx"],
        ["query", "SELECT 1", "--json", "--csv"],
        ["x"],
    ],
)
def test_wrong_usage_exits_with_2(run: CliRunner, arguments: list[str]) -> None:
    assert run.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["query", "explain", "inspect", "enrich", "advise", "cluster"])
def test_help_has_an_example(run: CliRunner, command: str) -> None:
    result = run.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.stdout


def test_version(run: CliRunner) -> None:
    assert run.invoke(app, ["--version"]).stdout.startswith("skipml 0.")


def test_enrich_then_inspect(run: CliRunner, tmp_path: Path) -> None:
    arguments = ["f.parquet", "--columns", "a,b", "--pairs", "a:b", "--boxes", "2", "--root", str(tmp_path)]
    result = run.invoke(app, ["enrich", *arguments])
    assert result.exit_code == 0
    assert "1 enriched" in result.stdout
    assert "hulls of a, b" in result.stdout
    again = json.loads(run.invoke(app, ["enrich", *arguments, "--json"]).stdout)
    assert [file["state"] for file in again["files"]] == ["up to date"]
    facts = json.loads(run.invoke(app, ["inspect", "f.parquet", "--root", str(tmp_path), "--json"]).stdout)
    assert [column["row_groups_that_may_hold_nan"] for column in facts["columns"]] == [0, 0]
    assert facts["hulls"] == {"a, b": 5}
    assert facts["boxes"] == {"a, b": 10}
    text = run.invoke(app, ["inspect", "f.parquet", "--root", str(tmp_path)]).stdout
    assert "hulls of a, b in 5 row groups" in text
    failed = run.invoke(app, ["enrich", "t.parquet", "--columns", "name", "--words", "0", "--root", str(tmp_path)])
    assert failed.exit_code == 1
    assert "column 'name' has type" in failed.stderr


def test_enrich_with_scores_rows_and_blocks(run: CliRunner, tmp_path: Path) -> None:
    more = ["--model", "m.onnx", "--block-rows", "1000", "--witness-bytes", "64", "--score-bytes", "8"]
    arguments = ["f.parquet", "--columns", "a,b", "--root", str(tmp_path)]
    assert run.invoke(app, ["enrich", *arguments, *more]).exit_code == 0
    text = run.invoke(app, ["inspect", "f.parquet", "--root", str(tmp_path)]).stdout
    for line in ("blocks, finer than the row groups", "over a, b, 24 bytes for each block", "rows as witnesses"):
        assert line in text


def test_cluster(run: CliRunner, tmp_path: Path) -> None:
    target = tmp_path / "c.parquet"
    arguments = ["cluster", "t.parquet", str(target), "--by", "b,a", "--row-group-rows", "1024"]
    result = run.invoke(app, [*arguments, "--method", "kdtree"])
    assert result.exit_code == 0
    assert "10,240 rows clustered (kdtree)" in result.stdout
    assert pq.ParquetFile(target).num_row_groups == 10
    facts = json.loads(run.invoke(app, [*arguments, "--json"]).stdout)
    assert facts["row_groups"] == [5, 10]
    assert "no column" in run.invoke(app, ["cluster", "t.parquet", str(target), "--by", "gone"]).stderr


def test_advise(run: CliRunner, tmp_path: Path) -> None:
    arguments = ["advise", "f.parquet", "--columns", "a,b", "--bytes", "40"]
    result = run.invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    command = next(line for line in result.stdout.splitlines() if line.startswith("skipml enrich "))
    assert run.invoke(app, [*shlex.split(command)[1:], "--root", str(tmp_path)]).exit_code == 0
    facts = json.loads(run.invoke(app, [*arguments, "--model", "m.onnx", "--json"]).stdout)
    assert facts["probes"] is False
    assert facts["bytes_per_row_group"] <= 40
    named = ["advise", "f.parquet", "--model", "m.onnx", "--model-columns", "b,a", "--json"]
    assert json.loads(run.invoke(app, named).stdout)["columns"] == ["b", "a"]
    assert run.invoke(app, ["advise", "f.parquet", "--model", "m.onnx"]).exit_code == 2
    assert "gone" in run.invoke(app, ["advise", "f.parquet", "--columns", "gone"]).stderr
