"""Numbers between Arrow and numpy without pandas, which Arrow's own conversions load if it is installed: that takes
longer than a plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TYPES = {pa.int64(): np.int64, pa.int32(): np.int32, pa.float64(): np.float64, pa.uint8(): np.uint8}


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The values of a column without NULL."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_view(chunk) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, _TYPES[column.type]), *parts])


def _view(array: pa.Array) -> NDArray[Any]:
    if not len(array):
        return np.zeros(0, _TYPES[array.type])
    return np.frombuffer(array.buffers()[1], _TYPES[array.type])[array.offset : array.offset + len(array)]


def indices(rows: NDArray[np.int64]) -> pa.Array:
    """Numbers of rows, to take."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Texts, or bytes, or None."""
    found = np.empty(len(column), object)
    found[:] = column.to_pylist() if column.null_count < len(column) else None
    return found
