from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from skipml.cli import app
from tests.ann.brute import clustered, nearest, table_of


def test_build_and_search(tmp_path: Path) -> None:
    rows = clustered(300, 8)
    pq.write_table(table_of(rows, name=pa.array([f"row {i}" for i in range(300)])), tmp_path / "rows.parquet")
    folder = str(tmp_path / "index")
    runner = CliRunner()
    done = runner.invoke(app, ["index", "build", str(tmp_path / "rows.parquet"), folder, "--column", "v", "--json"])
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["rows"] == 300
    assert facts["dimension"] == 8
    ids, _ = nearest("l2", rows[5], rows, 3)
    query = ["index", "search", folder, "--query", json.dumps(rows[5].tolist()), "-k", "3"]
    found = runner.invoke(app, [*query, "--json"])
    assert [row["name"] for row in json.loads(found.stdout)] == [f"row {i}" for i in ids]
    assert "exact" in found.stderr
    np.save(tmp_path / "queries.npy", rows[:4])
    many = ["index", "search", folder, "--queries", str(tmp_path / "queries.npy"), "--nprobe", "2", "-k", "2", "--csv"]
    lines = runner.invoke(app, many).stdout.splitlines()
    assert lines[0] == "query,rank,row_id,name,distance"
    assert len(lines) == 9
    again = runner.invoke(app, [*many[:4], str(tmp_path / "rows.parquet"), "-k", "1"])
    assert again.exit_code == 0
    assert "Only 40 rows" in again.stderr


def test_errors_are_one_line(tmp_path: Path) -> None:
    runner = CliRunner()
    for arguments in (
        ["search", str(tmp_path), "--query", "[1, 2]"],
        ["search", str(tmp_path), "--query", "[1, "],
        ["search", str(tmp_path), "--queries", str(tmp_path / "none.npy")],
        ["build", str(tmp_path / "none.parquet"), str(tmp_path / "index"), "--column", "v"],
    ):
        result = runner.invoke(app, ["index", *arguments])
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert runner.invoke(app, ["index", "search", str(tmp_path)]).exit_code == 2
    assert runner.invoke(app, ["index", "build", "a", "--column", "v"]).exit_code == 2
