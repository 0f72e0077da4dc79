"""Files in stores that fsspec reaches (S3, GCS, Azure, HTTP): what a URL names, ranged reads, and what they took.

Reads of many files run together. Where the store can tell versions apart, a read asks for the version that was listed
(If-Match); where it cannot, whoever reads looks at the file again afterwards. Retries are those of the file system.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import fsspec
from fsspec.asyn import sync

from skipml.errors import FileChangedError, StoreError

GAP = 1 << 18
"""Bytes between two ranges that are read along: some 5 ms at 50 MB/s, where one more request takes 10 to 100 ms."""
_LARGEST = 1 << 25
_TOGETHER = 64
"""Requests at one time; the file system may allow fewer."""
_PAGE = 1000
"""Names in one answer to a listing."""
_LOCAL = ("file", "local")
_lock = threading.Lock()


@dataclass(slots=True)
class Traffic:
    """Requests to a store and bytes that came back, since it was made; a long listing counts its pages."""

    requests: int = 0
    bytes: int = 0

    def add(self, requests: int, n_bytes: int = 0) -> None:
        """Count some more, from any thread."""
        with _lock:
            self.requests += requests
            self.bytes += n_bytes

    def __str__(self) -> str:
        return f"{self.requests:,} requests, {self.bytes / 1e6:,.1f} MB"


class Range(NamedTuple):
    """The bytes of a file from `start` until before `stop`; with a tag only if the file is in the state it names."""

    file: RemoteFile
    start: int
    stop: int
    tag: str = ""


class RemoteFile(str):
    """The URL of a file in a store, a string like any other path, with what the store said of it when it was listed
    and, once it was read, its footer.
    """

    store: Store
    info: Mapping[str, Any] | None
    footer: bytes | Exception | None

    def __new__(cls, url: str, store: Store, info: Mapping[str, Any] | None = None) -> RemoteFile:  # noqa: D102
        made = super().__new__(cls, url)
        made.store, made.info, made.footer = store, info, None
        return made

    def __getnewargs__(self) -> tuple[str, Store, Mapping[str, Any] | None]:  # type: ignore[override]
        return str(self), self.store, self.info

    @property
    def key(self) -> str:
        """Its name in the file system."""
        return str(self.store.filesystem._strip_protocol(str(self)))

    def beside(self, suffix: str) -> RemoteFile:
        """The file whose name is longer by a suffix."""
        return RemoteFile(str(self) + suffix, self.store)

    def below(self, name: str) -> RemoteFile:
        """A file below this one as a folder."""
        return RemoteFile(f"{self.rstrip('/')}/{name.lstrip('/')}", self.store)


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """A file system and what was asked of it."""

    filesystem: Any
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def protocol(self) -> str:
        """The first name of the file system's protocol."""
        protocol = self.filesystem.protocol
        return str(protocol if isinstance(protocol, str) else protocol[0])

    @property
    def name(self) -> str:
        """Tells file systems apart, of one protocol too."""
        return f"{self.protocol} {self.filesystem._fs_token}"

    @property
    def can_match(self) -> bool:
        """Whether a read can name the version it wants."""
        return _matching(self.filesystem) is not None

    def glob(self, pattern: str) -> list[RemoteFile]:
        """The files that a pattern matches, or that lie below a folder and end in `.parquet`, in order of their names;
        raises StoreError.
        """
        filesystem = self.filesystem

        def listed() -> Mapping[str, Mapping[str, Any]]:
            filesystem.invalidate_cache()
            found = filesystem.glob(pattern, detail=True)
            return {name: info for name, info in found.items() if info.get("type") != "directory"}

        found = _explained(pattern, listed)
        self.traffic.add(1 + len(found) // _PAGE)
        return self.with_infos([self._named(name, info) for name, info in sorted(found.items())])

    def _named(self, name: str, info: Mapping[str, Any]) -> RemoteFile:
        url = name if "://" in name else str(self.filesystem.unstrip_protocol(name))
        return RemoteFile(url, self, info)

    def with_infos(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """The same files, with what the store says of those that a listing did not describe; raises StoreError."""
        lacking = [file for file in files if file.info is None or file.info.get("size") is None]
        infos = dict(zip(map(str, lacking), self.infos(lacking), strict=True))
        for info in infos.values():
            if isinstance(info, Exception):
                raise info
        return [RemoteFile(str(file), self, infos.get(str(file), file.info)) for file in files]

    def infos(self, files: Sequence[RemoteFile]) -> list[Any]:
        """What the store says now of files, or the error."""
        filesystem = self.filesystem
        self.traffic.add(len(files))
        for file in files:
            filesystem.invalidate_cache(file.key)
            filesystem.invalidate_cache(filesystem._parent(file.key))
        if _is_async(filesystem):
            found = _gathered(filesystem, [partial(filesystem._info, file.key) for file in files])
        else:
            found = [_attempted(filesystem.info, file.key) for file in files]
        return [
            _error(file, info) if isinstance(info, Exception) else info for file, info in zip(files, found, strict=True)
        ]

    def siblings(self, files: Sequence[RemoteFile]) -> dict[str, RemoteFile]:
        """Those of the files that are there, by their URLs, from one listing of each folder they lie in; a folder that
        cannot be listed has none. A listing made just now is taken again.
        """
        filesystem = self.filesystem
        found: dict[str, RemoteFile] = {}
        wanted = {file.key: file for file in files}
        for folder in sorted({filesystem._parent(key) for key in wanted}):
            entries = _attempted(partial(filesystem.ls, detail=True), folder)
            self.traffic.add(1)
            for info in entries if isinstance(entries, list) else []:
                file = wanted.get(str(filesystem._strip_protocol(info["name"])))
                if file is not None:
                    found[str(file)] = RemoteFile(str(file), self, info)
        return found

    def read(self, ranges: Sequence[Range]) -> list[Any]:
        """The bytes of ranges, those near each other by one request, or for each the error: FileNotFoundError,
        FileChangedError for a file in another state than the range names, StoreError.
        """
        merged, place = _merged(ranges)
        chunks = self._read(merged)
        self.traffic.add(len(merged), sum(len(chunk) for chunk in chunks if isinstance(chunk, bytes)))
        found: list[Any] = []
        for wanted, chunk, whole in zip(ranges, (chunks[i] for i in place), (merged[i] for i in place), strict=True):
            found.append(_part(wanted, whole, chunk))
        return found

    def _read(self, ranges: Sequence[Range]) -> list[Any]:
        filesystem = self.filesystem
        match = _matching(filesystem)
        if _is_async(filesystem):
            return _gathered(filesystem, [partial(_ranged, filesystem, match, wanted) for wanted in ranges])
        return [_attempted(partial(filesystem.cat_file, start=r.start, end=r.stop), r.file.key) for r in ranges]

    def write(self, file: RemoteFile, data: bytes) -> None:
        """Put a file in place of what is there; raises StoreError."""
        self.traffic.add(1)
        _explained(file, partial(self.filesystem.pipe_file, file.key, data))


def is_remote(path: object) -> bool:
    """Whether a path is a URL of something else than a local file."""
    if isinstance(path, RemoteFile):
        return True
    protocol, found, _ = str(path).partition("://")
    return bool(found) and protocol not in _LOCAL and protocol.replace("+", "").isalnum()


def remote_file(url: str, filesystem: Any = None, options: Mapping[str, Any] | None = None) -> RemoteFile:
    """What a URL names, through a file system or one made with options; raises StoreError where there is none."""
    if isinstance(url, RemoteFile):
        return RemoteFile(str(url), Store(url.store.filesystem))
    if filesystem is None:
        try:
            filesystem, _ = fsspec.core.url_to_fs(url, **(options or {}))
        except (ImportError, ValueError, TypeError) as error:
            raise StoreError(f"'{url}' needs a file system that is not there: {error}") from error
    return RemoteFile(url if "://" in url else str(filesystem.unstrip_protocol(url)), Store(filesystem))


def _is_async(filesystem: Any) -> bool:
    return bool(getattr(filesystem, "async_impl", False)) and not getattr(filesystem, "asynchronous", False)


def _gathered(filesystem: Any, calls: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """What coroutines return or raise, run together in the file system's loop."""

    async def run() -> list[Any]:
        free = asyncio.Semaphore(_TOGETHER)

        async def one(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
            async with free:
                return await call()

        return await asyncio.gather(*map(one, calls), return_exceptions=True)

    return list(sync(filesystem.loop, run)) if calls else []


_Match = Callable[[Any, Range], Coroutine[Any, Any, bytes]]


async def _ranged(filesystem: Any, match: _Match | None, wanted: Range) -> bytes:
    if match is not None and wanted.tag:
        return await match(filesystem, wanted)
    return bytes(await filesystem._cat_file(wanted.file.key, start=wanted.start, end=wanted.stop))


async def _s3_ranged(filesystem: Any, wanted: Range) -> bytes:
    import aiohttp

    bucket, key, _ = filesystem.split_path(wanted.file.key)
    asked = {"Range": f"bytes={wanted.start}-{wanted.stop - 1}", "IfMatch": wanted.tag}
    for left in reversed(range(max(1, int(filesystem.retries)))):
        response = await filesystem._call_s3("get_object", Bucket=bucket, Key=key, **asked)
        try:
            return bytes(await response["Body"].read())
        except (TimeoutError, OSError, aiohttp.ClientError):  # it broke off: s3fs asks again only before
            if not left:
                raise
        finally:
            response["Body"].close()
    raise AssertionError("unreachable")


async def _http_ranged(filesystem: Any, wanted: Range) -> bytes:
    headers = {**filesystem.kwargs.get("headers", {}), "If-Match": wanted.tag, "Accept-Encoding": "identity"}
    return bytes(await filesystem._cat_file(wanted.file.key, start=wanted.start, end=wanted.stop, headers=headers))


def _matching(filesystem: Any) -> _Match | None:
    """How a file system reads a range of one version, where that is known."""
    if not _is_async(filesystem):
        return None
    protocol = filesystem.protocol
    protocols = {protocol} if isinstance(protocol, str) else set(protocol)
    if "s3" in protocols and hasattr(filesystem, "_call_s3"):
        return _s3_ranged
    return _http_ranged if "http" in protocols and hasattr(filesystem, "encode_url") else None


def _merged(ranges: Sequence[Range]) -> tuple[list[Range], list[int]]:
    """Ranges that cover these, and for each of these the number of the one it lies in."""
    order = sorted(range(len(ranges)), key=lambda i: (str(ranges[i].file), ranges[i].tag, ranges[i].start))
    merged: list[Range] = []
    place = [0] * len(ranges)
    for i in order:
        wanted = ranges[i]
        last = merged[-1] if merged else None
        alike = last is not None and (str(last.file), last.tag) == (str(wanted.file), wanted.tag)
        if last is not None and alike and wanted.start <= last.stop + GAP and wanted.stop - last.start <= _LARGEST:
            merged[-1] = last._replace(stop=max(last.stop, wanted.stop))
        else:
            merged.append(wanted)
        place[i] = len(merged) - 1
    return merged, place


def _part(wanted: Range, whole: Range, chunk: Any) -> Any:
    """A range out of the one it was read with, or the error."""
    if isinstance(chunk, Exception):
        return _error(wanted.file, chunk)
    if len(chunk) != whole.stop - whole.start:
        return StoreError(
            f"'{wanted.file}': {len(chunk)} bytes came where {whole.stop - whole.start} were asked for; the file was "
            "cut off, or its server does not know ranges"
        )
    return chunk[wanted.start - whole.start : wanted.stop - whole.start]


def _attempted(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except Exception as error:  # each file system raises errors of its own
        return error


def _explained(url: str, call: Callable[[], Any]) -> Any:
    """What a call returns; raises the error that `_error` makes of what it raises."""
    try:
        return call()
    except Exception as error:  # each file system raises errors of its own
        raise _error(url, error) from error


def _error(url: str, error: Exception) -> Exception:
    """An error of any file system, with the name of the file."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"'{url}' is not there, or may not be listed: {error}")
    cause = f"{error} {error.__cause__}"
    if getattr(error, "status", None) == 412 or "PreconditionFailed" in cause:
        return FileChangedError(f"{url} was rewritten since it was planned; plan again")
    return StoreError(f"'{url}' cannot be read or written: {type(error).__name__}: {error}")
