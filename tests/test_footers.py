from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipml import footers as footers_module
from skipml.features import model_inputs
from skipml.footers import read_footers
from skipml.parquet.footer import Footer
from skipml.recent import Recent
from tests.nasty import NAN, NASTY, nasty_table
from tests.writers import (
    ROW_GROUP_ROWS,
    WRITERS,
    write_duckdb,
    write_fastparquet,
    write_polars,
    write_pyarrow,
)
from tests.zone_maps import assert_sound, duckdb_statistics, rows_of, stats_of

CANNOT_WRITE = {("duckdb", "half")} | {
    ("fastparquet", n) for n in ("date", "far_date", "time_ms", "time_us", "time_ns")
}
if duckdb.__version__ < "2":
    CANNOT_WRITE.add(("duckdb", "time_ns"))  # comes out as text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Series.values")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", NASTY)
def test_every_row_is_inside_its_row_group(tmp_path: Path, writer: str, name: str) -> None:
    path = tmp_path / "file.parquet"
    if (writer, name) in CANNOT_WRITE:
        pytest.skip(f"{writer} does not write {name}")
    table = nasty_table(name)
    WRITERS[writer](table, path)
    footers = read_footers([str(path)], ["x"], strict=True)
    stats = footers.columns["x"]
    assert footers.n_rows.tolist() == [ROW_GROUP_ROWS] * 7
    assert footers.first_row.tolist() == [i * ROW_GROUP_ROWS for i in range(7)]
    assert_sound(path, stats, footers.n_rows, *rows_of(path))
    if writer != "fastparquet":
        assert stats.sql_type == duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall()[0][1]
        values, null = model_inputs(pq.read_table(path), ["x"])
        assert_sound(path, stats, footers.n_rows, values[:, 0], null[:, 0])
        assert stats.all_null.tolist() == [i == 2 for i in range(7)], "all NULL was not recognised"
        assert stats.null_count.min() >= 0
        if "nan" not in name and name not in ("half", "float"):
            assert stats.known.all(), stats.reason


@pytest.mark.parametrize(("writer", "trusted"), [("duckdb", True), ("pyarrow", False), ("polars", False)])
def test_only_duckdb_is_trusted_to_leave_limits_out_for_nan(tmp_path: Path, writer: str, trusted: bool) -> None:
    path = tmp_path / "file.parquet"
    WRITERS[writer](nasty_table("double"), path)
    stats = stats_of(path)
    expected = [trusted is False] * 7
    expected[2] = False  # all NULL
    assert stats.may_be_nan.tolist() == expected
    assert set(stats.reason) == ({""} if trusted else {"", "no NaN count; skipml enrich adds one"})


@pytest.mark.parametrize("position", [0, 1, 2047, 2048, 4095, 99_999, 122_879])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("options", ["", ", PARQUET_VERSION v2", ", COMPRESSION uncompressed"])
def test_duckdb_leaves_limits_out_for_a_nan_anywhere_in_a_large_row_group(
    tmp_path: Path, position: int, kind: str, options: str
) -> None:
    path = tmp_path / "file.parquet"
    value = f"CASE WHEN i = {position} THEN 'nan'::DOUBLE ELSE i END::{kind}"
    with_null = f"CASE WHEN i % 2 = {1 - position % 2} THEN NULL ELSE x END"
    rows = f"SELECT {value} x, i::{kind} y, {with_null} z FROM range(122880) t(i)"
    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 122880{options})")
    footers = read_footers([str(path)], ["x", "y", "z"], strict=True)
    assert len(footers) == 1
    assert footers.columns["x"].may_be_nan.all(), "a NaN was missed"
    assert footers.columns["z"].may_be_nan.all(), "a NaN among NULLs was missed"
    assert not footers.columns["y"].may_be_nan.any(), "DuckDB's limits prove that there is no NaN"


def test_a_hugeint_that_duckdb_stored_as_double(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    duckdb.execute(f"COPY (SELECT (1::HUGEINT << (i % 126)::INT) + i x FROM range(3000) t(i)) TO '{path}'")
    footers = read_footers([str(path)], ["x"], strict=True)
    assert_sound(path, footers.columns["x"], footers.n_rows, *rows_of(path))


@pytest.mark.parametrize("has_nulls", [True, False, "infer"])
def test_fastparquet_nan(tmp_path: Path, has_nulls: bool | str) -> None:
    import fastparquet
    import pandas as pd

    path = tmp_path / "file.parquet"
    frame = pd.DataFrame({"x": [NAN, 1.0, NAN, NAN, 2.0, 3.0]})
    fastparquet.write(str(path), frame, has_nulls=has_nulls, row_group_offsets=[0, 2, 4], stats=True)
    footers = read_footers([str(path)], ["x"], strict=True)
    assert_sound(path, footers.columns["x"], footers.n_rows, *rows_of(path))


@pytest.mark.parametrize("writer", ["pyarrow", "duckdb", "polars"])
def test_columns_that_cannot_be_model_inputs(tmp_path: Path, writer: str) -> None:
    table = pa.table({"text": ["a", "b"], "list": [[1], [2, 3]], "struct": [{"x": 1}, {"x": 2}], "x": [1, 2]})
    WRITERS[writer](table, tmp_path / "file.parquet")
    footers = read_footers([str(tmp_path / "file.parquet")], ["text", "list", "struct", "x", "struct.x", "element"])
    for name in ("text", "list", "struct", "struct.x", "element"):
        stats = footers.columns[name]
        assert not stats.known.any()
        assert stats.may_be_nan.all()
        assert stats.reason[0]
        assert stats.missing.all() == (name in ("struct.x", "element"))
    assert footers.columns["x"].known.all(), "columns behind nested ones must be found"
    assert footers.columns["x"].upper.tolist() == [2.0]


def test_column_names_are_found_as_duckdb_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write_pyarrow(pa.table({"Amount": [1], "É": [2], "a b": [3]}), path)
    footers = read_footers([str(path)], ["AMOUNT", "É", "é", "A B", "nope"])
    assert [stats.known.all() for stats in footers.columns.values()] == [True, True, False, True, False]
    assert footers.columns["nope"].missing.all()
    write_pyarrow(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "X"]), path)
    footers = read_footers([str(path)], ["x", "x_1"])
    assert set(footers.columns["x"].reason) == {"column names are ambiguous"}
    assert not footers.columns["x_1"].missing.any(), "DuckDB calls the second x by that name"


def test_several_files(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.parquet")]
    write_duckdb(pa.table({"x": range(5000)}), Path(files[0]))
    write_polars(pa.table({"y": [1.0]}), Path(files[1]))
    write_pyarrow(pa.table({"x": pa.array([7], pa.int8()), "y": [2.0]}), Path(files[2]))
    footers = read_footers([files[2], files[0], files[1], files[0]], ["x", "y"])
    x = footers.columns["x"]
    assert footers.file_index.tolist() == [0, 1, 1, 1, 2, 3, 3, 3]
    assert footers.row_group.tolist() == [0, 0, 1, 2, 0, 0, 1, 2]
    assert footers.first_row.tolist() == [0, 0, 2048, 4096, 0, 0, 2048, 4096]
    assert x.missing.tolist() == [False] * 4 + [True] + [False] * 3
    assert x.known.tolist() == [True] * 4 + [False] + [True] * 3, "integers of different width do not disagree"
    assert x.upper.tolist() == [7, 2047, 4095, 4999, np.inf, 2047, 4095, 4999]
    assert x.sql_type == "TINYINT"
    assert footers.n_bytes.min() > 0


def test_types_that_a_reader_has_to_reconcile_by_rounding(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    write_duckdb(pa.table({"x": [1, 2]}), Path(files[0]))
    write_duckdb(pa.table({"x": [0.4, 0.6]}), Path(files[1]))
    stats = read_footers(files, ["x"]).columns["x"]
    assert not stats.known.any(), "DuckDB reads the second file's 0.4 as BIGINT 0"
    assert set(stats.reason) == {"files disagree on the type: BIGINT, DOUBLE"}


def test_no_rows_and_no_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    for writer in (write_pyarrow, write_duckdb, write_polars, write_fastparquet):
        writer(pa.table({"x": pa.array([], pa.int64())}), path)
        footers = read_footers([str(path)], ["x"], strict=True)
        assert footers.n_rows.sum() == 0
        assert footers.columns["x"].all_null.all()
    assert len(read_footers([], ["x"])) == 0


def test_many_columns_and_long_names(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    names = [f"{'column' * 30}_{i}" for i in range(300)]
    write_pyarrow(pa.table({name: [i, i + 1] for i, name in enumerate(names)}), path, 1)
    footers = read_footers([str(path)], [names[0], names[299], names[150]], strict=True)
    assert [stats.upper.tolist() for stats in footers.columns.values()] == [[0, 1], [299, 300], [150, 151]]


def test_text_statistics_that_look_like_a_column_path(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    decoys = [
        b"\x19\x18\x01x",
        b"\x00\x19\x18\x01x\x15\x02",
        b"\x19\x18\x01x\x15\x02\x16\x08\x00\x00\x16",
        b"\x19\x1c\x26\x08\x1c\x15",
    ]
    table = pa.table({"text": pa.array(decoys * 2, pa.binary()), "x": range(8), "y": range(8)})
    write_pyarrow(table, path, 1)
    footers = read_footers([str(path)], ["x", "y"], strict=True)
    for stats in footers.columns.values():
        assert stats.lower.tolist() == list(range(8)), "a candidate that is no chunk was followed"


def test_the_same_as_parquet_metadata_for_every_writer(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    table = pa.table({"a": ["text", None] * 5000, "x": generator.integers(-1000, 1000, 10_000), "l": [[1], []] * 5000})
    for name in ("pyarrow", "duckdb", "polars"):
        path = tmp_path / f"{name}.parquet"
        WRITERS[name](table, path)
        footers = read_footers([str(path)], ["x"], strict=True)
        stats = footers.columns["x"]
        ours = list(zip(footers.n_rows, stats.lower, stats.upper, stats.null_count, strict=True))
        expected = duckdb_statistics(path)
        assert expected is not None
        assert ours == [(n, float(low or 0), float(high or 0), nulls) for n, low, high, nulls in expected]


def test_footers_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.parquet"
    write_duckdb(pa.table({"x": [1], "y": [5]}), path)
    os.utime(path, ns=(0, 1))
    read_footers([str(path)], ["x"])
    read_footers([str(path)], ["y"])
    monkeypatch.setattr(footers_module, "read_files", lambda paths, _: [pytest.fail("read again") for _ in paths])
    assert read_footers([str(path)], ["y", "x"]).columns["x"].upper.tolist() == [1.0], "both columns are kept"
    monkeypatch.undo()
    before = read_footers([str(path)], ["x"]).identities[0]
    write_duckdb(pa.table({"x": [2], "y": [5]}), path)
    os.utime(path, ns=(0, 12345))
    footers = read_footers([str(path)], ["x"])
    assert footers.columns["x"].upper.tolist() == [2.0]
    assert footers.identities[0] != before


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    for i in range(50):
        write_pyarrow(pa.table({"x": [i]}), path)
        os.utime(path, ns=(0, time.time_ns() // 10**9 * 10**9))
        assert stats_of(path).upper.tolist() == [i], "a clock as coarse as a second does not tell the files apart"


def test_the_cache_is_bounded_and_shared_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache: Recent[str, Footer] = Recent(20, footers_module._size)
    monkeypatch.setattr(footers_module, "_cache", cache)
    files = [str(tmp_path / f"{i}.parquet") for i in range(12)]
    for i, file in enumerate(files):
        write_pyarrow(pa.table({"x": [i, i], "y": [i, i]}), Path(file), 1)
        os.utime(file, ns=(0, i))
    failures: list[object] = []

    def read(offset: int) -> None:
        for i in range(40):
            file = (i * offset) % 12
            upper = read_footers([files[file]], ["x" if i % 2 else "y"]).columns["x" if i % 2 else "y"].upper
            if upper.tolist() != [file, file]:
                failures.append((file, upper))

    threads = [threading.Thread(target=read, args=(offset,)) for offset in (1, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache._held <= 20
    assert cache._held == sum(footers_module._size(footer) for footer in cache._entries.values())
