"""Virtual Parquet files: the bytes of a real file under a footer that lists only some of its row groups.

DuckDB reads them through fsspec as `skipmlN://plan/real/path`, in one ordinary scan with its own statistics. The
footer is spliced, not re-encoded, so nothing a writer put there is lost.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import fsspec

from skipml.engines.read_ahead import ReadAhead, read_ahead
from skipml.errors import FileChangedError, FooterError
from skipml.identity import FileIdentity, identity, is_settled
from skipml.parquet.chunks import Extent, locate, pack
from skipml.parquet.footer_bytes import read_bytes
from skipml.parquet.reading import RangedFile
from skipml.parquet.thrift import read_list_header, read_struct
from skipml.stores import RemoteFile

_MAGIC = b"PAR1"
_MAX_FILES = 100_000
"""Virtual files kept for results that are still being read; the oldest go first."""
_FIRST_READ = 1 << 16
"""What DuckDB reads of the end of a file before it knows how long the footer is; of a file in a store none of it should
be the file's own bytes. What lies before a footer and belongs to nothing is never looked at.
"""
_READ_AHEAD = 4
"""Plans of which row groups in stores are held that were read ahead."""
_ROW_COUNT_FIELD, _ROW_GROUPS_FIELD = 3, 4
_STRUCT = 12
_ESCAPED = re.compile(r"\[([*?\[])\]")


@dataclass(frozen=True, slots=True)
class FooterLayout:
    """Where the parts of a footer are that depend on its row groups."""

    raw: bytes
    start: int
    """Position of the footer in the file."""
    row_count: tuple[int, int]
    list_header: int
    groups: tuple[tuple[int, int], ...]
    group_rows: tuple[int, ...]

    def keep(self, row_groups: Sequence[int]) -> bytes:
        """The end of a file that has only these row groups: footer, its length, magic."""
        parts = [
            self.raw[: self.row_count[0]],
            _zigzag(sum(self.group_rows[i] for i in row_groups)),
            self.raw[self.row_count[1] : self.list_header],
            _list_header(len(row_groups)),
            *(self.raw[slice(*self.groups[i])] for i in row_groups),
            self.raw[self.groups[-1][1] if self.groups else self.list_header + 1 :],
        ]
        footer = b"".join(parts)
        return footer + struct.pack("<I", len(footer)) + _MAGIC


@lru_cache(maxsize=1024)
def layout(path: str, state: FileIdentity) -> FooterLayout:
    """The layout of a file's footer in the given state; raises FooterError for what is not a plain Parquet footer,
    FileChangedError for another state.
    """
    if isinstance(path, RemoteFile):
        _, raw = read_bytes(path)
        return _laid_out(path, raw, state.size - 8 - len(raw))
    with open(path, "rb") as file:
        if identity(file.fileno()) != state:
            raise FileChangedError(f"{path} was rewritten after it was planned; run the query again")
        file.seek(-8, os.SEEK_END)
        tail = file.read(8)
        size = struct.unpack("<I", tail[:4])[0]
        start = state.size - 8 - size
        if tail[4:] != _MAGIC or start < 4:
            raise FooterError(f"{path}: not a plain Parquet footer")
        file.seek(start)
        raw = file.read(size)
    return _laid_out(path, raw, start)


def _laid_out(path: str, raw: bytes, start: int) -> FooterLayout:
    try:
        return _layout(raw, start)
    except (IndexError, ValueError, KeyError) as error:
        raise FooterError(f"{path}: the footer cannot be sliced: {error}") from error


def whole(path: str, state: FileIdentity) -> tuple[int, bytes]:
    """Where the footer of a file in a store starts, and its end from there on, as it is."""
    _, raw = read_bytes(path)
    return state.size - 8 - len(raw), raw + struct.pack("<I", len(raw)) + _MAGIC


def _plain(path: str) -> str:
    """A path or URL as the rest of another URL."""
    return path.partition("://")[2].lstrip("/") if isinstance(path, RemoteFile) else path.lstrip("/")


def _layout(raw: bytes, start: int) -> FooterLayout:
    _, row_count = read_struct(raw, 0, stop=_ROW_COUNT_FIELD)
    _, list_header = read_struct(raw, 0, stop=_ROW_GROUPS_FIELD)
    count, kind, at = read_list_header(raw, list_header)
    if kind != _STRUCT and count:
        raise ValueError("the row groups are not a list of structs")
    ends, rows = _row_groups(raw, at, count)
    groups = tuple(zip([at, *ends], ends, strict=False))
    return FooterLayout(raw, start, (row_count, _varint_end(raw, row_count)), list_header, groups, rows)


def _row_groups(raw: bytes, at: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The position behind each row group, and its rows; the first starts at `at`."""
    if not count:
        return (), ()
    n_columns, _, _ = read_list_header(raw, at + 1)  # a row group begins with the list of its column chunks
    buffer, _ = pack([raw])
    (chunks,) = locate(buffer, [Extent(at, count, n_columns)])
    if chunks is None:
        raise ValueError("the row groups are not laid out as Parquet says")
    return tuple(chunks.ends.tolist()), tuple(chunks.n_rows.tolist())


def _varint_end(raw: bytes, at: int) -> int:
    while raw[at] & 0x80:
        at += 1
    return at + 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _zigzag(value: int) -> bytes:
    return _varint(value << 1)


def _list_header(count: int) -> bytes:
    return bytes([count << 4 | _STRUCT]) if count < 15 else bytes([0xF0 | _STRUCT]) + _varint(count)


_Content = tuple[str, FileIdentity, tuple[int, ...] | None]
"""Path, state and kept row groups (None: all): what the bytes of a virtual file depend on."""


@dataclass(frozen=True, slots=True)
class _VirtualFile:
    content: _Content
    split: int
    tail: bytes
    ahead: ReadAhead | None = None

    @property
    def path(self) -> str:
        return self.content[0]

    @property
    def state(self) -> FileIdentity:
        return self.content[1]

    @property
    def size(self) -> int:
        return self.split + len(self.tail)


class _Handle:
    """A read-only file object over a virtual file; DuckDB seeks and reads."""

    _descriptor = -1

    def __init__(self, file: _VirtualFile) -> None:
        self._file = file
        self._position = 0
        self._open(file)

    def _open(self, file: _VirtualFile) -> None:
        self._descriptor = os.open(file.path, os.O_RDONLY)
        if identity(self._descriptor) != file.state:
            self.close()
            raise FileChangedError(f"{file.path} was rewritten between plan and scan; run the query again")

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            position += self._position if whence == os.SEEK_CUR else self._file.size
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        file, start = self._file, self._position
        if 0 <= size <= file.split - start:  # a column chunk, as nearly every read is
            data = self._pread(size, start)
            self._position = start + len(data)
            return data
        stop = file.size if size < 0 else min(start + size, file.size)
        data = self._pread(min(stop, file.split) - start, start) if start < file.split else b""
        if stop > file.split:
            data += file.tail[max(start - file.split, 0) : stop - file.split]
        self._position = start + len(data)
        return data

    def _pread(self, size: int, start: int) -> bytes:
        """All of the bytes: DuckDB takes what is missing of a read for data."""
        data = os.pread(self._descriptor, size, start)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), start + len(data))
            if not more:
                raise FileChangedError(f"{self._file.path} was cut off while it was read; run the query again")
            data += more
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.close()


class _RemoteHandle(_Handle):
    """The same over a file in a store, each read of which is one request."""

    def _open(self, file: _VirtualFile) -> None:
        assert isinstance(file.path, RemoteFile)
        self._source = RangedFile(file.path, file.state)

    def _pread(self, size: int, start: int) -> bytes:
        if size <= 0:
            return b""
        ahead = self._file.ahead
        return (
            self._source.pread(start, start + size) if ahead is None else ahead.pread(self._source, start, start + size)
        )


_numbers = itertools.count()


class VirtualFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The virtual files of one connection, as a file system of its own protocol."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.protocol = f"skipml{next(_numbers)}"
        self._files: OrderedDict[str, _VirtualFile] = OrderedDict()
        self._names: dict[_Content, str] = {}
        self._plans = itertools.count()
        self._ahead: deque[ReadAhead] = deque()
        self._lock = threading.Lock()

    def add(
        self, files: Sequence[tuple[str, FileIdentity, Sequence[int] | None]], *, reads_rows: bool = True
    ) -> list[str]:
        """Make virtual files of (path, state, kept row groups, or None for all) and return their URLs: the same for the
        same content, as DuckDB caches by name.
        """
        number = next(self._plans)
        ahead = read_ahead(files) if reads_rows else None
        with self._lock:
            names = [self._add(number, path, state, None if g is None else tuple(g)) for path, state, g in files]
            if ahead is not None:
                for name in names:
                    self._files[name] = replace(self._files[name], ahead=ahead)
                self._ahead.append(ahead)
            while len(self._ahead) > _READ_AHEAD:
                self._ahead.popleft().forget()
            while len(self._files) > _MAX_FILES:
                _, file = self._files.popitem(last=False)
                self._names.pop(file.content, None)
        return [f"{self.protocol}://{name}" for name in names]

    def _add(self, plan: int, path: str, state: FileIdentity, row_groups: tuple[int, ...] | None) -> str:
        """The name of a virtual file, of the one that is there if it has the same content."""
        content = (path, state, row_groups)
        held = self._names.get(content)
        if held is not None:
            self._files.move_to_end(held)
            # the path of this plan counts what it takes from a store
            self._files[held] = replace(self._files[held], content=content)
            return held
        settled = is_settled(state.written_ns, time.time_ns())
        if row_groups is None:
            split, tail = whole(path, state)
        else:
            found = (layout if settled else layout.__wrapped__)(path, state)
            split, tail = found.start, found.keep(row_groups)
        if isinstance(path, RemoteFile):
            tail = bytes(max(0, _FIRST_READ - len(tail))) + tail
        name = f"{plan}/{_plain(path)}"  # the path as given: DuckDB reads partitions from its directories
        self._files[name] = _VirtualFile(content, split, tail)
        if settled:
            self._names[content] = name
        return name

    def _name(self, path: str) -> str:
        return str(path).removeprefix(f"{self.protocol}://")

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Handle:
        if mode not in ("r", "rb"):
            raise PermissionError(f"{path}: virtual Parquet files are read-only")
        file = self._found(path)
        return _RemoteHandle(file) if isinstance(file.path, RemoteFile) else _Handle(file)

    def _found(self, path: str) -> _VirtualFile:
        try:
            return self._files[self._name(path)]
        except KeyError:
            raise FileNotFoundError(f"{path}: the plan of this query is no longer kept; run it again") from None

    def size(self, path: str) -> int:
        return self._found(path).size

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self._found(path).state.mtime_ns / 1e9, tz=UTC).replace(tzinfo=None)

    def isfile(self, path: str) -> bool:
        return self._name(path) in self._files

    def isdir(self, path: str) -> bool:
        return False

    def exists(self, path: str, **_: Any) -> bool:
        return self.isfile(path)

    def glob(self, path: str, **_: Any) -> list[str]:
        # The only patterns that DuckDB is given are escaped names.
        name = _ESCAPED.sub(r"\1", path)
        return [self._name(name)] if self.isfile(name) else []

    def unstrip_protocol(self, name: str) -> str:
        return f"{self.protocol}://{self._name(name)}"
