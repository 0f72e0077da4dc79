"""Reading posting lists where they lie: from the mapped files, which the page cache holds, or after asking for all of
them at once.

Warm, a page that is touched is there. Cold, each touch would wait for the disk by itself; so a cold reader first tells
the kernel every range that a round of reading needs (posix_fadvise WILLNEED) and then reads them through (preadv),
which waits for all of them together and leaves them in the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.ann.manifest import Segment
from skipml.ann.metric import Matrix
from skipml.ann.postings import ROW_ID, Extents
from skipml.ann.vectors import VectorType
from skipml.errors import FileChangedError
from skipml.identity import FileIdentity

Indices = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_SCRATCH = 1 << 22


class MappedFile:
    """A file of the index, mapped, in the state it was opened in."""

    def __init__(self, path: str, *, cold: bool) -> None:
        self.path = path
        self.cold = cold
        self._descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(self._descriptor)
        self._state = (status.st_size, status.st_mtime_ns)
        self._inode = status.st_ino
        if cold:
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self.data: Bytes = np.memmap(path, np.uint8, "r")

    def __del__(self) -> None:
        os.close(self._descriptor)

    def check_unchanged(self) -> None:
        """Raise FileChangedError if the file was written to; a file that only lost its name is the same."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != self._state:
            raise FileChangedError(f"'{self.path}' was written to while it was open; build the index again")

    def is_as_opened(self, state: FileIdentity) -> bool:
        """Whether a state of the file at its path is the one that is mapped; having lost or got a name changes none."""
        return (state.size, state.mtime_ns) == self._state and state.inode == self._inode

    def gather(self, offsets: Indices, n_bytes: int) -> Bytes:
        """Pieces of `n_bytes` from the offsets [n], [n, n_bytes]."""
        if self.cold:
            self.fetch(offsets, np.full(len(offsets), n_bytes))
        pieces = np.ndarray((len(self.data) - n_bytes + 1,), np.dtype((np.void, n_bytes)), self.data, 0, (1,))
        return pieces[offsets].view(np.uint8).reshape(len(offsets), n_bytes)

    def fetch(self, offsets: Indices, sizes: Indices) -> None:
        """Bring ranges into the page cache, all of them at once."""
        order = np.argsort(offsets)
        ranges = list(zip(offsets[order].tolist(), sizes[order].tolist(), strict=True))
        for offset, size in ranges:
            os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_WILLNEED)
        scratch = memoryview(bytearray(min(_SCRATCH, max((size for _, size in ranges), default=0))))
        for offset, size in ranges:
            for start in range(offset, offset + size, max(len(scratch), 1)):
                os.preadv(self._descriptor, [scratch[: min(len(scratch), offset + size - start)]], start)


class SegmentReader:
    """The rows of a segment; a position is the place of a row in its rows file."""

    def __init__(self, folder: str, segment: Segment, column: str, vector: VectorType, *, cold: bool) -> None:
        self.segment = segment
        self._column = column
        self._vector = vector
        self.rows = MappedFile(os.path.join(folder, segment.rows.name), cold=cold)
        self.codes = None if segment.codes is None else MappedFile(os.path.join(folder, segment.codes.name), cold=cold)
        self.starts = np.concatenate([[0], np.cumsum(segment.counts)])
        self._bases: dict[str, Indices] = {}
        self._raw: dict[str, bool] = {}

    def check_unchanged(self) -> None:
        """Raise FileChangedError if a file was written to."""
        self.rows.check_unchanged()
        if self.codes is not None:
            self.codes.check_unchanged()

    def vectors(self, positions: Indices) -> Matrix:
        """Those at positions [n], [n, d]."""
        found = self._values(self._column, positions)
        return found.view(self._vector.dtype)

    def list_vectors(self, number: int) -> Matrix:
        """All vectors of a list, in order of position."""
        extent = self.segment.columns[self._column]
        offset, size = int(extent.offsets[number]), int(extent.counts[number]) * extent.n_bytes
        data = self.rows.data[offset : offset + size].tobytes()
        return np.frombuffer(data, self._vector.dtype).reshape(-1, self._vector.dimension)

    def row_ids(self, positions: Indices) -> Indices:
        """The numbers of the rows at positions [n]."""
        return self._values(ROW_ID, positions).view(np.int64)[:, 0]

    def _values(self, name: str, positions: Indices) -> Bytes:
        lists = np.searchsorted(self.starts, positions, "right") - 1
        n_bytes = self.segment.columns[name].n_bytes
        return self.rows.gather(self._base(name)[lists] + positions * n_bytes, n_bytes)

    def _base(self, name: str) -> Indices:
        """Where the value at position 0 would lie, for each list."""
        if name not in self._bases:
            extent = self.segment.columns[name]
            self._bases[name] = extent.offsets - self.starts[:-1] * extent.n_bytes
        return self._bases[name]

    def copies(self, lists: Indices, places: Indices) -> Indices:
        """The positions of the rows whose codes are at some places of lists [n]."""
        extent = self.segment.positions
        if extent is None or self.codes is None:
            return np.asarray(self.starts[lists] + places)
        offsets = extent.offsets[lists] + places * extent.n_bytes
        return self.codes.gather(offsets, extent.n_bytes).view(np.int32)[:, 0].astype(np.int64)

    def fetch_lists(self, lists: Indices) -> int:
        """Bring what is scanned of some lists into the page cache, if the reader is cold -> bytes that are scanned."""
        file, extents = (
            (self.rows, [self.segment.columns[self._column]])
            if self.codes is None or self.segment.code is None or self.segment.positions is None
            else (self.codes, [self.segment.code])
        )
        if file.cold:
            wanted = np.unique(lists)
            wanted = wanted[extents[0].counts[wanted] > 0]
            for extent in [*extents, *([self.segment.positions] if self.segment.positions is not None else [])]:
                file.fetch(extent.offsets[wanted], extent.counts[wanted] * extent.n_bytes)
        return int(extents[0].counts[lists].sum()) * extents[0].n_bytes

    def fetch_vectors(self, lists: Indices) -> None:
        """Bring the vectors of some lists, none of them empty, into the page cache, if the reader is cold."""
        if self.rows.cold:
            extent = self.segment.columns[self._column]
            self.rows.fetch(extent.offsets[lists], extent.counts[lists] * extent.n_bytes)

    def arrays(
        self, positions: Indices, columns: Sequence[str], schema: pa.Schema, lists: Indices | None = None
    ) -> list[pa.Array]:
        """Columns of the rows at positions [n], which are in some lists [n], in the types of the schema."""
        if lists is None and columns:
            lists = np.searchsorted(self.starts, positions, "right") - 1
        return [self._array(name, positions, schema.field(name), lists) for name in columns]

    def _array(self, name: str, positions: Indices, field: pa.Field, lists: Any) -> pa.Array:
        if name == self._column:
            return _vectors_as(self.vectors(positions), field.type)
        extent = self.segment.columns.get(name)
        if extent is not None and (self._is_raw(name) or (extent.offsets[lists] >= 0).all()):
            data = self.rows.gather(self._base(name)[lists] + positions * extent.n_bytes, extent.n_bytes)
            return pa.Array.from_buffers(field.type, len(positions), [None, pa.py_buffer(data)])
        return self._read(name, positions, lists, field)

    def _is_raw(self, name: str) -> bool:
        """Whether a column is a raw matrix in every list with rows."""
        if name not in self._raw:
            self._raw[name] = bool((self.segment.columns[name].offsets[self.segment.counts > 0] >= 0).all())
        return self._raw[name]

    def _read(self, name: str, positions: Indices, lists: Indices, field: pa.Field) -> pa.Array:
        """Values that are no raw matrix, through Parquet's reader."""
        touched, which = np.unique(lists, return_inverse=True)
        parts = [pa.array([], field.type)]
        start, places = 0, np.empty(len(positions), np.int64)
        for i, number in enumerate(touched.tolist()):
            values = self._file.read_row_group(int(self._groups[number]), columns=[name], use_threads=False).column(0)
            parts += [chunk.cast(field.type) for chunk in values.chunks]
            mine = which == i
            places[mine] = start + positions[mine] - self.starts[number]
            start += len(values)
        return pa.chunked_array(parts).take(pa.array(places)).combine_chunks()

    @cached_property
    def _groups(self) -> Indices:
        """The row group of each list."""
        return np.asarray(np.cumsum(self.segment.counts > 0) - 1)

    @cached_property
    def _file(self) -> Any:
        return pq.ParquetFile(pa.BufferReader(pa.py_buffer(self.rows.data)))

    @property
    def extents(self) -> tuple[Extents, Extents]:
        """Where the vectors and the numbers of the rows lie."""
        return self.segment.columns[self._column], self.segment.columns[ROW_ID]

    def in_place(self) -> tuple[MappedFile, Extents]:
        """The file and the extents that a scan of lists reads: codes where there are some, else vectors."""
        if self.codes is not None and self.segment.code is not None:
            return self.codes, self.segment.code
        return self.rows, self.segment.columns[self._column]


def _vectors_as(vectors: Matrix, kind: pa.DataType) -> pa.Array:
    """Vectors as a column of the type that they came in."""
    values = pa.array(vectors.ravel()).cast(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    bounds = np.arange(len(vectors) + 1) * vectors.shape[1]
    large = pa.types.is_large_list(kind)
    array = (pa.LargeListArray if large else pa.ListArray).from_arrays(
        pa.array(bounds, pa.int64() if large else pa.int32()), values
    )
    return array.cast(kind)
