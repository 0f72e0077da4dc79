"""Regions of argument expressions: `fraud(epoch(d), amount * 2, 30)` reads columns through monotone maps and interval
arithmetic.

Whatever is not in the lists below is unknown. Every result is rounded outward, so it contains what DuckDB computes
for any row of the block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.engines.dialect import Expr
from skipml.parquet.texts import TextLimits
from skipml.regions import Regions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_FLOATS = re.compile(r"FLOAT\[\d+\]")
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_INTEGERS = {sign + name for name in _BITS for sign in ("", "U")}
_DATES = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
_EPOCH = _DATES | {"TIME", "TIMESTAMP WITH TIME ZONE"}
_PART_RANGE = {
    "month": (1, 12),
    "day": (1, 31),
    "quarter": (1, 4),
    "week": (1, 53),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
    "dayofweek": (0, 6),
    "weekday": (0, 6),
    "isodow": (1, 7),
    "dayofmonth": (1, 31),
    "dayofyear": (1, 366),
    "weekofyear": (1, 53),
    "dow": (0, 6),
    "doy": (1, 366),
}
_MONOTONE: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "ln": (np.log, 0.0),
    "log10": (np.log10, 0.0),
    "log2": (np.log2, 0.0),
    "sqrt": (np.sqrt, 0.0),
    "exp": (np.exp, -np.inf),
}
"""Increasing functions with the largest argument outside their domain; libraries differ in the last digits, hence the
wide rounding.
"""
_LIBRARY_ULPS = 8


def _is_numeric(sql_type: str) -> bool:
    return sql_type in _INTEGERS or sql_type in ("FLOAT", "DOUBLE", "BOOLEAN") or sql_type.startswith("DECIMAL")


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of an expression in N blocks: bounds [N], outward, and the flags of `Regions` for one input."""

    lower: Floats
    upper: Floats
    unknown: Bools
    all_null: Bools
    may_be_null: Bools
    may_be_nan: Bools
    text: TextLimits | None = None
    """Limits of text, which is unknown otherwise."""

    @classmethod
    def constant(cls, value: float, n_blocks: int) -> Values:
        """The same number in every row."""
        no = np.zeros(n_blocks, dtype=np.bool_)
        return cls(np.full(n_blocks, value), np.full(n_blocks, value), no, no, no, np.full(n_blocks, np.isnan(value)))

    @classmethod
    def nothing(cls, n_blocks: int) -> Values:
        """Nothing is known."""
        yes = np.ones(n_blocks, dtype=np.bool_)
        return cls(np.full(n_blocks, -np.inf), np.full(n_blocks, np.inf), yes, ~yes, yes, yes)

    def between(self, lower: Floats, upper: Floats) -> Values:
        """The same rows with other bounds; a bound that is not a number makes the block unknown."""
        bad = np.isnan(lower) | np.isnan(upper)
        return replace(
            self, lower=np.where(bad, -np.inf, lower), upper=np.where(bad, np.inf, upper), unknown=self.unknown | bad
        )


def _outward(lower: Floats, upper: Floats, ulps: int = 1) -> tuple[Floats, Floats]:
    for _ in range(ulps):
        lower, upper = np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf)
    return lower, upper


def input_regions(
    arguments: Mapping[str, Expr],
    columns: Mapping[str, Values],
    scan_columns: Sequence[str],
    constants: Mapping[str, float],
    n_rows: NDArray[np.int64],
) -> Regions:
    """Regions whose inputs are the argument expressions, by name; `columns` holds what is known of the scan's
    columns, `constants` the value of each constant's text.
    """
    found = [_Evaluation(columns, scan_columns, constants, len(n_rows)).values(expr) for expr in arguments.values()]

    def side(pick: Callable[[Values], NDArray[np.generic]], dtype: type) -> NDArray[np.generic]:
        return np.stack([pick(v) for v in found], axis=1) if found else np.zeros((len(n_rows), 0), dtype=dtype)

    return Regions(
        columns=tuple(arguments),
        lower=np.asarray(side(lambda v: v.lower, np.float64), dtype=np.float64),
        upper=np.asarray(side(lambda v: v.upper, np.float64), dtype=np.float64),
        block=np.arange(len(n_rows), dtype=np.int64),
        n_rows=n_rows,
        unknown=np.asarray(side(lambda v: v.unknown, np.bool_), dtype=np.bool_),
        all_null=np.asarray(side(lambda v: v.all_null, np.bool_), dtype=np.bool_),
        may_be_null=np.asarray(side(lambda v: v.may_be_null, np.bool_), dtype=np.bool_),
        may_be_nan=np.asarray(side(lambda v: v.may_be_nan, np.bool_), dtype=np.bool_),
        texts={i: values.text for i, values in enumerate(found) if values.text is not None},
    )


def plain_columns(
    arguments: Mapping[str, Expr], scan_columns: Sequence[str], float_lists: Collection[str] = ()
) -> dict[str, list[int]]:
    """The positions of the arguments that are a column itself, unchanged or cast to DOUBLE or between lists of floats,
    by the column's name. Of the columns `float_lists`, which are lists of FLOAT, arrays of FLOAT are the same too.
    """
    inputs: dict[str, list[int]] = {}
    for position, expr in enumerate(arguments.values()):
        column = expr.args[0] if expr.op == "cast" and expr.name in ("DOUBLE", "LIST") else expr
        if column.op == "cast" and expr.name == "LIST" and _FLOATS.fullmatch(column.name):
            inner = column.args[0]  # an array, as the view of an index has its vectors
            column = inner if inner.op == "ref" and scan_columns[inner.index] in float_lists else column
        in_seconds = column.op == "call" and column.name == "epoch" and len(column.args) == 1
        if in_seconds and column.args[0].type in _EPOCH:
            column = column.args[0]
        if column.op == "ref":
            inputs.setdefault(scan_columns[column.index], []).append(position)
    return inputs


@dataclass(frozen=True, slots=True)
class _Evaluation:
    columns: Mapping[str, Values]
    scan_columns: Sequence[str]
    constants: Mapping[str, float]
    n_blocks: int

    def values(self, expr: Expr) -> Values:
        if expr.op == "const":
            value = self.constants.get(expr.name)
            return (
                Values.nothing(self.n_blocks)
                if value is None or not np.isfinite(value)
                else _widened_constant(value, self.n_blocks)
            )
        if expr.op == "ref":
            return self.columns.get(self.scan_columns[expr.index], Values.nothing(self.n_blocks))
        if expr.op == "cast":
            return self._cast(expr)
        if expr.op == "call":
            return self._call(expr)
        return Values.nothing(self.n_blocks)

    def _cast(self, expr: Expr) -> Values:
        source, target = expr.args[0].type, expr.name
        inner = self.values(expr.args[0])
        if source in _DATES and target in _DATES and _as_fine(source, target):
            return inner
        if not _is_numeric(source) or not _is_numeric(target) or target == "BOOLEAN":
            return Values.nothing(self.n_blocks)
        if target == "DOUBLE":
            return inner.between(
                *_outward(inner.lower, inner.upper, 2 if source.startswith("DECIMAL") or "HUGE" in source else 0)
            )
        if target == "FLOAT":
            return inner.between(*_to_float32(inner, source))
        needed, kept = _scale(source), _scale(target) or 0
        if needed is not None and kept >= needed:
            return _within_type(inner, target)
        # DuckDB 1.5 scales a number to a decimal in the number's own type.
        relative = 2.0**-22 if source == "FLOAT" else 2.0**-50
        low, high = (10.0**-kept + relative * np.abs(side) for side in (inner.lower, inner.upper))
        return _within_type(inner.between(*_outward(inner.lower - low, inner.upper + high)), target)

    def _call(self, expr: Expr) -> Values:
        name, args = expr.name, expr.args
        if name == "epoch" and len(args) == 1 and args[0].type in _EPOCH:
            return self.values(args[0])
        # DuckDB 1.5 has a setting that makes `/` a division of integers.
        known = name in ("+", "-", "*") or (name == "/" and expr.type in ("DOUBLE", "FLOAT"))
        if known and all(_is_numeric(arg.type) for arg in args):
            return _within_type(self._arithmetic(name, [self.values(arg) for arg in args], expr.type), expr.type)
        if name in _MONOTONE and len(args) == 1 and args[0].type in ("DOUBLE", "FLOAT"):
            return self._monotone(name, self.values(args[0]))
        if name == "abs" and len(args) == 1 and _is_numeric(args[0].type):
            return _absolute(self.values(args[0]))
        part = name if len(args) == 1 else self._part_name(expr)
        if part and args[-1].type in _DATES:
            return self._date_part(part, self.values(args[-1]))
        return Values.nothing(self.n_blocks)

    def _part_name(self, expr: Expr) -> str:
        named = expr.name in ("date_part", "datepart") and len(expr.args) == 2 and expr.args[0].op == "const"
        return expr.args[0].name.strip("'").lower() if named else ""

    def _date_part(self, part: str, inner: Values) -> Values:
        # The parts of an infinite date are NULL.
        maybe_null = replace(inner, may_be_null=np.ones(self.n_blocks, dtype=np.bool_))
        if part in ("year", "years"):
            finite = (np.abs(inner.lower) < 1e13) & (np.abs(inner.upper) < 1e13)
            lower, upper = (
                np.where(finite, _year(np.where(finite, side, 0.0)), np.nan) for side in (inner.lower, inner.upper)
            )
            return maybe_null.between(lower, upper)
        if part not in _PART_RANGE:
            return Values.nothing(self.n_blocks)
        low, high = _PART_RANGE[part]
        known = replace(maybe_null, unknown=inner.unknown)
        return known.between(np.full(self.n_blocks, float(low)), np.full(self.n_blocks, float(high)))

    def _monotone(self, name: str, inner: Values) -> Values:
        function, domain = _MONOTONE[name]
        outside = inner.lower <= domain
        with np.errstate(all="ignore"):
            lower, upper = function(inner.lower), function(inner.upper)
        lower, upper = _outward(lower, upper, _LIBRARY_ULPS)
        return inner.between(np.where(outside, np.nan, lower), np.where(outside, np.nan, upper))

    def _arithmetic(self, name: str, args: list[Values], result: str) -> Values:
        if len(args) == 1:
            return replace(args[0], lower=-args[0].upper, upper=-args[0].lower) if name == "-" else args[0]
        a, b = args
        with np.errstate(all="ignore"):
            lower, upper = _interval(name, a, b)
        lower, upper = _outward(lower, upper, 3)
        if result == "FLOAT":
            lower, upper = _outward_float32(lower, upper)
        both = Values(
            lower,
            upper,
            a.unknown | b.unknown,
            a.all_null | b.all_null,
            a.may_be_null | b.may_be_null,
            a.may_be_nan | b.may_be_nan,
        )
        finite = np.isfinite(a.lower) & np.isfinite(a.upper) & np.isfinite(b.lower) & np.isfinite(b.upper)
        return both.between(np.where(finite, lower, np.nan), np.where(finite, upper, np.nan))


def _widened_constant(value: float, n_blocks: int) -> Values:
    fixed = Values.constant(value, n_blocks)
    return fixed if value.is_integer() and abs(value) < 2**53 else fixed.between(*_outward(fixed.lower, fixed.upper))


def _interval(name: str, a: Values, b: Values) -> tuple[Floats, Floats]:
    if name == "+":
        return a.lower + b.lower, a.upper + b.upper
    if name == "-":
        return a.lower - b.upper, a.upper - b.lower
    if name == "*":
        products = np.stack([a.lower * b.lower, a.lower * b.upper, a.upper * b.lower, a.upper * b.upper])
        return products.min(axis=0), products.max(axis=0)
    quotients = np.stack([a.lower / b.lower, a.lower / b.upper, a.upper / b.lower, a.upper / b.upper])
    touches_zero = (b.lower <= 0) & (b.upper >= 0)
    # Division by zero is NULL or infinite, depending on a setting.
    return np.where(touches_zero, np.nan, quotients.min(axis=0)), np.where(touches_zero, np.nan, quotients.max(axis=0))


def _within_type(found: Values, sql_type: str) -> Values:
    """Unknown where a value may lie outside its type: DuckDB raises an error there, or wraps around."""
    if sql_type in _INTEGERS:
        low, high = _integer_range(sql_type)
    elif sql_type.startswith("DECIMAL"):
        precision, scale = _digits(sql_type)
        low, high = -(10.0 ** (precision - scale)), 10.0 ** (precision - scale)
    else:
        return found
    # Bounds are outward by less than one, and no integer lies between.
    outside = (found.lower <= low - 1) | (found.upper >= high + 1)
    return found.between(np.where(outside, np.nan, found.lower), found.upper)


def _digits(decimal: str) -> tuple[int, int]:
    precision, scale = decimal[len("DECIMAL(") : -1].split(",")
    return int(precision), int(scale)


def _scale(sql_type: str) -> int | None:
    """Digits behind the point, None for what has no fixed number of them."""
    if sql_type in _INTEGERS or sql_type == "BOOLEAN":
        return 0
    return _digits(sql_type)[1] if sql_type.startswith("DECIMAL") else None


def _integer_range(sql_type: str) -> tuple[float, float]:
    bits = _BITS[sql_type.removeprefix("U")]
    return (0.0, 2.0**bits) if sql_type.startswith("U") else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1))


def _absolute(inner: Values) -> Values:
    crosses = (inner.lower < 0) & (inner.upper > 0)
    low, high = np.abs(inner.lower), np.abs(inner.upper)
    return inner.between(np.where(crosses, 0.0, np.minimum(low, high)), np.maximum(low, high))


def _to_float32(inner: Values, source: str) -> tuple[Floats, Floats]:
    if source == "FLOAT":
        return inner.lower, inner.upper
    return _outward_float32(inner.lower, inner.upper)


def _outward_float32(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore"):
        low, high = lower.astype(np.float32), upper.astype(np.float32)
    return np.nextafter(low, np.float32(-np.inf)).astype(np.float64), np.nextafter(high, np.float32(np.inf)).astype(
        np.float64
    )


def _as_fine(source: str, target: str) -> bool:
    """Whether the cast keeps every digit: a date or a timestamp to one of at least its resolution, without a time
    zone.
    """
    order = ["DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"]
    return order.index(source) <= order.index(target)


def _year(seconds: Floats) -> Floats:
    return np.floor(seconds).astype("datetime64[s]").astype("datetime64[Y]").astype(np.float64) + 1970.0
