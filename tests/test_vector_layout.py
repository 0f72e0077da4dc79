"""Tables that are laid out by a column of vectors, as an index has them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import skipml
from skipml.cli import app
from skipml.errors import SchemaError, SkipmlError
from skipml.layout import cluster
from skipml.network import Affine, Network
from tests.rewritten import group_sizes, left_over, rows_of, write

D, CLUSTERS, EACH, GROUP = 8, 30, 40, 40
INF, NAN = float("inf"), float("nan")
RNG = np.random.default_rng(2)
CENTERS = 10 * RNG.normal(size=(CLUSTERS, D))
VECTORS = (np.tile(CENTERS, (EACH, 1)) + 0.1 * RNG.normal(size=(CLUSTERS * EACH, D))).astype(np.float32)
"""Rows of all clusters in turn: each row group holds some of each."""

VALUES = st.sampled_from([None, NAN, INF, -INF, -0.0, 0.0, 1.5, 5e-324, 1e16, 3e38])
ROWS = st.lists(
    st.one_of(st.none(), st.lists(VALUES, min_size=3, max_size=3), st.lists(VALUES, max_size=4)), max_size=40
)


def table() -> pa.Table:
    values = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), D)
    return pa.table(
        {"id": np.arange(len(VECTORS)), "Vector": values, "text": [f"row {i}" for i in range(len(VECTORS))]}
    )


def clusters_of(path: Path) -> list[set[int]]:
    """Of which clusters each row group has rows."""
    file = pq.ParquetFile(path)
    groups = range(file.metadata.num_row_groups)
    return [{i % CLUSTERS for i in file.read_row_group(g, ["id"])["id"].to_pylist()} for g in groups]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from([pa.float16(), pa.float32(), pa.float64()]), st.integers(1, 9))
def test_rows_and_schema_survive(
    tmp_path: Path, rows: list[list[float | None] | None], kind: pa.DataType, size: int
) -> None:
    if kind == pa.float16():
        rows = [row and [v and np.float16(v if abs(v) < 6e4 else INF) for v in row] for row in rows]  # type: ignore[misc]
    schema = pa.schema(
        [pa.field("e", pa.list_(kind), metadata={b"a": b"b"}), pa.field("id", pa.int32(), nullable=False)]
    )
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write(pa.table({"e": pa.array(rows, pa.list_(kind)), "id": pa.array(range(len(rows)), pa.int32())}, schema), source)
    report = cluster(source, target, ["e"], row_group_rows=size)
    assert rows_of(target) == rows_of(source)
    assert pq.read_schema(target).remove_metadata() == schema
    assert group_sizes(target) == [size] * (len(rows) // size) + [len(rows) % size] * (len(rows) % size > 0)
    assert report.method == "lists"
    assert not left_over(tmp_path)


def test_near_vectors_share_row_groups(tmp_path: Path) -> None:
    source, target = write(table(), tmp_path / "in.parquet", row_group_size=GROUP), tmp_path / "out.parquet"
    assert np.mean([len(found) for found in clusters_of(source)]) > 25
    cluster(source, target, ["vector"], row_group_rows=GROUP)  # DuckDB finds names without regard to case
    assert np.mean([len(found) for found in clusters_of(target)]) < 4
    assert rows_of(target) == rows_of(source)


def test_heads_skip_what_they_could_not(tmp_path: Path) -> None:
    source, target = write(table(), tmp_path / "in.parquet", row_group_size=GROUP), tmp_path / "out.parquet"
    cluster(source, target, ["Vector"], row_group_rows=GROUP)
    weight = np.random.default_rng(0).normal(size=(1, D)).astype(np.float32)
    head = skipml.Model(Network(D, 1, weight.dtype, (Affine(weight, np.zeros(1, weight.dtype)),)), ("Vector",))
    scores = head.evaluate(table())[:, 0]
    limit = float(np.sort(scores)[-30])
    skipped = []
    for path in (source, target):
        skipml.enrich(path, columns=["Vector"])
        plan = skipml.plan(path, head > limit)
        found = sorted(plan.scan(["id"]).read_all()["id"].to_pylist())
        assert found == np.flatnonzero(scores > limit).tolist()
        skipped.append(float((plan.decisions == skipml.SKIP).mean()))
    assert skipped[0] < 0.1
    assert skipped[1] > 0.8


def test_rows_without_a_vector_of_numbers_come_last(tmp_path: Path) -> None:
    rows: list[list[float] | None] = [list(map(float, row)) for row in VECTORS[:200]]
    odd = {3: None, 50: [1.0], 90: [NAN] * D, 120: [INF, *([0.0] * (D - 1))], 150: [1e16] * D}
    for i, row in odd.items():
        rows[i] = row
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write(pa.table({"id": range(200), "e": pa.array(rows, pa.list_(pa.float32()))}), source)
    cluster(source, target, ["e"], row_group_rows=20)
    assert set(pq.read_table(target)["id"].to_pylist()[-len(odd) :]) == set(odd)
    assert rows_of(target) == rows_of(source)


def test_a_table_takes_its_own_place(tmp_path: Path) -> None:
    path = write(table(), tmp_path / "t.parquet", row_group_size=GROUP)
    before = rows_of(path)
    cluster(path, path, ["Vector"], row_group_rows=GROUP)
    assert rows_of(path) == before
    assert np.mean([len(found) for found in clusters_of(path)]) < 4


def test_the_command(tmp_path: Path) -> None:
    source, target = write(table(), tmp_path / "in.parquet", row_group_size=GROUP), tmp_path / "out.parquet"
    options = ["--by", "Vector", "--row-group-rows", str(GROUP), "--json"]
    result = CliRunner().invoke(app, ["cluster", str(source), str(target), *options])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "lists"
    assert rows_of(target) == rows_of(source)
    assert np.mean([len(found) for found in clusters_of(target)]) < 4


def test_vectors_beside_other_columns_are_refused(tmp_path: Path) -> None:
    source, target = write(table(), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    with pytest.raises(SchemaError, match="one column of vectors, not by Vector, id"):
        cluster(source, target, ["Vector", "id"])
    assert not target.exists()


def test_without_faiss_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = write(table(), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SkipmlError, match=r"skipml\[ann\]"):
        cluster(source, target, ["Vector"])
    assert not target.exists()
    assert not left_over(tmp_path)
