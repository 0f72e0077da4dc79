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

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skipml.errors import SchemaError
from skipml.function import Function
from skipml.heads import Head
from skipml.pipelines import Pipeline
from skipml.vectors import is_vector, vectors_of

EXACT = 2**53
"""Up to here every integer is a double."""
_DIVISION_ULPS = 2
_WIDE_ULPS = 4  # runtimes put a 128-bit integer together from two halves before they divide
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INT64_DIGITS = 18
"""Decimals of at most so many digits are 64-bit integers."""
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
        column = find_column(batch, name)
        numbers, missing = column_inputs(column, name)
        values[:, i], null[:, i] = numbers, missing
        values[missing, i] = 0.0
    return values, null


def function_inputs(
    batch: pa.RecordBatch | pa.Table, columns: Sequence[str], function: Function
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The numbers float64 [n, d] that go into a function, and bool [n, d] where one leaves a row without a score.

    As `model_inputs` but for pipelines, in which text is a place, and NULL is NaN where it has a value, and for heads,
    whose numbers are the vectors as they are stored and whose flags are [n, 1].
    """
    if isinstance(function, Head):
        vectors, usable = vectors_of(find_column(batch, columns[0]), function.dimension, columns[0])
        return vectors, ~usable[:, None]
    if not isinstance(function, Pipeline):
        return model_inputs(batch, columns)
    arrays = [find_column(batch, name) for name in columns]
    return pipeline_inputs(arrays, columns, function)


def pipeline_inputs(
    arrays: Sequence[pa.Array | pa.ChunkedArray], names: Sequence[str], pipeline: Pipeline
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The same for one array per input; raises SchemaError, with its name, for one that the pipeline does not take."""
    n = len(arrays[0])
    values, lacking = np.zeros((n, len(arrays)), order="F"), np.zeros((n, len(arrays)), np.bool_, order="F")
    for i, (array, name) in enumerate(zip(arrays, names, strict=True)):
        if i in pipeline.words:
            if not _is_text(array.type):
                raise SchemaError(f"column '{name}' has type {array.type}, but the pipeline reads text there")
            found = pipeline.words[i].places(array)
            missing = np.isnan(found)
        else:
            found, missing = column_inputs(array, name)
            found = np.where(missing, np.nan, found)
        lacking[:, i] = pipeline.has_no_score(i, found, missing)
        values[:, i] = found
    return values, lacking


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def find_column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    """The column of this name as it is written, or else without case; raises SchemaError if there is not just one."""
    names = batch.schema.names
    for candidates in (
        [i for i, n in enumerate(names) if n == name],
        [i for i, n in enumerate(names) if n.lower() == name.lower()],
    ):
        if len(candidates) == 1:
            return batch.column(candidates[0])
        if candidates:
            raise SchemaError(
                f"column '{name}' is there {len(candidates)} times; "
                "rename the columns so that the model input is unambiguous"
            )
    raise SchemaError(f"column '{name}' is missing; the rows have {', '.join(names) or 'no columns'}")


def column_inputs(column: pa.Array | pa.ChunkedArray, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The model inputs of one column: float64 [n], any number where it is NULL, and bool [n] that says where.

    Raises SchemaError, with the `name`, for a column that is no model input.
    """
    kind = column.type
    missing = _numpy(column.is_null()) if column.null_count else np.zeros(len(column), dtype=np.bool_)
    numbers = integers(column)
    if numbers is not None:
        infinite = infinity(kind)
        return scaled(numbers, kind), missing if infinite is None else missing | (np.abs(numbers) == infinite)
    if pa.types.is_null(kind):
        return np.zeros(len(column)), missing
    if pa.types.is_floating(kind):
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            return _filled(column).astype(np.float64, copy=False), missing
    if pa.types.is_decimal(kind):
        return _wide_decimals(column), missing
    raise SchemaError(
        f"column '{name}' has type {kind}, which cannot be a model input; "
        "cast it in the query to a number, a date or a time (text needs the encoding that the model was trained with)"
    )


def integers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any] | None:
    """The integers [n] that a column stores (whole numbers, unscaled decimals, days, ticks), any where it is NULL.

    None for floats, for decimals that may need more than 64 bits, and for what is no model input.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return _filled(column)
    if pa.types.is_decimal(kind):
        return _words(column)[:, 0] if kind.precision <= _INT64_DIGITS else None
    if pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind):
        return _filled(pc.cast(column, pa.int32() if kind.bit_width == 32 else pa.int64()))
    return None


def scaled(numbers: NDArray[Any], kind: pa.DataType) -> NDArray[np.float64]:
    """The model inputs of what `integers` gives for a column of this type.

    Never falls where `numbers` rise: a conversion to float64 and a division by a positive constant each round to
    nearest, and days times 86,400 is exact.
    """
    if pa.types.is_date32(kind):
        return (numbers.astype(np.int64) * 86400).astype(np.float64)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return numbers.astype(np.float64)
    divisor = 10**kind.scale if pa.types.is_decimal(kind) else _TICKS["ms" if pa.types.is_date64(kind) else kind.unit]
    values: NDArray[np.float64] = numbers / float(divisor)
    return values


def infinity(kind: pa.DataType) -> int | None:
    """The integer that stands for the infinite date or timestamp of a type, its negative for the other; or None."""
    if pa.types.is_timestamp(kind):
        return _INFINITE_TIMESTAMP
    return _INFINITE_DATE if pa.types.is_date32(kind) else None


def _wide_decimals(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """The unscaled integer over its power of ten; what Arrow itself casts is off by an ulp even where the quotient is
    exact. NULL gives any number.
    """
    kind = column.type
    if pa.types.is_decimal256(kind):
        return _numpy(pc.fill_null(pc.cast(column, pa.float64()), 0.0)).astype(np.float64)
    low, high = _words(column).T
    scale = 10**kind.scale
    values: NDArray[np.float64] = low / float(scale)
    for i in np.flatnonzero(high != low >> 63):
        values[i] = ((int(high[i]) << 64) + int(low[i].view(np.uint64))) / scale
    return values


def _words(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The unscaled integers [n, words] of decimals, the lowest word of at most 64 bits first, without a copy where they
    lie in one chunk.
    """
    n_bytes = column.type.bit_width // 8
    shape, dtype = (-1, max(n_bytes // 8, 1)), f"<i{min(n_bytes, 8)}"
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    words = [
        np.frombuffer(chunk.buffers()[1], dtype).reshape(shape)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    return words[0] if len(words) == 1 else np.concatenate([*words, np.zeros((0, shape[1]), dtype)])


def _filled(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    return _numpy(pc.fill_null(column, pa.scalar(0).cast(column.type)) if column.null_count else column)


def _numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def input_columns(schema: pa.Schema, wanted: Sequence[str] | None, path: str) -> tuple[str, ...]:
    """The wanted columns as the schema of a file spells them, by default all that can be inputs.

    Raises SchemaError for one that is missing, ambiguous or no model input.
    """
    counts = Counter(name.lower() for name in schema.names)
    if wanted is None:
        return tuple(name for name in schema.names if counts[name.lower()] == 1 and _is_input(schema, name))
    spelled = {name.lower(): name for name in schema.names}
    names = tuple(dict.fromkeys(spelled.get(name.lower(), name) for name in wanted))
    for name in names:
        if counts[name.lower()] > 1:
            raise SchemaError(f"{path}: several columns are named {name!r} but for case; rename them to use one")
        try:
            model_inputs(schema.empty_table(), [name])
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error
    return names


def vector_columns(schema: pa.Schema, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted columns that hold vectors, as the schema of a file spells them."""
    found = {field.name.lower(): field.name for field in schema if is_vector(field.type)}
    return tuple(dict.fromkeys(found[name.lower()] for name in wanted if name.lower() in found))


def _is_input(schema: pa.Schema, name: str) -> bool:
    try:
        model_inputs(schema.empty_table(), [name])
    except SchemaError:
        return False
    return True
