"""Models of the vectors of a registered index in SQL: the balls of its lists decide, and the rows are the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml import VectorIndex
from skipml.ann import balls
from skipml.engines.list_balls import vectors_in_lists
from skipml.footers import read_footers
from skipml.network import Affine, LeakyRelu, Network

D, N = 6, 2000
RNG = np.random.default_rng(3)
ROWS = np.repeat(RNG.normal(size=(40, D)), N // 40, axis=0) + 0.05 * RNG.normal(size=(N, D))
SINGLE = np.dtype(np.float32)


def table(rows: np.ndarray, first: int = 0) -> pa.Table:
    values = pa.array(rows.astype(np.float32).ravel())
    ids = np.arange(first, first + len(rows))
    return pa.table({"id": ids, "v": pa.FixedSizeListArray.from_arrays(values, rows.shape[1])})


def affine(*shape: int) -> Affine:
    return Affine(RNG.normal(size=shape).astype(SINGLE), np.zeros(shape[0], SINGLE))


MODELS = {
    "linear": skipml.Model(Network(D, 1, SINGLE, (affine(1, D),)), ("v",)),
    "layers": skipml.Model(Network(D, 1, SINGLE, (affine(5, D), LeakyRelu(0.0), affine(1, 5))), ("v",)),
}


@pytest.fixture(params=["l2", "ip", "cosine"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> VectorIndex:
    """One with rows that were deleted and others that were added: two files of rows."""
    found = VectorIndex.build(table(ROWS), column="v", path=tmp_path / "index", metric=request.param)
    found.append(table(3 * ROWS[::20], N))
    found.delete(np.arange(0, N, 70), column="id")
    return found


@pytest.fixture
def con(index: VectorIndex) -> Iterator[skipml.Connection]:
    with skipml.connect() as connection:
        connection.register_index("docs", index)
        for name, model in MODELS.items():
            connection.register_model(name, model)
        yield connection


def conditions(name: str) -> list[str]:
    scores = np.sort(MODELS[name].evaluate(table(ROWS))[:, 0])
    high, low = float(scores[-30]), float(scores[30])
    return [
        f"{name}(v) > {high!r}",
        f"NOT {name}(v) <= {high!r}",
        f"{name}(v) >= {low!r}",
        f"{name}(v) BETWEEN {low!r} AND {low + 0.2!r} AND id % 2 = 0",
        f"{name}(v) > {high!r} OR {name}(v) < {low!r}",
        f"{name}(v::FLOAT[]) > {high!r}",
        f"{name}(v::INTEGER[{D}]::FLOAT[]) > 0.5",
        f"{name}(list_transform(v, lambda x: -x)) > {high!r}",
    ]


def answer(con: skipml.Connection, sql: str) -> list[tuple[object, ...]]:
    return sorted(con.execute(sql).fetchall())


@pytest.mark.parametrize("name", list(MODELS))
def test_the_rows_of_the_table_are_those_without_skipping(con: skipml.Connection, name: str) -> None:
    con.execute("CREATE TABLE loaded AS FROM docs")
    skipped = []
    for condition in conditions(name):
        what = "count(*)" if ">=" in condition else "id"  # all of most lists pass
        found = answer(con, f"SELECT {what} FROM docs WHERE {condition}")
        report = con.last_report
        assert report is not None
        assert "failed" not in str(report), report
        skipped.append(report.counters["skipped"])
        assert found == answer(con, f"SELECT {what} FROM loaded WHERE {condition}"), condition
    assert min(skipped[:2]) > 10
    assert skipped[-2:] == [0, 0], "what is computed of vectors is not what balls are around"


@pytest.mark.parametrize(("argument", "skips"), [("v", True), ("v::FLOAT[6]", True), ("v::INTEGER[6]", False)])
def test_the_files_of_an_index_are_read_like_any(tmp_path: Path, argument: str, skips: bool) -> None:
    index = VectorIndex.build(table(ROWS), column="v", path=tmp_path / "index")
    path = index.snapshot.readers[0].rows.path
    limit = float(np.sort(MODELS["linear"].evaluate(table(ROWS))[:, 0])[-30])
    condition = f"linear(CAST({argument} AS FLOAT[])) > {limit!r}"
    with skipml.connect() as con:
        con.register_model("linear", MODELS["linear"])
        con.register_index("docs", index)
        con.execute(f"CREATE TABLE loaded AS FROM '{path}'")
        found = answer(con, f"SELECT id FROM '{path}' WHERE {condition}")
        assert con.last_report is not None
        assert (con.last_report.counters["skipped"] > 10) is skips
        assert found == answer(con, f"SELECT id FROM loaded WHERE {condition}")


def test_deleted_rows_and_added_ones_are_told_apart(con: skipml.Connection, index: VectorIndex) -> None:
    """All lists are KEEP or SKIP, and rows come and go."""
    condition = "linear(v) > -1000000"
    before = answer(con, f"SELECT count(*) FROM docs WHERE {condition}")
    assert before == [(len(index),)]
    assert con.last_report is not None
    kept = np.concatenate([scan.decisions.decision == skipml.KEEP for scan in con.last_report.scans])
    assert kept.mean() > 0.9
    index.delete([1, 2], column="id")
    index.append(table(100 * ROWS[:3], 5000))
    assert answer(con, f"SELECT count(*) FROM docs WHERE {condition}") == [(len(index),)]
    far = float(MODELS["linear"].evaluate(table(100 * ROWS[:3]))[0, 0])
    sign = ">" if far > 0 else "<"
    assert (5000,) in answer(con, f"SELECT id FROM docs WHERE linear(v) {sign} {far * 0.9!r}")


def test_nearest_rows_that_a_head_lets_pass(con: skipml.Connection, index: VectorIndex) -> None:
    function = {"l2": "array_distance", "ip": "array_negative_inner_product", "cosine": "array_cosine_distance"}
    query = [float(x) for x in ROWS[7].astype(np.float32)]
    con.execute("CREATE TABLE loaded AS FROM docs")
    for condition in conditions("layers")[:5]:
        nearest = f"SELECT id FROM {{}} WHERE {condition} ORDER BY {function[index.metric]}(v, $q::FLOAT[{D}]) LIMIT 9"
        found = con.execute(nearest.format("docs"), {"q": query}).fetchall()
        assert con.last_report is not None
        assert con.last_report.counters["nearest"] == 1
        assert found == con.execute(nearest.format("loaded"), {"q": query}).fetchall(), condition


def test_a_smaller_ball_loses_rows(con: skipml.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the comparison above can fail."""
    real = balls.around

    def smaller(*given: Any) -> Any:
        found = real(*given)
        return replace(found, radius=found.radius * 0.01)

    monkeypatch.setattr(balls, "around", smaller)
    con.execute("CREATE TABLE loaded AS FROM docs")
    right = [
        answer(con, f"SELECT id FROM docs WHERE {c}") == answer(con, f"SELECT id FROM loaded WHERE {c}")
        for c in conditions("linear")
    ]
    assert not all(right)


def test_a_file_that_was_written_again_is_not_known(tmp_path: Path) -> None:
    index = VectorIndex.build(table(ROWS), column="v", path=tmp_path / "index")
    path = index.snapshot.readers[0].rows.path
    assert vectors_in_lists([index], read_footers([path], ["v"]), "V") is not None
    assert vectors_in_lists([index], read_footers([path], ["v"]), "id") is None
    copy = tmp_path / "copy.parquet"
    shutil.copy2(path, copy)  # of the same size and time
    assert vectors_in_lists([index], read_footers([str(copy)], ["v"]), "v") is None
    copy.replace(path)
    assert vectors_in_lists([index], read_footers([path], ["v"]), "v") is None
    assert vectors_in_lists([VectorIndex.open(index.path)], read_footers([path], ["v"]), "v") is not None


def test_row_groups_that_are_not_the_lists_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(table(ROWS), column="v", path=tmp_path / "index")
    reader = index.snapshot.readers[0]
    pq.write_table(pq.read_table(reader.rows.path), reader.rows.path, row_group_size=100)
    monkeypatch.setattr(type(reader.rows), "is_as_opened", lambda self, state: True)
    assert vectors_in_lists([index], read_footers([reader.rows.path], ["v"]), "v") is None
