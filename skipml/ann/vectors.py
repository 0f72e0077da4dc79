"""Vectors out of Arrow columns and out of queries: matrices of float32 or int8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skipml.ann.metric import Matrix, Singles
from skipml.errors import SchemaError, VectorError

MIN_DIMENSION, MAX_DIMENSION = 2, 2048


@dataclass(frozen=True, slots=True)
class VectorType:
    """What the vectors of a column are: `dimension` values, float32 (also from float16 and float64) or int8."""

    dimension: int
    is_int8: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of a value."""
        return np.dtype(np.int8 if self.is_int8 else np.float32)

    @property
    def n_bytes(self) -> int:
        """Of a vector."""
        return self.dimension * self.dtype.itemsize

    @property
    def arrow(self) -> pa.DataType:
        """The type in the index file: Parquet has no bytes as numbers, so int8 vectors are plain bytes there."""
        if self.is_int8:
            return pa.binary(self.dimension)
        return pa.list_(pa.field("element", pa.float32(), nullable=False), self.dimension)

    def to_arrow(self, vectors: Matrix) -> pa.Array:
        """Vectors [n, dimension] as a column of the index file."""
        values = np.ascontiguousarray(vectors, self.dtype)
        if self.is_int8:
            return pa.FixedSizeBinaryArray.from_buffers(self.arrow, len(values), [None, pa.py_buffer(values)])
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=self.arrow)

    def from_arrow(self, column: pa.Array | pa.ChunkedArray) -> Matrix:
        """The vectors [n, dimension] of a column of the index file."""
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        values = [chunk.flatten().to_numpy() if not self.is_int8 else _bytes_of(chunk) for chunk in chunks]
        found: Matrix = np.concatenate([np.empty(0, self.dtype), *values])
        return found.reshape(-1, self.dimension)


def _bytes_of(column: pa.Array) -> NDArray[np.int8]:
    width = column.type.byte_width
    return np.frombuffer(column.buffers()[1], np.int8)[column.offset * width : (column.offset + len(column)) * width]


def is_int8(kind: pa.DataType, where: str) -> bool:
    """Whether a column of that type holds int8 vectors; raises SchemaError for one that holds no vectors."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if pa.types.is_floating(kind.value_type):
            return False
        if pa.types.is_int8(kind.value_type):
            return True
    raise SchemaError(f"{where} is {kind}, which holds no vectors; cast it to lists of FLOAT or of TINYINT")


def matrix(column: pa.Array, dimension: int | None, where: str, first_row: int) -> tuple[Matrix, NDArray[np.bool_]]:
    """The vectors [m, d] of the rows that are not NULL, and which of the rows [n] these are.

    Raises VectorError naming the first row, counted from `first_row`, whose vector has another dimension (than that of
    the first vector if None is given), holds a NULL, or a value that is NaN or infinite as float32.
    """
    kind = column.type
    int8 = is_int8(kind, where)
    valid = np.asarray(column.is_valid())
    rows = first_row + np.flatnonzero(valid)
    if not valid.any():
        nothing: Matrix = np.empty((0, dimension or 0), np.int8) if int8 else np.empty((0, dimension or 0), np.float32)
        return nothing, valid
    lists = column.drop_null()
    lengths = np.asarray(pc.list_value_length(lists))
    wanted = dimension if dimension is not None else int(lengths[0])
    if not MIN_DIMENSION <= wanted <= MAX_DIMENSION:
        raise VectorError(f"{where}: vectors of {wanted} values; they have {MIN_DIMENSION} to {MAX_DIMENSION}")
    if (wrong := np.flatnonzero(lengths != wanted)).size:
        i = int(wrong[0])
        raise VectorError(
            f"{where}: the vector of row {rows[i]:,} has {lengths[i]} values and not {wanted}; "
            "index vectors of one dimension, or make it NULL to leave the row out"
        )
    values = lists.flatten()
    if values.null_count:
        i = int(np.flatnonzero(~np.asarray(values.is_valid()))[0]) // wanted
        raise VectorError(f"{where}: the vector of row {rows[i]:,} holds a NULL; make it NULL as a whole or fill it in")
    numbers = values.to_numpy(zero_copy_only=False).reshape(-1, wanted)
    if int8:
        return np.asarray(numbers, np.int8), valid
    with np.errstate(over="ignore"):
        found = np.asarray(numbers, np.float32)
    _check_finite(found, rows, where)
    return found, valid


def query_matrix(queries: Any, dimension: int) -> Singles:
    """Queries as float32 [q, dimension]: a vector, a matrix, or an Arrow column; raises VectorError."""
    if isinstance(queries, (pa.ChunkedArray, pa.Array)):
        whole = queries.combine_chunks() if isinstance(queries, pa.ChunkedArray) else queries
        if whole.null_count:
            raise VectorError(f"query {int(np.flatnonzero(np.asarray(whole.is_null()))[0])} is NULL; leave it out")
        return matrix(whole, dimension, "queries", 0)[0].astype(np.float32)
    try:
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError(f"queries are vectors of {dimension} numbers: {error}") from error
    if found.ndim == 1:
        found = found[None]
    if found.ndim != 2 or (found.shape[1] != dimension and len(found)):
        shape = " x ".join(map(str, found.shape))
        raise VectorError(f"queries of shape {shape}; the index holds vectors of {dimension} values")
    _check_finite(found, np.arange(len(found)), "queries")
    return found.reshape(len(found), dimension)


def _check_finite(vectors: Matrix, rows: NDArray[np.int64], where: str) -> None:
    # a sum is finite only if all its values are, or it overflows: then each is looked at
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous and math.isfinite(np.vdot(vectors, vectors)):
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(vectors.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(vectors)
    if bad.any():
        i = int(np.flatnonzero(bad.any(axis=1))[0])
        value = vectors[i][bad[i]][0]
        raise VectorError(
            f"{where}: the vector of row {rows[i]:,} holds {value}; fix it, or make it NULL to leave the row out"
        )
