"""Reading rows: a local file by its path, one in a store by ranges, the column chunks of row groups ahead of time.

Of a file in a store nothing is read twice: its footer is at hand since it was planned, and a row group's column chunks
come by as few requests as their places allow, many row groups together and while earlier ones are worked on.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skipml.identity import FileIdentity, check_unchanged, listed_identity
from skipml.parquet.footer_bytes import fetch, read_bytes
from skipml.stores import GAP, Range, RemoteFile

_MAGIC = b"PAR1"
_WINDOW = 1 << 25
"""Bytes that are read ahead together; two windows are held at most."""
_FIRST = 1 << 22


class RangedFile(io.RawIOBase):
    """A read-only file object over a file in a store, in the state in which it was listed: what is held of it, and
    otherwise one request per read. Raises OSError, and FileChangedError where the store notices another state.
    """

    def __init__(self, file: RemoteFile, state: FileIdentity) -> None:
        super().__init__()
        self.file, self.state = file, state
        self._position = 0
        self._held: list[tuple[int, bytes]] = []

    def hold(self, parts: Sequence[tuple[int, bytes]]) -> None:
        """Have these parts of the file, by their positions, in place of others."""
        self._held = list(parts)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.state.size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """All of the bytes that are asked for, as far as the file has them."""
        start = self._position
        stop = self.state.size if size is None or size < 0 else min(start + size, self.state.size)
        self._position = max(start, stop)
        return self.pread(start, stop) if stop > start else b""

    def readall(self) -> bytes:
        """The rest."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def pread(self, start: int, stop: int) -> bytes:
        """The bytes between two positions."""
        for at, data in self._held:
            if at <= start and stop <= at + len(data):
                return data[start - at : stop - at]
        (data,) = self.file.store.read([Range(self.file, start, stop, self.state.tag)])
        if isinstance(data, Exception):
            raise data
        return bytes(data)


def read_metadata(path: str) -> pq.FileMetaData:
    """A file's footer as Arrow has it; raises FooterError, OSError and what Arrow raises."""
    if not isinstance(path, RemoteFile):
        return pq.read_metadata(path)
    _, raw = read_bytes(path)
    return pq.read_metadata(pa.BufferReader(b"".join([_MAGIC, raw, len(raw).to_bytes(4, "little"), _MAGIC])))


def read_schemas(paths: Sequence[str]) -> list[pa.Schema]:
    """The Arrow schemas of files, of those in stores together; raises as `read_metadata` does."""
    fetch(paths)
    return [
        read_metadata(path).schema.to_arrow_schema() if isinstance(path, RemoteFile) else pq.read_schema(path)
        for path in paths
    ]


def open_parquet(path: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """A Parquet file; INT96 times are microseconds, as DuckDB has them."""
    if not isinstance(path, RemoteFile):
        return pq.ParquetFile(path, metadata=metadata, coerce_int96_timestamp_unit="us")
    source = RangedFile(path, listed_identity(path))
    return pq.ParquetFile(source, metadata=metadata or read_metadata(path), coerce_int96_timestamp_unit="us")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file, and the columns that are wanted of it, as the file spells them; none: all. Of text those
    that are `coded` come as Arrow's dictionaries.
    """

    path: str
    number: int
    columns: tuple[str, ...]
    coded: tuple[str, ...] = ()

    def ranges(self, metadata: pq.FileMetaData) -> list[Range]:
        """Where the column chunks lie in a file in a store, those near each other together: Arrow reads them so."""
        assert isinstance(self.path, RemoteFile)
        group, tag = metadata.row_group(self.number), listed_identity(self.path).tag
        found: list[Range] = []
        for start, stop in sorted(
            extent(group.column(i)) for i in range(group.num_columns) if self._is_wanted(group, i)
        ):
            if found and start <= found[-1].stop + GAP:
                found[-1] = found[-1]._replace(stop=max(found[-1].stop, stop))
            else:
                found.append(Range(self.path, start, stop, tag))
        return found

    def _is_wanted(self, group: pq.RowGroupMetaData, column: int) -> bool:
        """Whether a leaf belongs to one of the columns; a name with a dot may also be that of a nested one."""
        leaf = group.column(column).path_in_schema
        return not self.columns or any(leaf == name or leaf.startswith(f"{name}.") for name in self.columns)


def extent(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """Where a column chunk begins and ends in its file."""
    start = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at)
    return start, start + chunk.total_compressed_size


class Ahead:
    """Opens files one after the other, and has the column chunks of their row groups when they are asked for, in the
    order in which they were announced or nearly so; local files are read as they come.
    """

    def __init__(self, row_groups: Sequence[RowGroup]) -> None:
        remote = [group for group in row_groups if isinstance(group.path, RemoteFile)]
        metadata = {path: read_metadata(path) for path in dict.fromkeys(group.path for group in remote)}
        self._windows = _windows([(group, group.ranges(metadata[group.path])) for group in remote])
        self._pool = ThreadPoolExecutor(1) if remote else None
        self._pending: list[Future[_Fetched]] = []
        self._ready: dict[_Key, list[_Parts]] = {}
        self._metadata = metadata
        self._source: RangedFile | None = None
        self._start()

    def open(self, path: str) -> pq.ParquetFile:
        """The next file."""
        if not isinstance(path, RemoteFile):
            self._source = None
            return open_parquet(path)
        self._source = RangedFile(path, listed_identity(path))
        return pq.ParquetFile(self._source, metadata=self._metadata[path], coerce_int96_timestamp_unit="us")

    def bring(self, number: int) -> None:
        """Have a row group of the open file; raises OSError and FileChangedError."""
        if self._source is None:
            return
        key = (str(self._source.file), number)
        while not self._ready.get(key):
            for found, parts in self._pending.pop(0).result():
                self._ready.setdefault(found, []).append(parts)
            self._start()
        self._source.hold(self._ready[key].pop())

    def close(self) -> None:
        """Read no more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        while self._pool is not None and self._windows and not self._pending:
            self._pending.append(self._pool.submit(_fetched, self._windows.pop(0)))


_Announced = tuple[RowGroup, list[Range]]
_Key = tuple[str, int]
"""A file and the number of a row group."""
_Parts = list[tuple[int, bytes]]
_Fetched = list[tuple[_Key, _Parts]]


def read_row_group(row_group: RowGroup, metadata: pq.FileMetaData) -> pa.Table:
    """The columns of one row group, on the calling thread."""
    source: Any = row_group.path
    if isinstance(row_group.path, RemoteFile):
        ((_, parts),) = _fetched([(row_group, row_group.ranges(metadata))])
        source = RangedFile(row_group.path, listed_identity(row_group.path))
        source.hold(parts)
    coded = list(row_group.coded)
    with pq.ParquetFile(source, metadata=metadata, read_dictionary=coded, coerce_int96_timestamp_unit="us") as file:
        return file.read_row_group(row_group.number, columns=list(row_group.columns), use_threads=False)


def _windows(announced: Sequence[_Announced]) -> list[list[_Announced]]:
    """Row groups that are read together; the first ones are fewer, so that work begins soon."""
    windows: list[list[_Announced]] = []
    held, limit = _FIRST, _FIRST
    for row_group, ranges in announced:
        size = sum(r.stop - r.start for r in ranges)
        if held + size > limit:
            limit = _WINDOW if windows else _FIRST
            windows.append([])
            held = 0
        windows[-1].append((row_group, ranges))
        held += size
    return windows


def _fetched(window: Sequence[_Announced]) -> _Fetched:
    """The column chunks of row groups; raises OSError, and FileChangedError for a file in another state, also where
    the store did not notice while it was read.
    """
    ranges = [r for _, mine in window for r in mine]
    data: dict[Range, bytes] = {}
    for store in dict.fromkeys(r.file.store for r in ranges):
        mine = [r for r in ranges if r.file.store is store]
        for wanted, part in zip(mine, store.read(mine), strict=True):
            if isinstance(part, Exception):
                raise part
            data[wanted] = part
    unmatched = list(dict.fromkeys(r.file for r in ranges if not (r.tag and r.file.store.can_match)))
    check_unchanged(unmatched, [listed_identity(file) for file in unmatched])
    return [((str(group.path), group.number), [(r.start, data[r]) for r in mine]) for group, mine in window]
