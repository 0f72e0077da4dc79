from __future__ import annotations

import os
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipml import (
    EnrichmentError,
    FileChangedError,
    FooterError,
    MetadataError,
    PredicateError,
    SchemaError,
    SkipmlError,
    VectorError,
    VectorIndex,
)
from skipml.ann import build, clusters, source
from skipml.ann.manifest import NAME
from skipml.ann.metric import Singles
from tests.ann.brute import asked, built, clustered, nearest, table_of
from tests.ann.killing import killed_at


def files(index: VectorIndex) -> tuple[str, str]:
    """The rows file and the codes file."""
    (segment,) = index.snapshot.manifest.segments
    assert segment.codes is not None
    return os.path.join(index.path, segment.rows.name), os.path.join(index.path, segment.codes.name)


def by_sql(path: str) -> pa.Table:
    """What DuckDB reads in a file."""
    found = duckdb.sql(f"SELECT * FROM '{path}'")
    assert found is not None
    return found.to_arrow_table()


@pytest.mark.parametrize("int8", [False, True])
def test_every_tool_reads_the_files(tmp_path: Path, int8: bool) -> None:
    rows = clustered(700, 40, int8=int8)
    index = built(tmp_path / "index", rows)
    path, codes = files(index)
    by_arrow = pq.read_table(path)
    by_duckdb = by_sql(path)
    by_polars = polars.read_parquet(path).to_arrow()
    table: pa.Table
    for table in (by_arrow, by_duckdb, by_polars):
        assert sorted(table["row_id"].to_pylist()) == list(range(700))
        assert table["id"].to_pylist() == [7 * row for row in table["row_id"].to_pylist()]
        vectors = table["v"].to_pylist()
        found = [np.frombuffer(v, np.int8) for v in vectors] if int8 else vectors
        np.testing.assert_array_equal(np.array(found, rows.dtype), rows[table["row_id"].to_numpy()])
    assert pq.read_metadata(path).num_row_groups == len(set(by_arrow["list_id"].to_pylist()))
    tables = [pq.read_table(codes), by_sql(codes)]
    for table in [*tables, polars.read_parquet(codes).to_arrow()]:
        assert np.bincount(table["position"].to_numpy()).tolist() == [2] * 700
    # row groups are lists: DuckDB's own zone maps find one
    one = duckdb.execute(f"SELECT count(*) FROM '{path}' WHERE list_id = 3").fetchall()
    assert one[0][0] == index.snapshot.manifest.segments[0].counts[3]


def test_vectors_and_codes_are_used_in_place(tmp_path: Path) -> None:
    rows = clustered(500, 33)
    index = built(tmp_path / "index", rows)
    (segment,) = index.snapshot.manifest.segments
    data, extent = np.fromfile(files(index)[0], np.uint8), segment.columns["v"]
    ids = pq.read_table(files(index)[0])["row_id"].to_numpy()
    start = 0
    for offset, count in zip(extent.offsets.tolist(), extent.counts.tolist(), strict=True):
        if count:
            mine = data[offset : offset + count * extent.n_bytes].view(np.float32).reshape(count, 33)
            np.testing.assert_array_equal(mine, rows[ids[start : start + count]])
        start += count
    assert start == 500


@pytest.mark.parametrize("row_group_size", [50, 100_000])
def test_files_and_tables_give_one_index(tmp_path: Path, row_group_size: int) -> None:
    table = table_of(clustered(900, 40), id=pa.array(7 * np.arange(900)))
    pq.write_table(table.slice(0, 400), tmp_path / "a.parquet", row_group_size=row_group_size)
    pq.write_table(table.slice(400), tmp_path / "b.parquet", row_group_size=row_group_size)
    told: list[tuple[str, int, int]] = []
    sources = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    index = VectorIndex.build(sources, column="v", path=tmp_path / "index", progress=lambda *args: told.append(args))
    other = VectorIndex.build(table, column="v", path=tmp_path / "other")
    query = asked(5, 40)
    assert index.search(query, 9, nprobe=3).equals(other.search(query, 9, nprobe=3))
    assert {what for what, _, _ in told} == {"reading", "assigning", "writing lists"}
    assert all(0 < done <= total == 900 for _, done, total in told)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 6)])
def test_vectors_of_all_types(tmp_path: Path, kind: pa.DataType) -> None:
    rows = (clustered(90, 6) * 4).round() / 4
    lists = pa.array([row.tolist() if i % 9 else None for i, row in enumerate(rows)], pa.list_(pa.float64(), 6))
    flat = [row if row is None else np.array(row, kind.value_type.to_pandas_dtype()) for row in lists.to_pylist()]
    table = pa.table({"v": pa.array(flat, kind)})
    index = VectorIndex.build(table, column="v", path=tmp_path / "index")
    assert len(index) == 80
    assert index.skipped_nulls == 10
    kept = np.flatnonzero(np.arange(90) % 9)
    query = asked(1, 6)[0]
    ids, _ = nearest("l2", query, rows[kept], 5)
    found = index.search(query, 5, exact=True, columns=["v"])
    assert found["row_id"].to_pylist() == kept[ids].tolist()
    assert found["v"].type == kind
    assert found["v"].to_pylist() == [rows[i].tolist() for i in kept[ids]]


def test_bad_rows_are_named(tmp_path: Path) -> None:
    def build(values: list[object], kind: pa.DataType | None = None) -> None:
        table = pa.table({"v": pa.array(values, kind or pa.list_(pa.float32()))})
        VectorIndex.build(table, column="v", path=tmp_path / "index")

    with pytest.raises(VectorError, match="row 2 has 3 values and not 2"):
        build([[1, 2], None, [1, 2, 3]])
    with pytest.raises(VectorError, match="row 1 holds nan"):
        build([[1, 2], [1, float("nan")]])
    with pytest.raises(VectorError, match="row 1 holds inf"):
        build([[1, 2], [1, 1e39]], pa.list_(pa.float64()))
    with pytest.raises(VectorError, match="row 1 holds a NULL"):
        build([[1, 2], [1, None]])
    with pytest.raises(VectorError, match="vectors of 1 values"):
        build([[1]])
    with pytest.raises(VectorError, match="vectors of 2049 values"):
        build([[1] * 2049])
    with pytest.raises(VectorError, match="no vector"):
        build([None])
    with pytest.raises(SchemaError, match="holds no vectors"):
        build(["text"], pa.string())
    with pytest.raises(SchemaError, match="no column 'v'"):
        VectorIndex.build(pa.table({"a": [1]}), column="v", path=tmp_path / "index")
    with pytest.raises(SchemaError, match="rename"):
        VectorIndex.build(table_of(clustered(3, 2), row_id=pa.array([1, 2, 3])), column="v", path=tmp_path / "index")
    with pytest.raises(FooterError):
        VectorIndex.build(tmp_path / "none.parquet", column="v", path=tmp_path / "index")
    with pytest.raises(PredicateError, match="metric"):
        VectorIndex.build(table_of(clustered(3, 2)), column="v", path=tmp_path / "index", metric="hamming")
    with pytest.raises(PredicateError, match="memory"):
        VectorIndex.build(table_of(clustered(3, 2)), column="v", path=tmp_path / "index", memory=5)
    assert len(built(tmp_path / "index", clustered(3, 2))) == 3
    with pytest.raises(EnrichmentError, match="holds an index already"):
        built(tmp_path / "index", clustered(3, 2))


def test_a_table_without_rows(tmp_path: Path) -> None:
    index = built(tmp_path / "index", np.empty((0, 40), np.float32))
    assert index.search(asked(2, 40), 3, exact=True).num_rows == 0
    assert index.search(asked(2, 40), 3, nprobe=3).num_rows == 0
    assert index.append(table_of(clustered(9, 40), id=pa.array(np.arange(9)))) == 9
    assert index.search(asked(2, 40), 3, exact=True).num_rows == 6


def test_a_killed_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table_of(clustered(3000, 40), id=pa.array(np.arange(3000))), tmp_path / "source.parquet")
    whole = VectorIndex.build(tmp_path / "source.parquet", column="v", path=tmp_path / "whole")
    query = asked(5, 40)
    expected = whole.search(query, 9, nprobe=4)
    runs = killed_at(tmp_path / "nothing", tmp_path, "build", [1, 2, 4, 7, 9, 11, 13, 40])
    assert [killed for _, killed in runs].count(True) > 3
    trainings = 0
    train = clusters.train

    def counted(sample: Singles, count: int) -> Singles:
        nonlocal trainings
        trainings += 1
        return train(sample, count)

    monkeypatch.setattr(clusters, "train", counted)
    for path, killed in runs:
        if killed and not (path / NAME).exists():
            with pytest.raises(MetadataError, match=r"not built to its end|holds no index"):
                VectorIndex.open(path)
            VectorIndex.build(tmp_path / "source.parquet", column="v", path=path)
        index = VectorIndex.open(path)
        assert index.search(query, 9, nprobe=4).equals(expected)
    # what was trained is not trained again
    assert 0 < trainings < sum(killed for _, killed in runs)


def test_an_executor_builds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MOST_CHUNK_ROWS", 300)
    monkeypatch.chdir(tmp_path)
    table = table_of(clustered(1000, 40), id=pa.array(np.arange(1000)))
    pq.write_table(table, "rows.parquet", row_group_size=170)
    told: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        built_there = VectorIndex.build("rows.parquet", column="v", path="there", executor=pool)
        of_table = VectorIndex.build(
            table, column="v", path="table", executor=pool, progress=lambda _, done, total: told.append(total - done)
        )
    here = VectorIndex.build("rows.parquet", column="v", path="here")
    for index in (built_there, of_table):
        assert [Path(path).read_bytes() for path in files(index)] == [Path(path).read_bytes() for path in files(here)]
        assert not Path(index.path, "building").exists()
    assert told[-1] == 0


def test_what_a_worker_finds_wrong_is_said_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table_of(clustered(300, 40), id=pa.array(np.arange(300))), tmp_path / "rows.parquet")

    def refused(*_: object) -> None:
        raise VectorError("row 7 is not finite")

    monkeypatch.setattr(build, "write_run", refused)
    with ThreadPoolExecutor(1) as pool, pytest.raises(VectorError, match="row 7"):
        VectorIndex.build(tmp_path / "rows.parquet", column="v", path=tmp_path / "index", executor=pool)


def test_other_settings_start_anew(tmp_path: Path) -> None:
    pq.write_table(table_of(clustered(300, 40), id=pa.array(np.arange(300))), tmp_path / "source.parquet")
    ((path, killed),) = killed_at(tmp_path / "nothing", tmp_path, "build", [8])
    assert killed
    index = VectorIndex.build(tmp_path / "source.parquet", column="v", path=path, n_lists=3, metric="ip")
    assert index.metric == "ip"
    assert index.search(asked(1, 40), 9, exact=True).num_rows == 9


def test_damage_is_an_error(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(300, 40))
    path = tmp_path / "index" / NAME
    data = path.read_bytes()
    for cut in (0, 5, 30, 500, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(MetadataError, match="damaged"):
            VectorIndex.open(index.path)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 30).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with pytest.raises(MetadataError):
            VectorIndex.open(index.path)
    path.write_bytes(data)
    assert len(VectorIndex.open(index.path)) == 300
    with pytest.raises(MetadataError, match="holds no index"):
        VectorIndex.open(tmp_path)


def test_a_changed_file_is_an_error(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(300, 40))
    for path in files(index):
        data = Path(path).read_bytes()
        for other in (data[:-1], data + b"x", data[:-20] + b"y" + data[-19:]):
            Path(path).write_bytes(other)
            with pytest.raises(FileChangedError, match="not the file"):
                VectorIndex.open(index.path)
            with pytest.raises(FileChangedError, match="written to"):
                index.search(asked(1, 40), nprobe=1)
        os.unlink(path)
        with pytest.raises(FileChangedError, match="cannot be read"):
            VectorIndex.open(index.path)
        Path(path).write_bytes(data)
    assert len(VectorIndex.open(index.path)) == 300


def test_an_index_can_be_copied(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(300, 40))
    shutil.copytree(tmp_path / "index", tmp_path / "copy", copy_function=shutil.copyfile)
    query = asked(3, 40)
    assert VectorIndex.open(tmp_path / "copy").search(query, nprobe=2).equals(index.search(query, nprobe=2))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(EnrichmentError, match="cannot be written"):
        built(tmp_path / "index", clustered(3, 2))


def test_without_faiss_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SkipmlError, match=r"pip install 'skipml\[ann\]'"):
        VectorIndex.build(tmp_path / "rows.parquet", column="v", path=tmp_path / "index")
