from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from skipml.footers import ColumnStats
from skipml.parquet.thrift import BINARY, BYTE, I64, LIST, STRUCT, TRUE
from tests.nasty import NAN, nasty_table
from tests.writers import Struct, edit_footer, statistics, write_duckdb, write_pyarrow
from tests.zone_maps import small_file, stats_of


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
    assert stats.reason.tolist() == ["no NaN count; skipml enrich adds one", "min or max is no DOUBLE"]


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


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31) + 1, -(2**31)])
def test_an_infinite_date_has_no_epoch(tmp_path: Path, value: int) -> None:
    number = 5 if value > 0 else 6
    days = value.to_bytes(4, "little", signed=True)
    stats = edited(tmp_path, lambda f: statistics(f, 0, 0).put(number, BINARY, days), pa.date32())
    assert stats.known.tolist() == [False, True]


def test_without_column_orders_nothing_is_known(tmp_path: Path) -> None:
    stats = edited(tmp_path, lambda f: f.drop(7))
    assert not stats.known.any()
    assert set(stats.reason) == {"unknown column order"}


def test_another_column_order_is_not_understood(tmp_path: Path) -> None:
    def edit(footer: Struct) -> None:
        order = Struct()
        order.put(9, STRUCT, Struct())
        footer.put(7, LIST, (STRUCT, [order]))

    stats = edited(tmp_path, edit)
    assert not stats.known.any()
    assert set(stats.reason) == {"unknown column order"}


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
    assert stats.known.tolist() == [False, True]
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


@pytest.mark.skipif(duckdb.__version__ < "2", reason="writes no NaN count")
def test_the_nan_count_of_duckdb_is_believed_of_any_writer(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write_duckdb(nasty_table("double"), path)
    edit_footer(path, lambda f: f.put(6, BINARY, b"someone else"))
    assert not stats_of(path).may_be_nan.any()
    write_duckdb(nasty_table("double_nan"), path)
    edit_footer(path, lambda f: f.put(6, BINARY, b"someone else"))
    assert stats_of(path).may_be_nan.tolist() == [True, True, False, True, True, True, False]


@pytest.mark.parametrize(
    ("writer", "trusted"),
    [
        (b"DuckDB version v1.1.3 (build x)", True),
        (b"DuckDB version v2.0.0 (build x)", True),
        (b"DuckDB version v3.0.0 (build x)", False),
        (b"DuckDB version v0.9.2", False),
        (b"DuckDB", False),
    ],
)
def test_writers_that_are_trusted_by_name(tmp_path: Path, writer: bytes, trusted: bool) -> None:
    path = tmp_path / "file.parquet"
    write_pyarrow(pa.table({"x": [1.0]}), path)
    edit_footer(path, lambda f: f.put(6, BINARY, writer))
    assert stats_of(path).may_be_nan.tolist() == [not trusted]
