"""Parquet column types: which model input a column is, and what the bytes of its statistics mean.

The SQL type is the one DuckDB gives the column. Where logical, converted and physical type do not fit together, readers
disagree on the values and their order, so the column is not a model input.

Source: https://github.com/apache/parquet-format/blob/master/LogicalTypes.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from skipml.features import outward
from skipml.parquet.thrift import Buffer, Positions, varint

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A tick is factor / divisor seconds; DuckDB counts microseconds and divides those."""

    factor: int
    divisor: int

    def slack(self, utc: bool) -> float:
        """DuckDB rounds or cuts nanoseconds; with a time zone it adds milliseconds and microseconds after dividing."""
        return 1e-6 if utc or self.divisor == _NANOSECONDS else 0.0


_NANOSECONDS = 10**9
_TYPE, _LENGTH, _REPETITION, _NAME, _CHILDREN, _CONVERTED, _SCALE, _PRECISION = range(1, 9)  # fields of SchemaElement
_LOGICAL = 10
_REQUIRED, _REPEATED = 0, 2  # values of FieldRepetitionType
_DECIMAL, _DATE, _TIME, _TIMESTAMP, _INTEGER, _FLOAT16 = 5, 6, 7, 8, 10, 15  # members of LogicalType
_MILLIS = _Unit(1000, 10**6)
_MICROS = _Unit(1, 10**6)
_NANOS = _Unit(1, _NANOSECONDS)
_UNITS = {1: _MILLIS, 2: _MICROS, 3: _NANOS}  # members of TimeUnit
_CONVERTED_TEXT, _CONVERTED_DECIMAL, _CONVERTED_DATE = 0, 5, 6  # values of ConvertedType
_CONVERTED_TIMES = {7: _MILLIS, 8: _MICROS}
_CONVERTED_TIMESTAMPS = {9: _MILLIS, 10: _MICROS}
_CONVERTED_INTEGERS = {
    11: ("UTINYINT", 8, False),
    12: ("USMALLINT", 16, False),
    13: ("UINTEGER", 32, False),
    14: ("UBIGINT", 64, False),
    15: ("TINYINT", 8, True),
    16: ("SMALLINT", 16, True),
    17: ("INTEGER", 32, True),
    18: ("BIGINT", 64, True),
}
INTEGER_TYPES = frozenset(name for name, _, _ in _CONVERTED_INTEGERS.values())
_NANOSECOND_TYPES = int(duckdb.__version__.partition(".")[0]) >= 2  # before, they were read as microseconds
_MAX_DECIMAL_DIGITS = 38
TEXT = "text"
"""The codec of what is text."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """How the statistics of a column become model inputs.

    They are decoded as `codec`; what lies in [low, high] is a value of the type and stands for the model input
    value * factor / divisor, up to `slack`. `reason` says why the column is not a model input, '' if it is one.
    """

    sql_type: str
    reason: str = ""
    codec: str = ""
    low: int = 0
    high: int = 0
    factor: int = 1
    divisor: int = 1
    slack: float = 0.0
    required: bool = False

    @property
    def is_float(self) -> bool:
        """Values may be NaN."""
        return self.codec.startswith("<f")

    def limits(self, buffer: Buffer, minimum: Positions, maximum: Positions) -> Limits:
        """Model inputs around the statistics at the positions [n] (-1: none)."""
        low, low_valid = _decode(buffer, minimum, self.codec)
        high, high_valid = _decode(buffer, maximum, self.codec)
        valid = low_valid & high_valid & self._holds(low) & self._holds(high)
        low, high = np.where(valid, low, 0), np.where(valid, high, 0)
        lower, _ = outward(low, self.factor, self.divisor, self.slack)
        _, upper = outward(high, self.factor, self.divisor, self.slack)
        return Limits(lower, upper, valid, (low <= high).astype(bool))

    def _holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        held = ~np.isnan(values) if self.is_float else (values >= self.low) & (values <= self.high)
        return held.astype(np.bool_)


@dataclass(frozen=True, slots=True)
class Limits:
    """`lower`, `upper` float64 [n]; `valid`: both statistics are there and values of the type; `ordered`: the smaller
    is not above the larger.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    valid: NDArray[np.bool_]
    ordered: NDArray[np.bool_]


def column_type(element: Mapping[int, Any]) -> ColumnType:
    """The type of a schema element (its Thrift fields by id)."""
    if _CHILDREN in element or _TYPE not in element:
        return ColumnType("STRUCT", "nested column")
    if element.get(_REPETITION) == _REPEATED:
        return ColumnType("LIST", "repeated column")
    found = _logical_type(element) or _converted_type(element) or _physical_type(element)
    if found.reason or element.get(_REPETITION) != _REQUIRED:
        return found
    return replace(found, required=True)


def element_name(element: Mapping[int, Any]) -> bytes:
    """The name of a schema element, in UTF-8."""
    name = element[_NAME]
    if not isinstance(name, bytes):
        raise TypeError("a column's name is no text")
    return name


def _mismatch(sql_type: str) -> ColumnType:
    return ColumnType(sql_type, "logical and physical type do not fit together")


def _logical_type(element: Mapping[int, Any]) -> ColumnType | None:
    """What DuckDB takes from the logical type; None where it looks at the converted type."""
    logical = element.get(_LOGICAL) or {}
    physical = element[_TYPE]
    if _FLOAT16 in logical:
        return (
            ColumnType("FLOAT", codec="<f2") if physical == FIXED and element.get(_LENGTH) == 2 else _mismatch("FLOAT")
        )
    if _TIMESTAMP in logical:
        return _timestamp(physical, logical[_TIMESTAMP].get(1) is True, _unit(logical[_TIMESTAMP]))
    if _TIME in logical:
        return _time(physical, logical[_TIME].get(1) is True, _unit(logical[_TIME]))
    if _CONVERTED in element:
        expected = {_DECIMAL: (_CONVERTED_DECIMAL,), _DATE: (_CONVERTED_DATE,), _INTEGER: tuple(_CONVERTED_INTEGERS)}
        fits = all(element[_CONVERTED] in converted for member, converted in expected.items() if member in logical)
        return None if fits and _same_integer(element, logical) and _same_decimal(element, logical) else _mismatch("")
    return ColumnType("", "no model input") if logical else None


def _same_integer(element: Mapping[int, Any], logical: Mapping[int, Any]) -> bool:
    if _INTEGER not in logical:
        return True
    _, bits, signed = _CONVERTED_INTEGERS[element[_CONVERTED]]
    return (logical[_INTEGER].get(1), logical[_INTEGER].get(2)) == (bits, signed)


def _same_decimal(element: Mapping[int, Any], logical: Mapping[int, Any]) -> bool:
    if _DECIMAL not in logical:
        return True
    return (logical[_DECIMAL].get(1), logical[_DECIMAL].get(2)) == (element.get(_SCALE), element.get(_PRECISION))


def _converted_type(element: Mapping[int, Any]) -> ColumnType | None:
    if _CONVERTED not in element:
        return None
    converted, physical = element[_CONVERTED], element[_TYPE]
    if converted in _CONVERTED_INTEGERS:
        return _integer(physical, *_CONVERTED_INTEGERS[converted])
    if converted == _CONVERTED_DATE:
        # the largest day is 'infinity', which has no epoch
        return (
            ColumnType("DATE", codec="<i4", low=-(2**31) + 2, high=2**31 - 2, factor=86400)
            if physical == INT32
            else _mismatch("DATE")
        )
    if converted in _CONVERTED_TIMESTAMPS:
        return _timestamp(physical, False, _CONVERTED_TIMESTAMPS[converted])
    if converted in _CONVERTED_TIMES:
        return _time(physical, False, _CONVERTED_TIMES[converted])
    if converted == _CONVERTED_DECIMAL:
        return _decimal(element)
    if converted == _CONVERTED_TEXT and physical == BYTE_ARRAY:
        return ColumnType("VARCHAR", "no model input", codec=TEXT)
    return ColumnType({0: "VARCHAR", 21: "INTERVAL"}.get(converted, ""), "no model input")


def _physical_type(element: Mapping[int, Any]) -> ColumnType:
    physical = element[_TYPE]
    if physical in (INT32, INT64):
        bits = 32 if physical == INT32 else 64
        return _integer(physical, "INTEGER" if physical == INT32 else "BIGINT", bits, True)
    if physical in (FLOAT, DOUBLE):
        return ColumnType("FLOAT", codec="<f4") if physical == FLOAT else ColumnType("DOUBLE", codec="<f8")
    if physical == BOOLEAN:
        return ColumnType("BOOLEAN", codec="<u1", high=1)
    if physical == INT96:
        return ColumnType("TIMESTAMP", "INT96")
    return ColumnType("BLOB", "no model input")


def _integer(physical: int, sql_type: str, bits: int, signed: bool) -> ColumnType:
    if physical != (INT64 if bits == 64 else INT32):
        return _mismatch(sql_type)
    codec = f"<{'i' if signed else 'u'}{8 if bits == 64 else 4}"
    return ColumnType(sql_type, codec=codec, low=-(2 ** (bits - 1)) if signed else 0, high=2 ** (bits - signed) - 1)


def _unit(logical: Mapping[int, Any]) -> _Unit | None:
    return next((_UNITS[member] for member in logical.get(2, {}) if member in _UNITS), None)


def _timestamp(physical: int, utc: bool, unit: _Unit | None) -> ColumnType:
    if utc:
        sql_type = "TIMESTAMPTZ_NS" if unit is _NANOS and _NANOSECOND_TYPES else "TIMESTAMP WITH TIME ZONE"
    else:
        sql_type = "TIMESTAMP_NS" if unit is _NANOS else "TIMESTAMP"
    if physical != INT64 or unit is None:
        return _mismatch(sql_type)
    limit = (2**63 - 2) // unit.factor  # the largest is 'infinity', which has no epoch
    return ColumnType(sql_type, "", "<i8", -limit, limit, unit.factor, unit.divisor, unit.slack(utc))


def _time(physical: int, utc: bool, unit: _Unit | None) -> ColumnType:
    sql_type = "TIME WITH TIME ZONE" if utc else "TIME_NS" if unit is _NANOS and _NANOSECOND_TYPES else "TIME"
    if unit is None or physical != (INT32 if unit is _MILLIS else INT64):
        return _mismatch(sql_type)
    codec = "<i4" if physical == INT32 else "<i8"
    midnight = 86400 * unit.divisor // unit.factor
    return ColumnType(sql_type, "", codec, 0, midnight, unit.factor, unit.divisor, unit.slack(utc))


def _decimal(element: Mapping[int, Any]) -> ColumnType:
    precision, scale, physical = element.get(_PRECISION, 0), element.get(_SCALE, -1), element[_TYPE]
    sql_type = f"DECIMAL({precision},{scale})"
    if precision > _MAX_DECIMAL_DIGITS:
        # not DOUBLE, as DuckDB has it: what DuckDB makes of one is not what metadata knows of it
        return ColumnType(sql_type, "decimal of more than 38 digits")
    codec = {INT32: "<i4", INT64: "<i8", FIXED: ">", BYTE_ARRAY: ">"}.get(physical, "")
    if not codec or not 0 <= scale <= precision or not precision:
        return _mismatch(sql_type)
    limit = 10**precision - 1
    if codec != ">":
        limit = min(limit, 2 ** (31 if physical == INT32 else 63) - 1)
    return ColumnType(sql_type, codec=codec, low=-limit, high=limit, divisor=10**scale)


def _decode(buffer: Buffer, at: Positions, codec: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The numbers in the binary fields at the positions (-1: none), and which are there with the right size."""
    size, start = varint(buffer, np.maximum(at, 0))
    if codec == ">":
        return _decode_big_endian(buffer, start, size, (at >= 0) & (size > 0) & (size <= 16))
    width = np.dtype(codec).itemsize
    valid = (at >= 0) & (size == width)
    start = np.where(valid, start, 0)
    return buffer[start[:, None] + np.arange(width)].view(codec)[:, 0], valid


def _decode_big_endian(
    buffer: Buffer, start: Positions, size: NDArray[np.uint64], valid: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Two's complement integers of 1 to 16 bytes: int64 if all fit, else Python integers."""
    length = np.where(valid, size, 1).astype(np.int64)
    start = np.where(valid, start, 0)
    if length.max(initial=0) > 8:
        raw = memoryview(buffer)  # type: ignore[arg-type]
        numbers = [
            int.from_bytes(raw[s : s + n], "big", signed=True)
            for s, n in zip(start.tolist(), length.tolist(), strict=True)
        ]
        return np.array(numbers, dtype=object), valid
    offset = np.arange(8) - (8 - length[:, None])
    sign = np.where(buffer[start] >= 0x80, 0xFF, 0).astype(np.uint8)
    wide = np.where(offset < 0, sign[:, None], buffer[start[:, None] + np.maximum(offset, 0)])
    return np.ascontiguousarray(wide).view(">i8")[:, 0].astype(np.int64), valid
