"""Add NaN counts to the footer of a Parquet file whose writer left them out.

Field 9 of Statistics; readers that do not know it skip it. Pages stay where they are: the footer is behind them.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.parquet.chunks import Extent, locate, pack
from skipml.parquet.thrift import BINARY, FALSE, I64, TRUE, read_list_header, read_struct, scan

_ROW_GROUPS, _NAN_COUNT = 4, 9  # fields of FileMetaData and of Statistics
_FIELDS_BEFORE = [(field, kind) for field in range(1, _NAN_COUNT) for kind in (BINARY, I64, TRUE, FALSE)]
_TRAILER = 8


def record_nan_counts(path: str, leaves: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Record `counts` [row groups, m], the exact numbers of NaN in the leaf columns `leaves` [m], in place.

    For a file that nobody reads yet: a crash in between damages it. Raises ValueError for a footer that is not laid out
    as Parquet says; chunks without statistics stay without.
    """
    with open(path, "r+b") as file:
        end = file.seek(-_TRAILER, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(end - length)
        footer = file.read(length)
        changed = _with_counts(footer, leaves, counts)
        file.seek(end - length)
        file.write(changed + len(changed).to_bytes(4, "little") + b"PAR1")


def _with_counts(footer: bytes, leaves: NDArray[np.int64], counts: NDArray[np.int64]) -> bytes:
    _, at = read_struct(footer, 0, stop=_ROW_GROUPS)
    row_groups, _, at = read_list_header(footer, at)
    schema = read_struct(footer, 0, stop=_ROW_GROUPS)[0][2]
    n_leaves = sum(not element.get(5, 0) for element in schema[1:])
    buffer, _ = pack([footer])
    chunks = locate(buffer, [Extent(at, row_groups, n_leaves)])[0]
    if chunks is None or counts.shape != (row_groups, len(leaves)):
        raise ValueError("the row groups of the footer are not those that were counted")
    starts = chunks.statistics[:, leaves].ravel()
    present = starts >= 0
    found = {field: np.full(int(present.sum()), -1) for field in _FIELDS_BEFORE}
    stops = scan(buffer, starts[present], found=found) - 1
    last_field = np.max([np.where(at >= 0, field, 0) for (field, _), at in found.items()], axis=0)
    headers = (_NAN_COUNT - last_field) << 4 | I64  # the short form: fastparquet does not read the long one
    pieces, last = [], 0
    for stop, header, count in sorted(
        zip(stops.tolist(), headers.tolist(), counts.ravel()[present].tolist(), strict=True)
    ):
        pieces += [footer[last:stop], bytes([header]), _varint(2 * count)]
        last = stop
    return b"".join([*pieces, footer[last:]])


def _varint(value: int) -> bytes:
    """An unsigned integer; twice a number is its zigzag form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
