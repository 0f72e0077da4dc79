from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from skipml import footers as footers_module
from skipml.errors import FooterError
from skipml.features import model_inputs
from skipml.footers import ColumnStats, read_footers
from skipml.parquet.thrift import BINARY, BYTE, I64, LIST, STRUCT, TRUE
from tests.nasty import NAN, NASTY, nasty_table
from tests.writers import (
    ROW_GROUP_ROWS,
    WRITERS,
    Struct,
    edit_footer,
    statistics,
    write_duckdb,
    write_fastparquet,
    write_polars,
    write_pyarrow,
)

CANNOT_WRITE = {("duckdb", "half")} | {
    ("fastparquet", n) for n in ("date", "far_date", "time_ms", "time_us", "time_ns")
}
if duckdb.__version__ < "2":
    CANNOT_WRITE.add(("duckdb", "time_ns"))  # comes out as text


def rows_of(path: Path, column: str = "x") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The model inputs as DuckDB computes them from the file, and where they are NULL."""
    sql_type = duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall()[0][1]
    if sql_type == "TIMESTAMPTZ_NS":
        expression = f"epoch(CAST({column} AS TIMESTAMPTZ))"
    else:
        expression = f"epoch({column})" if sql_type.startswith(("DATE", "TIME")) else f"CAST({column} AS DOUBLE)"
    rows = duckdb.execute(f"SELECT {expression} FROM '{path}' ORDER BY file_row_number").fetchall()
    null = np.array([row[0] is None for row in rows])
    return np.array([0.0 if row[0] is None else row[0] for row in rows]), null


def assert_sound(
    path: Path, stats: ColumnStats, n_rows: NDArray[np.int64], values: NDArray[np.float64], null: NDArray[np.bool_]
) -> None:
    """Every row lies in what is said of its row group."""
    block = np.repeat(np.arange(len(n_rows)), n_rows)
    assert len(block) == len(values), f"{path}: the row groups have other rows than the file"
    nan = np.isnan(values) & ~null
    inside = (values >= stats.lower[block]) & (values <= stats.upper[block])
    assert (inside | null | nan | ~stats.known[block]).all(), "a value is outside of its row group's limits"
    assert not (nan & ~stats.may_be_nan[block]).any(), "a NaN where none was said to be"
    assert not (~null & stats.all_null[block]).any(), "a value in a row group that was said to be NULL"
    counts = np.bincount(block, weights=null, minlength=len(n_rows))
    assert ((stats.null_count < 0) | (stats.null_count == counts)).all(), "a wrong number of NULLs"


def stats_of(path: Path, column: str = "x") -> ColumnStats:
    return read_footers([str(path)], [column], strict=True).columns[column]


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
    assert set(stats.reason) == ({""} if trusted else {"", "no NaN count"})


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


def small_file(tmp_path: Path, kind: pa.DataType | None = None, **options: object) -> Path:
    """Two row groups of the column x: 1, 2 and 3, 4."""
    path = tmp_path / "small.parquet"
    write_pyarrow(pa.table({"x": pa.array([1, 2, 3, 4]).cast(kind or pa.int64())}), path, 2, **options)
    return path


def edited(tmp_path: Path, edit: Callable[[Struct], None], kind: pa.DataType | None = None) -> ColumnStats:
    path = small_file(tmp_path, kind)
    edit_footer(path, edit)
    return stats_of(path)


def int64(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def double(value: float) -> bytes:
    return np.float64(value).tobytes()


def test_min_above_max_is_dropped(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(6, BINARY, int64(3)))
    assert stats.known.tolist() == [False, True]
    assert stats.reason.tolist() == ["min is above max", ""]
    assert stats.lower.tolist() == [-np.inf, 3.0]


@pytest.mark.parametrize("field", [5, 6])
def test_nan_as_min_or_max_is_dropped(tmp_path: Path, field: int) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 1, 0).put(field, BINARY, double(NAN)), pa.float64())
    assert stats.known.tolist() == [True, False]
    assert stats.reason.tolist() == ["no NaN count", "min or max is no DOUBLE"]


def test_a_zero_stands_for_both_zeros(tmp_path: Path) -> None:
    def edit(footer: Struct) -> None:
        statistics(footer, 0, 0).put(6, BINARY, double(0.0))
        statistics(footer, 1, 0).put(6, BINARY, double(-1.0))
        statistics(footer, 1, 0).put(5, BINARY, double(-0.0))

    stats = edited(tmp_path, edit, pa.float64())
    assert np.signbit(stats.lower[0])
    assert not np.signbit(stats.upper[1])


@pytest.mark.parametrize(("field", "reason"), [(5, "no min and max"), (6, "no min and max")])
def test_one_of_two_is_not_enough(tmp_path: Path, field: int, reason: str) -> None:
    def edit(footer: Struct) -> None:
        statistics(footer, 0, 0).drop(1, 2, field)

    stats = edited(tmp_path, edit)
    assert (stats.known.tolist(), stats.reason[0]) == ([False, True], reason)


def test_deprecated_limits_are_not_used(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).drop(5, 6))
    assert stats.reason.tolist() == ["only the deprecated min and max", ""]


def test_statistics_of_the_wrong_size_are_dropped(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(5, BINARY, b"\x09\0\0\0"))
    assert stats.reason.tolist() == ["min or max is no BIGINT", ""]


def test_a_limit_that_the_type_does_not_hold_is_dropped(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(5, BINARY, (300).to_bytes(4, "little")), pa.int8())
    assert stats.reason.tolist() == ["min or max is no TINYINT", ""]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1, -(2**63)])
def test_an_infinite_timestamp_has_no_epoch(tmp_path: Path, value: int) -> None:
    number = 5 if value > 0 else 6
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(number, BINARY, int64(value)), pa.timestamp("us"))
    assert stats.known.tolist() == [False, True]


def test_without_column_orders_nothing_is_known(tmp_path: Path) -> None:
    assert set(edited(tmp_path, lambda f: f.drop(7)).reason) == {"unknown column order"}


def test_another_column_order_is_not_understood(tmp_path: Path) -> None:
    def edit(footer: Struct) -> None:
        order = Struct()
        order.put(9, STRUCT, Struct())
        footer.put(7, LIST, (STRUCT, [order]))

    assert set(edited(tmp_path, edit).reason) == {"unknown column order"}


@pytest.mark.parametrize(("count", "known"), [(0, False), (1, True), (-3, True), (3, True)])
def test_a_recorded_nan_count(tmp_path: Path, count: int, known: bool) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(9, I64, count), pa.float64())
    assert stats.may_be_nan.tolist() == [known, True]


def test_a_null_count_above_the_rows_is_dropped(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(3, I64, 3))
    assert stats.null_count.tolist() == [-1, 0]


def test_all_null_needs_that_there_are_no_limits(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(3, I64, 2))
    assert not stats.all_null.any()


def test_a_required_column_has_no_nulls(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write_pyarrow(pa.table({"x": [1]}, pa.schema([pa.field("x", pa.int64(), nullable=False)])), path)

    def edit(footer: Struct) -> None:
        statistics(footer, 0, 0).drop(1, 2, 5, 6)
        statistics(footer, 0, 0).put(3, I64, 1)

    edit_footer(path, edit)
    stats = stats_of(path)
    assert stats.null_count.tolist() == [0]
    assert not stats.all_null.any(), "some writers count NaN as NULL"


def test_a_chunk_with_other_rows_than_its_row_group(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: f[4][1][0][1][1][0][3].put(5, I64, 3))
    assert stats.reason.tolist() == ["number of values is not that of rows", ""]
    assert stats.null_count.tolist() == [-1, 0]


def set_logical(member: int, content: Struct) -> Callable[[Struct], None]:
    def edit(footer: Struct) -> None:
        logical = Struct()
        logical.put(member, STRUCT, content)
        footer[2][1][1].put(10, STRUCT, logical)

    return edit


def test_an_unsigned_type_that_duckdb_reads_as_signed(tmp_path: Path) -> None:
    content = Struct()
    content.put(1, BYTE, 64)
    content.put(2, TRUE, False)
    assert set(edited(tmp_path, set_logical(10, content)).reason) == {"no model input"}


@pytest.mark.parametrize("converted", [11, 13, 15, 6, 7])
def test_a_converted_type_on_the_wrong_physical_type(tmp_path: Path, converted: int) -> None:
    stats = edited(tmp_path, lambda f: f[2][1][1].put(6, 5, converted))
    assert set(stats.reason) == {"logical and physical type do not fit together"}


def test_a_logical_type_that_contradicts_the_converted_type(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: f[2][1][1].put(6, 5, 12), pa.uint32())
    assert set(stats.reason) == {"logical and physical type do not fit together"}


def test_int96_and_missing_statistics(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([1, 2]).cast(pa.timestamp("us"))})
    write_pyarrow(table, tmp_path / "int96.parquet", use_deprecated_int96_timestamps=True)
    write_pyarrow(table, tmp_path / "bare.parquet", write_statistics=False)
    assert set(stats_of(tmp_path / "int96.parquet").reason) == {"INT96"}
    assert set(stats_of(tmp_path / "bare.parquet").reason) == {"no min and max"}


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


BROKEN = {
    "empty": b"",
    "garbage": b"PAR1" + bytes(range(256)) * 4 + b"PAR1",
    "no magic": b"hello world, this is text and no Parquet",
    "encrypted": b"PARE" + bytes(100) + (50).to_bytes(4, "little") + b"PARE",
    "footer longer than the file": b"PAR1" + bytes(20) + (2**31).to_bytes(4, "little") + b"PAR1",
    "empty footer": b"PAR1" + bytes(4) + b"PAR1",
}


@pytest.mark.parametrize("name", [*BROKEN, "a directory", "absent"])
def test_a_bad_file_is_recorded_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    write_duckdb(pa.table({"x": [1]}), good)
    if name in BROKEN:
        bad.write_bytes(BROKEN[name])
    elif name == "a directory":
        bad.mkdir()
    footers = read_footers([str(good), str(bad), str(good)], ["x"])
    assert [bool(error) for error in footers.errors] == [False, True, False]
    assert str(bad) in footers.errors[1]
    assert footers.file_index.tolist() == [0, 2]
    with pytest.raises(FooterError, match=r"bad\.parquet"):
        read_footers([str(good), str(bad)], ["x"], strict=True)


def test_encrypted_columns_under_a_plain_footer(tmp_path: Path) -> None:
    path = small_file(tmp_path)

    def hide(footer: Struct) -> None:
        chunk = footer[4][1][1][1][1][0]
        chunk.drop(3)
        key = Struct()
        key.put(1, LIST, (BINARY, [b"x"]))
        crypto = Struct()
        crypto.put(2, STRUCT, key)
        chunk.put(8, STRUCT, crypto)
        chunk.put(9, BINARY, b"\x19\x18\x01x" * 5)

    edit_footer(path, hide)
    footers = read_footers([str(path)], ["x"])
    assert "encrypted columns" in footers.errors[0]
    assert len(footers) == 0


def test_a_file_that_ends_anywhere_is_an_error(tmp_path: Path) -> None:
    whole, cut = small_file(tmp_path), tmp_path / "cut.parquet"
    data = whole.read_bytes()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        assert read_footers([str(cut)], ["x"]).errors[0], f"cut to {length} of {len(data)} bytes"


def duckdb_statistics(path: Path) -> list[tuple[int, str | None, str | None, int | None]] | None:
    statistics = "row_group_num_rows, stats_min_value, stats_max_value, stats_null_count"
    query = f"SELECT {statistics} FROM parquet_metadata('{path}') WHERE path_in_schema = 'x'"
    try:
        return duckdb.execute(query).fetchall()
    except duckdb.Error:
        return None


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_never_crash_and_give_what_duckdb_reads(tmp_path: Path, seed: int) -> None:
    """Where DuckDB still understands the footer, we read the same statistics or none."""
    path = tmp_path / "file.parquet"
    write = [write_duckdb, write_pyarrow, write_polars, write_fastparquet][seed]
    write(pa.table({"a": ["text", None] * 2000, "x": range(4000), "y": [0.5] * 4000}), path)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    generator = np.random.default_rng(seed)
    for trial in range(150):
        damaged = bytearray(data)
        for _ in range(trial % 3 + 1):
            damaged[len(data) - 8 - int(generator.integers(1, length + 1))] ^= 1 << int(generator.integers(8))
        path = tmp_path / f"{trial}.parquet"  # DuckDB 1.5 takes an equally old and large file for the same
        path.write_bytes(damaged)
        footers = read_footers([str(path)], ["x"])
        known = footers.columns["x"].known & ~footers.columns["x"].all_null
        expected = duckdb_statistics(path) if known.any() else None
        if expected is None or len(expected) != len(footers):
            continue
        stats = footers.columns["x"]
        for i in np.flatnonzero(known):
            n_rows, low, high, nulls = expected[i]
            assert footers.n_rows[i] == n_rows
            assert stats.null_count[i] in (-1, 0, nulls)
            if stats.sql_type == "BIGINT":
                assert low is not None
                assert high is not None
                assert stats.lower[i] == pytest.approx(float(low), rel=1e-15)
                assert stats.upper[i] == pytest.approx(float(high), rel=1e-15)


def test_random_bytes_behind_a_valid_trailer_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    generator = np.random.default_rng(0)
    for size in generator.integers(1, 400, 300).tolist():
        path.write_bytes(b"PAR1" + generator.bytes(size) + size.to_bytes(4, "little") + b"PAR1")
        assert read_footers([str(path)], ["x"]).errors[0]


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
    cache = footers_module._Cache(20)
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
    assert cache._held == sum(footers_module._size(footer) for footer in cache._footers.values())
