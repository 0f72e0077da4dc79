"""SQL value -> model input: one monotone map to float64, for rows (`model_inputs`) and for the limits that metadata
gives (`outward`).

    BOOLEAN                          0 or 1
    integers of every width          the nearest double
    HALF, FLOAT, DOUBLE              the same number
    DECIMAL(p, s)                    the unscaled integer over 10**s
    DATE, TIMESTAMP of every unit    seconds since 1970-01-01 UTC
    TIME of every unit               seconds since midnight

Dates and times are DuckDB's epoch(), up to a microsecond; an infinite date or timestamp is NULL there and here.

Nothing else is a model input. DuckDB, Arrow and numpy round a division or a wide integer in different ways, so
`outward` leaves room for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skipml.errors import SchemaError

EXACT = 2**53
"""Up to here every integer is a double."""
_DIVISION_ULPS = 2
_WIDE_ULPS = 4  # runtimes put a 128-bit integer together from two halves before they divide
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INFINITE_TIMESTAMP = 2**63 - 1
_INFINITE_DATE = 2**31 - 1


def outward(
    values: NDArray[Any], factor: int = 1, divisor: int = 1, slack: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits around the model input `value * factor / divisor`, however the runtime rounds it.

    `values` [n] are floats, 64-bit integers or, for wider ones, Python integers in an object array; `slack` is added on
    both sides. Returns lower, upper float64 [n]; NaN stays NaN.
    """
    if values.dtype.kind == "f":
        exact = values.astype(np.float64)
        return exact, exact.copy()
    wide = values.dtype == object or divisor >= 2**63
    if wide or values.dtype != np.uint64:
        values = values.astype(object if wide else np.int64)
    scaled = values * factor
    known_exact = ((scaled <= EXACT) & (scaled >= -EXACT) & (scaled % divisor == 0)).astype(bool)
    nearest = (scaled / divisor).astype(np.float64)
    lower, upper = nearest - slack, nearest + slack
    for _ in range(_WIDE_ULPS if wide else _DIVISION_ULPS):
        lower, upper = np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf)
    if slack:
        return lower, upper
    return np.where(known_exact, nearest, lower), np.where(known_exact, nearest, upper)


def model_inputs(
    batch: pa.RecordBatch | pa.Table, columns: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The model inputs of rows: float64 [n, d], and bool [n, d] that says where the input is NULL (the number there is
    0).

    Column names are looked up as written, then without case. Raises SchemaError for a column that is missing, ambiguous
    or no model input.
    """
    values = np.zeros((batch.num_rows, len(columns)), dtype=np.float64, order="F")
    null = np.zeros((batch.num_rows, len(columns)), dtype=np.bool_, order="F")
    for i, name in enumerate(columns):
        column = batch.column(_position(batch.schema.names, name))
        numbers, missing = _column_inputs(column, name)
        values[:, i] = np.where(missing, 0.0, numbers)
        null[:, i] = missing
    return values, null


def _position(names: Sequence[str], name: str) -> int:
    for candidates in (
        [i for i, n in enumerate(names) if n == name],
        [i for i, n in enumerate(names) if n.lower() == name.lower()],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise SchemaError(
                f"column '{name}' is there {len(candidates)} times; "
                "rename the columns so that the model input is unambiguous"
            )
    raise SchemaError(f"column '{name}' is missing; the rows have {', '.join(names) or 'no columns'}")


def _column_inputs(column: pa.Array | pa.ChunkedArray, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    kind = column.type
    missing = _numpy(column.is_null())
    if pa.types.is_null(kind):
        return np.zeros(len(column)), np.ones(len(column), dtype=bool)
    if pa.types.is_boolean(kind):
        return _numpy(pc.fill_null(column, False)).astype(np.float64), missing
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numpy(pc.fill_null(column, pa.scalar(0, kind))).astype(np.float64), missing
    if pa.types.is_decimal(kind):
        return _decimals(column), missing
    if pa.types.is_timestamp(kind):
        ticks = _ticks(column, pa.int64())
        return _seconds(ticks, kind.unit), missing | (np.abs(ticks) == _INFINITE_TIMESTAMP)
    if pa.types.is_date32(kind):
        days = _ticks(column, pa.int32()).astype(np.int64)
        return (days * 86400).astype(np.float64), missing | (np.abs(days) == _INFINITE_DATE)
    if pa.types.is_date64(kind):
        return _seconds(_ticks(column, pa.int64()), "ms"), missing
    if pa.types.is_time(kind):
        return _seconds(_ticks(column, pa.int64() if pa.types.is_time64(kind) else pa.int32()), kind.unit), missing
    raise SchemaError(
        f"column '{name}' has type {kind}, which cannot be a model input; "
        "cast it in the query to a number, a date or a time (text needs the encoding that the model was trained with)"
    )


def _decimals(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """The unscaled integer over its power of ten; what Arrow itself casts is off by an ulp even where the quotient is
    exact. NULL gives any number.
    """
    kind = column.type
    if pa.types.is_decimal256(kind):
        return _numpy(pc.fill_null(pc.cast(column, pa.float64()), 0.0)).astype(np.float64)
    wide = pc.cast(column, pa.decimal128(38, kind.scale))
    chunks = wide.chunks if isinstance(wide, pa.ChunkedArray) else [wide]
    words = [
        np.frombuffer(chunk.buffers()[1], dtype="<i8").reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    low, high = np.concatenate([*words, np.zeros((0, 2), dtype=np.int64)]).T
    scale = 10**kind.scale
    values: NDArray[np.float64] = low / float(scale)
    for i in np.flatnonzero(high != low >> 63):
        values[i] = ((int(high[i]) << 64) + int(low[i].view(np.uint64))) / scale
    return values


def _ticks(column: pa.Array | pa.ChunkedArray, integer: pa.DataType) -> NDArray[Any]:
    return _numpy(pc.fill_null(pc.cast(column, integer), 0))


def _seconds(ticks: NDArray[Any], unit: str) -> NDArray[np.float64]:
    seconds: NDArray[np.float64] = ticks / float(_TICKS[unit])
    return seconds


def _numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))
