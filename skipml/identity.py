"""Which files a path means, and what tells one state of a file from another."""

from __future__ import annotations

import glob
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from skipml.errors import FooterError

Path = str | os.PathLike[str]

_SETTLED_NS = 2 * 10**9
_OFFLINE = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_local = threading.local()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A state of a file: size in bytes, modification time in ns, inode, time of the last change of any kind in ns. Two
    states that differ have different identities unless the clock is turned back.
    """

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int
    """Unlike the modification time it cannot be set."""

    @property
    def written_ns(self) -> int:
        """When the file was last written: a modification time may be set to any earlier one."""
        return max(self.mtime_ns, self.ctime_ns)


def identity(path: Path | int) -> FileIdentity:
    """The identity of a file, given by path or open descriptor; raises OSError."""
    status = os.stat(path)
    return FileIdentity(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def is_settled(written_ns: int, now_ns: int) -> bool:
    """Whether what a file held at a time may be remembered by its identity: one written a moment ago may be written
    again without a later time.
    """
    return now_ns - written_ns > _SETTLED_NS


def expand(paths: Path | Sequence[Path]) -> tuple[str, ...]:
    """The files that paths and globs (`**` too) stand for: a list stays in its order, the matches of one glob come in
    DuckDB's. As in DuckDB a name with `*`, `?` or `[` is a glob first. Raises FooterError naming the pattern that
    matches nothing.
    """
    patterns = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not patterns:
        raise FooterError("no files: the list of paths is empty; pass at least one path or glob")
    return tuple(file for pattern in patterns for file in _matches(os.fspath(pattern)))


def private_connection() -> duckdb.DuckDBPyConnection:
    """The calling thread's own in-memory DuckDB, which loads no extensions; made on first use."""
    held: _Private | None = getattr(_local, "held", None)
    if held is None or held.process != os.getpid():
        held = _Private(duckdb.connect(":memory:", config={**_OFFLINE, "threads": 1}), os.getpid())
        _local.held = held
        _connections.add(held)
    return held.connection


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Private:
    connection: duckdb.DuckDBPyConnection
    process: int


_connections: weakref.WeakSet[_Private] = weakref.WeakSet()
_inherited: list[_Private] = []
"""Those of all threads while the process forks, and for good in the child: Python drops there what belongs to threads
that are not there any more, and DuckDB crashes as it waits for threads of its own.
"""
os.register_at_fork(
    before=lambda: _inherited.extend(_connections),
    after_in_parent=_inherited.clear,
)


def _matches(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), "**", "*.parquet")
    files = []
    if glob.has_magic(pattern):
        try:
            files = [row[0] for row in private_connection().execute("SELECT file FROM glob(?)", [pattern]).fetchall()]
        except duckdb.Error as error:
            raise FooterError(f"cannot list '{pattern}': {error}") from error
    if not files and os.path.isfile(pattern):
        return [pattern]
    if not files:
        raise FooterError(f"no file matches '{pattern}'; check that it exists (paths are relative to {os.getcwd()})")
    return files
