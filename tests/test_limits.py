"""Limits and counts are those of the model inputs of all rows, bit for bit, whatever the type and the layout."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.errors import SchemaError
from skipml.features import integers, model_inputs, scaled
from skipml.limits import Limits, limits
from tests.nasty import NASTY, nasty_array, nasty_table
from tests.soundness.lakes import KINDS, Lake, lakes
from tests.writers import ROW_GROUP_ROWS, WRITERS

DAY, TICK = 2**31 - 1, 2**63 - 1
OTHERS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "infinite_date": (pa.date32(), [DAY, -DAY, -(2**31), DAY - 1, 0, 7]),
    "infinite_timestamp": (pa.timestamp("us"), [TICK, -TICK, -(2**63), TICK - 1, 0, 7]),
    "infinite_timestamp_utc": (pa.timestamp("ns", "UTC"), [TICK, -TICK, -(2**63), 1 - TICK, 0]),
    "date64": (pa.date64(), [0, 86_400_000, -86_400_000 * 700_000]),
    "time_s": (pa.time32("s"), [0, 1, 86_399]),
    "decimal19": (pa.decimal128(19, 2), [Decimal(2**63).scaleb(-2), Decimal(2**63 - 1).scaleb(-2), Decimal(-1)]),
    "decimal38_23": (pa.decimal128(38, 23), [Decimal(2**63 + i).scaleb(-23) for i in (-1, 0, 1)]),
    "decimal32": (pa.decimal32(9, 2), [Decimal("0.07"), Decimal("-9999999.99"), Decimal("9999999.99")]),
    "decimal64": (pa.decimal64(18, 3), [Decimal("0.007"), Decimal(10**18 - 1).scaleb(-3), Decimal(-1)]),
    "decimal256": (pa.decimal256(60, 20), [Decimal(10**59).scaleb(-20), Decimal(-(2**70)), Decimal("0.1")]),
    "null": (pa.null(), [None]),
}
VALUES: dict[str, list[Any]] = {
    **{name: [*ordinary, *extreme] for name, (_, ordinary, extreme) in NASTY.items()},
    **{name: values for name, (_, values) in OTHERS.items()},
    **{f"lake {name}": list(kind.nasty) for name, kind in KINDS.items()},
}


def array(name: str, values: list[Any]) -> pa.Array:
    if name.startswith("lake "):
        return KINDS[name.removeprefix("lake ")].array(values)
    if name in NASTY:
        return nasty_array(name, values)
    kind = OTHERS[name][0]
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    return pa.array(values, kind)


def of_all_rows(rows: pa.RecordBatch | pa.Table, columns: list[str]) -> list[NDArray[Any]]:
    """The same figures from the model inputs of every row."""
    values, null = model_inputs(rows, columns)
    nan = np.isnan(values) & ~null
    numbers = [values[~(null | nan)[:, i], i] for i in range(len(columns))]
    ends = [(x.min(), x.max()) if len(x) else (np.inf, -np.inf) for x in numbers]
    lower, upper = np.array(ends, np.float64).reshape(-1, 2).T
    return [lower, upper, null.sum(axis=0), nan.sum(axis=0)]


def assert_limits(rows: pa.RecordBatch | pa.Table) -> Limits:
    found, names = limits(rows, rows.schema.names), rows.schema.names
    figures = [found.lower, found.upper, found.null_count, found.nan_count]
    for what, mine, theirs in zip(("lower", "upper", "NULLs", "NaNs"), figures, of_all_rows(rows, names), strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.tobytes() == theirs.tobytes(), (what, mine, theirs, rows.schema)
    return found


@st.composite
def columns(draw: st.DrawFn) -> pa.ChunkedArray:
    """A column of any type: nasty values and NULLs, in chunks that start anywhere in their buffers."""
    name = draw(st.sampled_from(list(VALUES)))
    value = st.sampled_from(VALUES[name]) | st.just(VALUES[name][0])
    value = value | st.none() if draw(st.booleans()) else value
    chunks = [array(name, values) for values in draw(st.lists(st.lists(value, max_size=6), max_size=3))]
    sliced = [chunk.slice(draw(st.integers(0, len(chunk)))) for chunk in chunks]
    return pa.chunked_array(sliced, array(name, []).type)


@settings(max_examples=1000)
@given(columns())
@example(pa.chunked_array([array("infinite_date", [-(2**31), -DAY, 0])]))
@example(pa.chunked_array([array("infinite_timestamp", [-(2**63), -TICK, 0])]))
@example(pa.chunked_array([array("decimal38_23", [Decimal(2**63 + i).scaleb(-23) for i in (-1, 0, 1)])]))
def test_limits_are_those_of_the_model_inputs_of_all_rows(column: pa.ChunkedArray) -> None:
    assert_limits(pa.table({"x": column}))


@pytest.mark.parametrize("name", NASTY)
def test_row_groups_of_nasty_tables(tmp_path: Path, name: str) -> None:
    table = nasty_table(name)
    for start in range(0, table.num_rows, ROW_GROUP_ROWS):
        assert_limits(table.slice(start, ROW_GROUP_ROWS))
        assert_limits(table.slice(start + 1, 3).combine_chunks().to_batches()[0])
    WRITERS["pyarrow"](table, tmp_path / "x.parquet")
    with pq.ParquetFile(tmp_path / "x.parquet") as file:
        for group in range(file.num_row_groups):
            assert_limits(file.read_row_group(group))


@settings(max_examples=100)
@given(lakes())
def test_row_groups_of_lakes(lake: Lake) -> None:
    for rows in lake.table(np.random.default_rng(lake.seed)):
        assert_limits(rows.select(list(lake.columns)))


@given(st.sampled_from([name for name in VALUES if integers(array(name, [])) is not None]), st.data())
def test_inputs_never_fall_where_integers_rise(name: str, data: st.DataObject) -> None:
    kind = array(name, []).type
    some = integers(array(name, [value for value in VALUES[name] if value is not None]))
    assert some is not None
    ends = (0, 1) if some.dtype == np.bool_ else (int(np.iinfo(some.dtype).min), int(np.iinfo(some.dtype).max))
    near = st.sampled_from(some.tolist()).flatmap(lambda v: st.integers(max(v - 3, ends[0]), min(v + 3, ends[1])))
    rising = np.sort(np.array(data.draw(st.lists(st.integers(*ends) | near, min_size=2)), some.dtype))
    assert (np.diff(scaled(rising, kind)) >= 0).all()


def test_infinite_dates_are_nulls_and_no_limits() -> None:
    found = assert_limits(pa.table({"x": array("infinite_date", [DAY, 5, None, -DAY, 3])}))
    assert (found.lower[0], found.upper[0], found.null_count[0]) == (3 * 86400, 5 * 86400, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_of_every_sign_is_counted_and_is_no_limit(dtype: type[np.floating[Any]]) -> None:
    nan = np.array([np.nan], dtype)
    values = np.concatenate([np.array([-0.0, 0.0, -np.inf], dtype), nan, -nan, np.array([2.0], dtype)])
    for start in range(len(values)):
        found = assert_limits(pa.table({"x": pa.array(values[start:])}))
        assert found.nan_count[0] == np.isnan(values[start:]).sum()
    found = limits(pa.table({"x": pa.array(values, mask=np.arange(6) == 2)}), ["X"])
    assert (found.lower[0], found.upper[0], found.null_count[0], found.nan_count[0]) == (0, 2, 1, 2)


def test_signalling_nan_is_counted_without_a_warning() -> None:
    bits: dict[Any, Any] = {
        np.float16: np.uint16(0x7C01),
        np.float32: np.uint32(0x7F800001),
        np.float64: np.uint64(0x7FF0000000000001),
    }
    for dtype, nan in bits.items():
        found = limits(pa.table({"x": pa.array(np.array([0, nan, 0], nan.dtype).view(dtype))}), ["x"])
        assert (found.lower[0], found.upper[0], found.nan_count[0]) == (0, 0, 1)


def test_int96_times(tmp_path: Path) -> None:
    times = [datetime.datetime(1, 1, 1), None, datetime.datetime(9999, 12, 31), datetime.datetime(1970, 1, 1)]
    table = pa.table({"x": pa.array(times, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "x.parquet", use_deprecated_int96_timestamps=True)
    read = pq.read_table(tmp_path / "x.parquet", coerce_int96_timestamp_unit="us")
    found = assert_limits(read)
    assert (found.lower[0], found.upper[0], found.null_count[0]) == (-62135596800, 253402214400, 1)


def test_no_rows_no_columns_and_what_is_no_input() -> None:
    assert_limits(pa.table({"x": pa.array([], pa.decimal128(5, 2)), "y": pa.array([], pa.float16())}))
    assert limits(pa.table({"x": [1]}), []).lower.shape == (0,)
    with pytest.raises(SchemaError, match="'t' has type string"):
        limits(pa.table({"t": ["1"]}), ["t"])
    with pytest.raises(SchemaError, match="'y' is missing"):
        limits(pa.table({"x": [1]}), ["y"])


@pytest.mark.parametrize("name", [name for name in VALUES if "decimal" in name])
def test_decimals_of_every_width_are_read_whole(name: str) -> None:
    values = [value for value in VALUES[name] if value is not None]
    found = limits(pa.table({"x": array(name, values)}), ["x"])
    numbers = [float(Decimal(str(value))) for value in array(name, values).to_pylist()]
    assert found.lower[0] == pytest.approx(min(numbers), rel=1e-15)
    assert found.upper[0] == pytest.approx(max(numbers), rel=1e-15)
