"""Where every column chunk of many Parquet footers is, found for all of them at once and proved.

The row groups of a footer follow each other without an index: where a chunk starts is known once the one before it has
been read to its end. Instead of reading them in turn, every place that could be the start of a chunk's column path is
taken as a candidate, all candidates are read up to the next path in step (`thrift.scan`), and the results are linked:
the first path of a footer is known, and a path reached from a true one is true. So the links, followed from the first
path through every row group, visit exactly the chunks that a sequential reader meets; candidates that are no chunks are
never visited. If a link is missing, or the numbers do not add up, the footer is not understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.parquet.thrift import BINARY, I64, LIST, PADDING, STRUCT, Buffer, Positions, scan, varint, zigzag

_PATH_FIELD = 3
_NUM_VALUES, _COMPRESSED_SIZE, _STATISTICS = (5, I64), (7, I64), (12, STRUCT)
_GROUP_ROWS = (3, I64)
_META_DATA = (3, STRUCT)
_GROUP_BEHIND_COLUMNS = 0x16  # the first byte behind a row group's list of chunks: field 2 (total_byte_size), an i64
_GROUP_COLUMNS = 0x19  # the first byte of a row group: field 1, a list


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a footer's row groups start in the buffer, how many there are, and how many leaf columns each has."""

    at: int
    row_groups: int
    columns: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of one footer. `statistics`, `num_values`, `compressed` [row groups, columns] (statistics: position in
    the buffer, -1 if there are none); `n_rows` [row groups]; `ends` [row groups]: the position behind each; `end`:
    behind the last one, or where the first would be.
    """

    statistics: Positions
    num_values: NDArray[np.int64]
    compressed: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    ends: Positions
    end: int


@dataclass(frozen=True, slots=True)
class _Candidates:
    path: Positions
    statistics: Positions
    num_values: NDArray[np.int64]
    compressed: NDArray[np.int64]
    following: NDArray[np.int64]
    """Index of the candidate whose path comes next, -1 if the place reached is none."""
    ends_group: NDArray[np.bool_]
    n_rows: NDArray[np.int64]
    """Rows of the row group that ends with this chunk."""
    end: Positions
    """Behind the row group that ends with this chunk."""
    next_columns: NDArray[np.int64]
    """Number of chunks of the row group after that."""


def pack(footers: Sequence[bytes]) -> tuple[Buffer, list[int]]:
    """The footers behind each other in one buffer, and where each starts."""
    starts = np.cumsum([0] + [len(footer) + PADDING for footer in footers]).tolist()
    padding = bytes(PADDING)
    buffer = np.frombuffer(b"".join(part for footer in footers for part in (footer, padding)) + padding, dtype=np.uint8)
    return buffer, starts[:-1]


def locate(buffer: Buffer, extents: Sequence[Extent]) -> list[Chunks | None]:
    """The chunks of each footer in the buffer, None where the row groups are not laid out as Parquet says (a chunk with
    encrypted metadata among them).
    """
    candidates = _read_candidates(buffer)
    firsts, columns = _first_paths(buffer, np.array([extent.at for extent in extents], dtype=np.int64))
    starts = _index_of(candidates.path, firsts)
    return [
        _link(candidates, extent, int(start)) if n == extent.columns or not extent.row_groups else None
        for extent, start, n in zip(extents, starts, columns, strict=True)
    ]


def _read_candidates(buffer: Buffer) -> _Candidates:
    head, size = buffer[:-1], buffer[1:]
    path = np.flatnonzero((head == (1 << 4 | LIST)) & ((size & 15) == BINARY) & (size >= 1 << 4) & (size < 15 << 4))
    found = {field: np.full(len(path), -1) for field in (_NUM_VALUES, _COMPRESSED_SIZE, _STATISTICS)}
    behind_meta = scan(buffer, path, _PATH_FIELD - 1, found=found)
    behind_chunk = scan(buffer, behind_meta, _META_DATA[0])
    ends_group = buffer[behind_chunk] == _GROUP_BEHIND_COLUMNS
    last = np.flatnonzero(ends_group)
    rows = {_GROUP_ROWS: np.full(len(last), -1)}
    behind_group = scan(buffer, behind_chunk[last], 1, found=rows)
    n_rows, end, next_columns = (np.full(len(path), -1) for _ in range(3))
    n_rows[last], end[last] = _integers(buffer, rows[_GROUP_ROWS]), behind_group
    following = behind_chunk
    following[~ends_group] = _next_path(buffer, behind_chunk[~ends_group])
    following[last], next_columns[last] = _first_paths(buffer, behind_group)
    return _Candidates(
        path=path,
        statistics=found[_STATISTICS],
        num_values=_integers(buffer, found[_NUM_VALUES]),
        compressed=_integers(buffer, found[_COMPRESSED_SIZE]),
        following=_index_of(path, following),
        ends_group=ends_group,
        n_rows=n_rows,
        end=end,
        next_columns=next_columns,
    )


def _first_paths(buffer: Buffer, at: Positions) -> tuple[Positions, NDArray[np.int64]]:
    """The first path of the row group at each position and the number of its chunks, -1 where there is no group."""
    is_group = (buffer[at] == _GROUP_COLUMNS) & ((buffer[at + 1] & 15) == STRUCT)
    count = (buffer[at + 1] >> 4).astype(np.int64)
    first = at + 2
    if (long := is_group & (count == 15)).any():
        size, first[long] = varint(buffer, first[long])
        count[long] = np.minimum(size, np.uint64(len(buffer))).astype(np.int64)
    first = np.where(is_group, np.minimum(first, len(buffer) - PADDING), len(buffer) - PADDING)
    return _next_path(buffer, first), np.where(is_group, count, -1)


def _next_path(buffer: Buffer, chunk: Positions) -> Positions:
    """The column path of the chunk at each position."""
    meta_data = scan(buffer, chunk, until=_META_DATA)
    path = scan(buffer, meta_data, until=(_PATH_FIELD, LIST))
    return path - 1


def _integers(buffer: Buffer, at: Positions) -> NDArray[np.int64]:
    return np.where(at < 0, -1, zigzag(buffer, np.maximum(at, 0)))


def _index_of(path: Positions, wanted: Positions) -> NDArray[np.int64]:
    if not len(path):
        return np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(path, wanted), len(path) - 1)
    return np.where(path[index] == wanted, index, -1)


def _link(candidates: _Candidates, extent: Extent, start: int) -> Chunks | None:
    """Follow the links from the first chunk of a footer through all of its row groups."""
    groups, columns = extent.row_groups, extent.columns
    if not groups:
        nothing, none = np.zeros((0, columns), dtype=np.int64), np.zeros(0, dtype=np.int64)
        return Chunks(nothing, nothing, nothing, none, none, extent.at)
    visited = _visit(candidates.following, start, groups * columns)
    if visited is None:
        return None
    order = visited.reshape(groups, columns)
    ends_group = candidates.ends_group[order]
    last = order[:, -1]
    n_rows = candidates.n_rows[last]
    ends = candidates.end[last]
    if ends_group[:, :-1].any() or not ends_group[:, -1].all() or (candidates.next_columns[last[:-1]] != columns).any():
        return None
    if (n_rows < 0).any():
        return None
    return Chunks(
        candidates.statistics[order],
        candidates.num_values[order],
        candidates.compressed[order],
        n_rows,
        ends,
        int(ends[-1]),
    )


def _visit(following: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64] | None:
    """The first `count` candidates from `start` on, None if the links break off."""
    if start < 0 or count > len(following) - start:
        return None
    straight = np.arange(start, start + count)
    if np.array_equal(following[straight[:-1]], straight[1:]):
        return straight
    order, here = [], start
    for _ in range(count):
        if here < 0:
            return None
        order.append(here)
        here = int(following[here])
    return np.array(order)
