"""Columns of vectors -> matrices, without a look at single rows: Arrow's values are one buffer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skipml.errors import SchemaError

Matrix = NDArray[np.float32] | NDArray[np.float64]
Bools = NDArray[np.bool_]

_NO_DIMENSION = 0


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column of that type holds vectors: lists of floats, of one length or of any."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


def vectors_of(column: pa.Array | pa.ChunkedArray, dimension: int, name: str) -> tuple[Matrix, Bools]:
    """The vectors [n, dimension] of a column, float32 or float64 as it has them, and which rows [n] have one: those
    that are NULL, of another length or hold a NULL have none, and zeros stand for them.

    Raises SchemaError, with the `name`, for a column of another type.
    """
    if not is_vector(column.type):
        raise SchemaError(
            f"column '{name}' has type {column.type}, but the model reads vectors of {dimension} values there; cast it "
            "to a list of FLOAT or DOUBLE"
        )
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_of_chunk(chunk, dimension) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    dtype = np.float64 if pa.types.is_float64(column.type.value_type) else np.float32
    rows = np.concatenate([np.zeros((0, dimension), dtype), *(found for found, _ in parts)])
    return rows, np.concatenate([np.zeros(0, np.bool_), *(usable for _, usable in parts)])


def _of_chunk(lists: pa.Array, dimension: int) -> tuple[Matrix, Bools]:
    usable = _flags(pc.fill_null(pc.equal(pc.list_value_length(lists), dimension), False))
    chosen = lists if usable.all() else lists.filter(pa.array(usable))
    values = chosen.flatten()
    if values.null_count:
        whole = _flags(values.is_valid()).reshape(-1, dimension).all(axis=1)
        usable[np.flatnonzero(usable)[~whole]] = False
        values = chosen.filter(pa.array(whole)).flatten()
    numbers = values.to_numpy(zero_copy_only=False).reshape(-1, dimension)
    if numbers.dtype == np.float16:
        numbers = numbers.astype(np.float32)
    if usable.all():
        return numbers, usable
    rows = np.zeros((len(lists), dimension), numbers.dtype)
    rows[usable] = numbers
    return rows, usable


def _flags(array: pa.Array) -> Bools:
    return np.array(array.to_numpy(zero_copy_only=False), np.bool_)


def common_dimension(column: pa.Array | pa.ChunkedArray) -> int:
    """The length that most of the vectors have, 0 where there is none."""
    lengths = pc.list_value_length(column).drop_null()
    found = np.asarray(lengths.to_numpy() if isinstance(lengths, pa.ChunkedArray) else lengths.to_numpy(False))
    counts = np.bincount(found.astype(np.int64)) if len(found) else np.zeros(1, np.int64)
    return int(counts.argmax()) if counts[1:].any() else _NO_DIMENSION
