"""Which files a path means, and what tells one state of a file from another."""

from __future__ import annotations

import glob
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any

import duckdb

from skipml.errors import FileChangedError, FooterError
from skipml.stores import RemoteFile, Store, is_remote, remote_file

Path = str | os.PathLike[str]

_SETTLED_NS = 2 * 10**9
_NEVER = 2**62
_UNIQUE = {"s3", "gs", "gcs", "az", "abfs"}
"""Stores whose entity tags tell any two contents of a name apart; a web server's may be a size and a second."""
_TIMES = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "modified", "created")
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

    @property
    def stamp(self) -> int:
        """What sidecars are tied to beside the size and the footer."""
        return self.mtime_ns

    @property
    def tag(self) -> str:
        """What a store calls this version of a file; '' if there is nothing to call it."""
        return ""


@dataclass(frozen=True, slots=True)
class ObjectIdentity(FileIdentity):
    """A state of a file in a store: its size, the tag of its version, and, only where there is none, its modification
    time (0 if that is not known either).
    """

    version: str = ""
    store: str = ""
    is_unique: bool = False
    """Whether no other state of the file has this version."""

    @property
    def written_ns(self) -> int:
        """Long ago if the version is unique; otherwise nothing is ever remembered of the file by its identity."""
        return 0 if self.is_unique else _NEVER

    @property
    def stamp(self) -> int:
        """A hash of the version, or the modification time; 0 leaves the tie to the footer's hash."""
        if not self.version:
            return self.mtime_ns
        return int.from_bytes(blake2b(self.version.encode(), digest_size=8).digest(), "little") >> 1

    @property
    def tag(self) -> str:
        """The version as a quoted entity tag."""
        return f'"{self.version}"' if self.version else ""


def identity(path: Path | int) -> FileIdentity:
    """The identity of a file as it is now, given by path or open descriptor; raises OSError."""
    if isinstance(path, RemoteFile):
        return identities([path])[0]
    status = os.stat(path)
    return FileIdentity(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def identities(paths: Sequence[Path]) -> list[FileIdentity]:
    """Those of many files as they are now, of remote ones together; raises OSError."""
    remote = [path for path in paths if isinstance(path, RemoteFile)]
    infos = iter(remote[0].store.infos(remote)) if remote else iter(())
    return [object_identity(path, next(infos)) if isinstance(path, RemoteFile) else identity(path) for path in paths]


def listed_identity(path: Path) -> FileIdentity:
    """The identity of a file as it was when it was listed, if it is remote, or as it is now; raises OSError."""
    return object_identity(path, path.info) if isinstance(path, RemoteFile) and path.info else identity(path)


def listed_again(path: Path) -> Path:
    """A file as its store describes it now; a local one is looked at anew anyway."""
    return path.store.with_infos([RemoteFile(path, path.store)])[0] if isinstance(path, RemoteFile) else path


def object_identity(file: RemoteFile, info: Any) -> ObjectIdentity:
    """The identity in what a store says of a file; raises that if it is an error, and OSError for a file of unknown
    size.
    """
    if isinstance(info, Exception):
        raise info
    if info.get("size") is None or info.get("type") == "directory":
        raise FileNotFoundError(f"'{file}' is no file, or its server does not tell its size")
    protocol, version = file.store.protocol, _version(info)
    mtime = 0 if version else _mtime_ns(info)
    is_unique = bool(version) and protocol in _UNIQUE
    return ObjectIdentity(int(info["size"]), mtime, 0, 0, version, file.store.name, is_unique)


def written_ns(file: RemoteFile) -> int:
    """When a store says that a listed file was written, in ns; 0 if it does not say."""
    return _mtime_ns(file.info or {})


def check_unchanged(files: Sequence[str], states: Sequence[FileIdentity | None]) -> None:
    """Raise FileChangedError if a file is not in the state it had when it was planned; OSError if it cannot be told."""
    for path, now, state in zip(files, identities(files), states, strict=True):
        if now != state:
            raise FileChangedError(f"{path} was rewritten since it was planned; plan again")


def _version(info: Mapping[str, Any]) -> str:
    """What tells the versions of a file apart; a weak tag may be the same for other bytes."""
    tag = str(info.get("ETag") or info.get("etag") or "")
    return "" if tag.startswith("W/") else tag.strip('"')


def _mtime_ns(info: Mapping[str, Any]) -> int:
    """The modification time in a listing, to the microsecond; 0 if there is none."""
    value = next((info[name] for name in _TIMES if info.get(name)), None)
    try:
        if isinstance(value, str):
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        if isinstance(value, (int, float)):
            return round(value * 1e6) * 1000
        if isinstance(value, datetime):
            return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1e6) * 1000
    except (ValueError, TypeError, OverflowError):
        pass
    return 0


def is_settled(written_ns: int, now_ns: int) -> bool:
    """Whether what a file held at a time may be remembered by its identity: one written a moment ago may be written
    again without a later time.
    """
    return now_ns - written_ns > _SETTLED_NS


def expand(
    paths: Path | Sequence[Path], options: Mapping[str, Any] | None = None, filesystem: Any = None
) -> tuple[str, ...]:
    """The files that paths and globs (`**` too) stand for: a list stays in its order, the matches of one glob come in
    DuckDB's. As in DuckDB a name with `*`, `?` or `[` is a glob first. URLs are read through fsspec, by a file system
    that is given or made with options. Raises FooterError naming the pattern that matches nothing, StoreError.
    """
    patterns = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not patterns:
        raise FooterError("no files: the list of paths is empty; pass at least one path or glob")
    if filesystem is None and not any(map(is_remote, patterns)):
        return tuple(file for pattern in patterns for file in _matches(os.fspath(pattern)))
    return _remote_matches([os.fspath(pattern) for pattern in patterns], options, filesystem)


def is_ambiguous(pattern: str) -> bool:
    """Whether DuckDB may read a name in another way than `expand`."""
    return os.path.isdir(pattern) or (glob.has_magic(pattern) and "\\" in pattern)


def metadata_root(root: Path | None, options: Mapping[str, Any] | None = None, filesystem: Any = None) -> Path | None:
    """The folder of sidecars: local, or a URL, which is read through a file system of its protocol that is given, or
    one made with options; raises StoreError.
    """
    if root is None or not is_remote(root):
        return root
    protocols = getattr(filesystem, "protocol", ())
    of_its_own = os.fspath(root).partition("://")[0] in ((protocols,) if isinstance(protocols, str) else protocols)
    return remote_file(os.fspath(root), filesystem if of_its_own else None, options)


def _remote_matches(patterns: Sequence[str], options: Mapping[str, Any] | None, filesystem: Any) -> tuple[str, ...]:
    """The files of URLs and globs, with what their stores say of them; files of one store share what they count."""
    stores: dict[str, Store] = {}
    named: list[str] = []
    for pattern in patterns:
        if filesystem is None and not is_remote(pattern):
            named.append(pattern)
            continue
        file = remote_file(pattern, filesystem, options)
        named.append(RemoteFile(file, stores.setdefault(file.store.name, file.store)))
    single = [file for file in named if isinstance(file, RemoteFile) and not _is_pattern(file)]
    infos = {(file, file.store.name): info for store in stores.values() for file, info in _infos(store, single)}
    found: list[str] = []
    for name in named:
        if not isinstance(name, RemoteFile):
            found += _matches(name)
        elif _is_pattern(name):
            found += _globbed(name, name)
        else:
            found += _single(name, infos[name, name.store.name])
    return tuple(found)


def _infos(store: Store, files: Sequence[RemoteFile]) -> list[tuple[RemoteFile, Any]]:
    mine = [file for file in files if file.store is store]
    return list(zip(mine, store.infos(mine), strict=True))


def _is_pattern(file: RemoteFile) -> bool:
    """Whether a URL is a glob; a question mark in that of a web page is none."""
    return glob.has_magic(file) if file.store.protocol != "http" else "*" in file


def _single(file: RemoteFile, info: Any) -> list[RemoteFile]:
    """A file, or the files below a folder, given what the store says of the name."""
    if isinstance(info, FileNotFoundError):
        raise FooterError(f"no file matches '{file}': {info}") from info
    if isinstance(info, Exception):
        raise info
    if info.get("type") == "directory":
        return _globbed(file, f"{file.rstrip('/')}/**/*.parquet")
    return [RemoteFile(file, file.store, info)]


def _globbed(file: RemoteFile, pattern: str) -> list[RemoteFile]:
    found = file.store.glob(pattern)
    if not found:
        raise FooterError(f"no file matches '{pattern}'; check the names of the bucket and the folders")
    return found


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
