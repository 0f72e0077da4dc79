from __future__ import annotations

import datetime
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skipml.errors import SchemaError
from skipml.features import model_inputs, outward

INTEGERS = {
    "TINYINT": (8, True),
    "UTINYINT": (8, False),
    "SMALLINT": (16, True),
    "USMALLINT": (16, False),
    "INTEGER": (32, True),
    "UINTEGER": (32, False),
    "BIGINT": (64, True),
    "UBIGINT": (64, False),
}
ARROW = {"TINYINT": pa.int8(), "UTINYINT": pa.uint8(), "SMALLINT": pa.int16(), "USMALLINT": pa.uint16()} | {
    "INTEGER": pa.int32(),
    "UINTEGER": pa.uint32(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
}
EPOCH_TYPES = {
    "DATE": (pa.date32(), 86400, 1, 2**31 - 2),
    "TIMESTAMP_S": (pa.timestamp("s"), 10**6, 10**6, 9 * 10**12),
    "TIMESTAMP_MS": (pa.timestamp("ms"), 10**3, 10**6, 9 * 10**15),
    "TIMESTAMP": (pa.timestamp("us"), 1, 10**6, 2**63 - 2),
    "TIMESTAMP_NS": (pa.timestamp("ns"), 1, 10**9, 2**63 - 2),
    "TIMESTAMPTZ": (pa.timestamp("us", "UTC"), 1, 10**6, 2**63 - 2),
}


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def assert_inside(value: float, lower: Any, upper: Any) -> None:
    assert lower[0] <= value <= upper[0], f"{value!r} is not in [{lower[0]!r}, {upper[0]!r}]"


def row_input(array: pa.Array) -> float:
    values, null = model_inputs(pa.table({"x": array}), ["x"])
    assert not null[0, 0]
    return float(values[0, 0])


def duckdb_input(connection: duckdb.DuckDBPyConnection, array: pa.Array, expression: str) -> float:
    table = pa.table({"x": array})
    with connection.cursor() as cursor:
        cursor.register("source", table)
        value = cursor.execute(f"SELECT {expression} FROM source").fetchall()[0][0]
    assert isinstance(value, float)
    return value


@st.composite
def integers(draw: st.DrawFn) -> tuple[str, int]:
    name = draw(st.sampled_from(list(INTEGERS)))
    bits, signed = INTEGERS[name]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    near = st.sampled_from([p + d for p in (2**53, -(2**53), 2**54, 2**62, 2**63) for d in range(-3, 4)])
    return name, draw(st.integers(low, high) | near.filter(lambda v: low <= v <= high))


@given(integers())
@settings(max_examples=150, deadline=None)
def test_integers(connection: duckdb.DuckDBPyConnection, case: tuple[str, int]) -> None:
    name, value = case
    array = pa.array([value], ARROW[name])
    limits = outward(np.array([value], dtype=np.uint64 if name.startswith("U") else np.int64))
    assert_inside(float(value), *limits)
    assert row_input(array) == float(value)
    assert_inside(duckdb_input(connection, array, "CAST(x AS DOUBLE)"), *limits)
    if abs(value) <= 2**53:
        assert limits[0][0] == limits[1][0], "a small integer needs no room"


@given(st.integers(-(2**127) + 1, 2**127 - 1) | st.integers(-(2**70), 2**70))
@settings(max_examples=100, deadline=None)
def test_wide_integers(connection: duckdb.DuckDBPyConnection, value: int) -> None:
    limits = outward(np.array([value], dtype=object))
    row = connection.execute(f"SELECT CAST(CAST('{value}' AS HUGEINT) AS DOUBLE)").fetchall()[0]
    assert_inside(row[0], *limits)
    assert_inside(float(value), *limits)


@st.composite
def decimals(draw: st.DrawFn) -> tuple[int, int, int]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    limit = 10 ** draw(st.integers(1, precision)) - 1
    return precision, scale, draw(st.integers(-limit, limit) | st.sampled_from([limit, -limit, 0, 1]))


@given(decimals())
@settings(max_examples=300, deadline=None)
def test_decimals(connection: duckdb.DuckDBPyConnection, case: tuple[int, int, int]) -> None:
    precision, scale, unscaled = case
    with localcontext() as context:
        context.prec = 50
        array = pa.array([Decimal(unscaled).scaleb(-scale)], pa.decimal128(precision, scale))
    limits = outward(np.array([unscaled], dtype=np.int64 if precision <= 18 else object), 1, 10**scale)
    assert_inside(duckdb_input(connection, array, "CAST(x AS DOUBLE)"), *limits)
    assert_inside(row_input(array), *limits)
    assert Fraction(float(limits[0][0])) <= Fraction(unscaled, 10**scale) <= Fraction(float(limits[1][0]))


@st.composite
def ticks(draw: st.DrawFn) -> tuple[str, int]:
    name = draw(st.sampled_from(list(EPOCH_TYPES)))
    limit = EPOCH_TYPES[name][3]
    small = min(limit, 10**10)
    return name, draw(st.integers(-limit, limit) | st.integers(-small, small))


@given(ticks())
@example(("TIMESTAMP_S", 576_460_752_305))
@example(("TIMESTAMP_MS", 576_460_752_305_000))
@example(("TIMESTAMP_NS", -500))
@example(("TIMESTAMPTZ", -1))
@settings(max_examples=200, deadline=None)
def test_dates_and_timestamps(connection: duckdb.DuckDBPyConnection, case: tuple[str, int]) -> None:
    name, value = case
    kind, factor, divisor, _ = EPOCH_TYPES[name]
    integer = pa.int32() if name == "DATE" else pa.int64()
    array = pa.array([value], integer).cast(kind)
    limits = outward(np.array([value]), factor, divisor, 1e-6 if name in ("TIMESTAMP_NS", "TIMESTAMPTZ") else 0.0)
    assert_inside(duckdb_input(connection, array, "epoch(x)"), *limits)
    assert_inside(row_input(array), *limits)


@given(st.sampled_from(["s", "ms", "us", "ns"]), st.data())
@settings(max_examples=100, deadline=None)
def test_times(connection: duckdb.DuckDBPyConnection, unit: str, data: st.DataObject) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    value = data.draw(st.integers(0, 86_400 * per_second - 1))
    wide = unit in ("us", "ns")
    kind = pa.time64(unit) if wide else pa.time32(unit)
    array = pa.array([value], pa.int64() if wide else pa.int32()).cast(kind)
    limits = outward(np.array([value]), 1, per_second, 1e-6 if unit == "ns" else 0.0)
    assert_inside(duckdb_input(connection, array, "epoch(x)"), *limits)
    assert_inside(row_input(array), *limits)


@given(st.floats(width=64) | st.floats(width=32) | st.floats(width=16))
@settings(max_examples=100, deadline=None)
def test_floats_are_themselves(value: float) -> None:
    lower, upper = outward(np.array([value]))
    got = row_input(pa.array([value], pa.float64()))
    same = (math.isnan(value) and math.isnan(got)) or got == value
    assert same
    assert math.copysign(1, got) == math.copysign(1, value) or math.isnan(value)
    assert np.array_equal([lower[0], upper[0]], [value, value], equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_floats_are_exact(dtype: type[np.floating[Any]]) -> None:
    values = np.array([0.1, -0.0, np.inf, -np.inf, np.finfo(dtype).tiny, np.finfo(dtype).max], dtype=dtype)
    lower, upper = outward(values)
    rows, _ = model_inputs(pa.table({"x": pa.array(values)}), ["x"])
    assert lower.tolist() == upper.tolist() == rows[:, 0].tolist() == values.astype(np.float64).tolist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=20), st.sampled_from([1, 100, 10**6, 10**18]))
@settings(max_examples=100, deadline=None)
def test_the_map_is_monotone(values: list[int], divisor: int) -> None:
    ordered = np.sort(np.array(values))
    lower, upper = outward(ordered, 1, divisor)
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) >= 0).all()
    objects = outward(ordered.astype(object), 1, divisor)
    assert (objects[0] <= lower).all()
    assert (objects[1] >= upper).all()


def test_null_is_kept_apart_from_the_numbers() -> None:
    null_columns = {
        "i": pa.array([1, None], pa.int64()),
        "f": pa.array([math.nan, None]),
        "b": pa.array([True, None]),
        "d": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
        "t": pa.array([datetime.datetime(1970, 1, 2), None], pa.timestamp("ns")),
        "n": pa.nulls(2),
    }
    table = pa.table(null_columns)
    for batch in (table, table.to_batches()[0], pa.concat_tables([table.slice(0, 1), table.slice(1, 1)])):
        values, null = model_inputs(batch, list(null_columns))
        assert np.array_equal(values[0], [1, math.nan, 1, 1.5, 86400, 0], equal_nan=True)
        assert (values[1] == 0).all()
        assert null.tolist() == [[False] * 5 + [True], [True] * 6]


def test_slices_of_decimals() -> None:
    array = pa.array([Decimal(i) / 4 for i in range(-50, 50)], pa.decimal128(38, 2))
    values, _ = model_inputs(pa.table({"x": array.slice(7, 20)}), ["x"])
    assert values[:, 0].tolist() == [i / 4 for i in range(-43, -23)]
    narrow = array.cast(pa.decimal128(10, 2)).slice(3)
    for kind in (pa.decimal32(9, 2), pa.decimal64(18, 2), pa.decimal256(40, 2)):
        values, _ = model_inputs(pa.table({"x": narrow.cast(kind)}), ["x"])
        assert values[:, 0].tolist() == [i / 4 for i in range(-47, 50)]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32()])
def test_infinite_dates_are_null(kind: pa.DataType) -> None:
    limit = 2**31 - 1 if kind == pa.date32() else 2**63 - 1
    array = pa.array([limit, -limit, 5], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    _, null = model_inputs(pa.table({"x": array}), ["x"])
    assert null[:, 0].tolist() == [True, True, False], "epoch('infinity') is NULL in DuckDB"


def test_date64_counts_days() -> None:
    values, _ = model_inputs(pa.table({"x": pa.array([86_400_000 * 3], pa.int64()).cast(pa.date64())}), ["x"])
    assert values[0, 0] == 3 * 86_400


def test_no_rows_and_no_columns() -> None:
    values, null = model_inputs(pa.table({"x": pa.array([], pa.decimal128(5, 2))}), ["x"])
    assert values.shape == null.shape == (0, 1)
    assert model_inputs(pa.table({"x": [1, 2]}), [])[0].shape == (2, 0)


def test_the_order_and_case_of_columns() -> None:
    table = pa.table({"a": [1], "B": [2]})
    assert model_inputs(table, ["b", "a", "b"])[0].tolist() == [[2, 1, 2]]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["1"]),
        pa.array([b"1"]),
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array(["1"]).dictionary_encode(),
        pa.array([1], pa.duration("s")),
    ],
)
def test_what_is_no_model_input(array: pa.Array) -> None:
    with pytest.raises(SchemaError, match=r"'x' has type .* cast it"):
        model_inputs(pa.table({"x": array}), ["x"])


def test_missing_and_ambiguous_columns() -> None:
    with pytest.raises(SchemaError, match="'y' is missing; the rows have x, X"):
        model_inputs(pa.table({"x": [1], "X": [2]}), ["y"])
    double = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(SchemaError, match="'x' is there 2 times"):
        model_inputs(double, ["x"])
