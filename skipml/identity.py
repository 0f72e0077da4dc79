"""Which files a path means, and what tells one state of a file from another."""

from __future__ import annotations

import glob
import os
import threading
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


def identity(path: Path | int) -> FileIdentity:
    """The identity of a file, given by path or open descriptor; raises OSError."""
    status = os.stat(path)
    return FileIdentity(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def is_settled(mtime_ns: int, now_ns: int) -> bool:
    """Whether what a file held at a time may be remembered by its identity: one written a moment ago may be written
    again without a later modification time.
    """
    return now_ns - mtime_ns > _SETTLED_NS


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
    connection: duckdb.DuckDBPyConnection | None = getattr(_local, "connection", None)
    if connection is None or _local.process != os.getpid():
        connection = duckdb.connect(":memory:", config={**_OFFLINE, "threads": 1})
        _local.connection, _local.process = connection, os.getpid()
    return connection


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
