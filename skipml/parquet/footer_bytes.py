"""The bytes of footers: of a local file by two reads at most, of files in stores together, one suffix of each."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from skipml.errors import FileChangedError, FooterError
from skipml.identity import FileIdentity, identity, is_settled, listed_identity
from skipml.recent import Recent
from skipml.stores import Range, RemoteFile

_TRAILER = 8
_GUESS = 1 << 16
_TOGETHER = 256
_CACHED_BYTES = 1 << 26


def read_bytes(path: str) -> tuple[FileIdentity, bytes]:
    """The state of a file and the bytes of its footer; raises OSError, and FooterError for what is no plain Parquet."""
    if isinstance(path, RemoteFile):
        return _read_remote(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise FooterError(f"'{path}' is no file; pass the files below it")  # a pipe would block
    with open(path, "rb") as file:
        before = identity(file.fileno())
        start = max(0, before.size - _GUESS)
        end = os.pread(file.fileno(), _GUESS, start)
        length = _length(path, before.size, end)
        if length + _TRAILER > len(end):
            end = os.pread(file.fileno(), length + _TRAILER, before.size - length - _TRAILER)
        if identity(file.fileno()) != before or len(end) < length + _TRAILER:
            raise FooterError(f"'{path}' changed while its footer was read; run the query again")
    return before, end[len(end) - length - _TRAILER : len(end) - _TRAILER]


def fetch(paths: Sequence[str]) -> None:
    """Read the footers of those files that are in stores, together; `read_bytes` has them then, or says why not."""
    files = [path for path in paths if isinstance(path, RemoteFile) and not isinstance(path.footer, bytes)]
    for start in range(0, len(files), _TOGETHER):
        _fetch(files[start : start + _TOGETHER])


def _fetch(files: Sequence[RemoteFile]) -> None:
    """The footers that are not held of files; those longer than the guess by a second read."""
    wanted: list[tuple[RemoteFile, FileIdentity]] = []
    for file in files:
        try:
            state = listed_identity(file)
        except (OSError, FileChangedError) as error:
            file.footer = error
            continue
        file.footer = _cache.get((str(file), state))
        if file.footer is None and not (state.size < _TRAILER and _hold(file, state, b"")):
            wanted.append((file, state))
    guesses = [Range(file, max(0, state.size - _GUESS), state.size, state.tag) for file, state in wanted]
    longer: list[tuple[RemoteFile, FileIdentity]] = []
    for (file, state), end in zip(wanted, _read(guesses), strict=True):
        if not _hold(file, state, end):
            longer.append((file, state))
    for (file, state), end in zip(longer, _read([_exact(*each) for each in longer]), strict=True):
        _hold(file, state, end)


def _exact(file: RemoteFile, state: FileIdentity) -> Range:
    """Where the footer is of a file whose `footer` holds the end of it, too short a one."""
    end = file.footer
    length = int.from_bytes(end[-8:-4], "little") + _TRAILER if isinstance(end, bytes) else state.size
    file.footer = None
    return Range(file, state.size - length, state.size, state.tag)


def _hold(file: RemoteFile, state: FileIdentity, end: Any) -> bool:
    """Keep a file's footer out of its last bytes, or the error; False if there were not enough of them."""
    if not isinstance(end, bytes):
        file.footer = end
        return True
    try:
        length = _length(file, state.size, end)
    except FooterError as error:
        file.footer = error
        return True
    if length + _TRAILER > len(end):
        file.footer = end
        return False
    file.footer = end[len(end) - length - _TRAILER : len(end) - _TRAILER]
    if is_settled(state.written_ns, time.time_ns()):
        _cache.put((str(file), state), file.footer)
    return True


def _read(ranges: Sequence[Range]) -> list[Any]:
    """The bytes of ranges in their order, of one store after the other."""
    found: list[Any] = [None] * len(ranges)
    for store in dict.fromkeys(r.file.store for r in ranges):
        mine = [i for i, r in enumerate(ranges) if r.file.store is store]
        for i, data in zip(mine, store.read([ranges[i] for i in mine]), strict=True):
            found[i] = data
    return found


def _read_remote(file: RemoteFile) -> tuple[FileIdentity, bytes]:
    if file.footer is None:
        fetch([file])
    if not isinstance(file.footer, bytes):
        assert file.footer is not None
        raise file.footer
    return listed_identity(file), file.footer


def _length(path: str, size: int, end: bytes) -> int:
    """How long the footer is, by the last bytes of a file; raises FooterError for what is no plain Parquet."""
    if size < _TRAILER + 4:
        raise FooterError(f"'{path}' has {size} bytes, too few for a Parquet file; write the file again")
    magic, length = end[-4:], int.from_bytes(end[-8:-4], "little")
    if magic == b"PARE":
        raise FooterError(
            f"'{path}' has an encrypted footer, which skipml does not read; the file is scanned without skipping"
        )
    if magic != b"PAR1":
        raise FooterError(
            f"'{path}' does not end as a Parquet file; it is of another kind or was cut off: write it again"
        )
    if length > size - _TRAILER - 4:
        raise FooterError(f"'{path}' names a footer of {length} bytes in a file of {size}; write the file again")
    return length


_cache: Recent[tuple[str, FileIdentity], bytes] = Recent(_CACHED_BYTES, len)
"""Footers of files in stores, by URL and state."""
