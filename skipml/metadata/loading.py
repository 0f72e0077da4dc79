"""Finding the metadata of a data file, and remembering it as long as nothing changes."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skipml.errors import FileChangedError, FooterError, MetadataError
from skipml.identity import FileIdentity, ObjectIdentity, Path, identity, is_settled, listed_identity, written_ns
from skipml.metadata.contents import Metadata
from skipml.metadata.format import decode
from skipml.metadata.storage import sidecar_path
from skipml.metadata.tie import SplitFooter, Tie, footer_hash, read_footer, split
from skipml.recent import Recent
from skipml.stores import Range, RemoteFile

_CACHED_BYTES = 1 << 28
_ENTRY_BYTES = 1 << 10
"""About what an entry without metadata takes."""

States = tuple[FileIdentity, FileIdentity | None]
"""Of the data file and of its sidecar."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The metadata of a data file, or None and why ('' if it never had any).

    `identity` is the state of the file that it holds for: with footers of another state it must not be used.
    `is_embedded` says whether it was found in the file itself.
    """

    metadata: Metadata | None
    reason: str
    identity: FileIdentity | None
    is_embedded: bool = False


def load(path: Path, root: Path | None = None) -> Loaded:
    """The metadata of a data file from its sidecar, else from its footer; never raises.

    What is damaged, of another version or of another state of the file is ignored, and the reason says so. Results are
    remembered: a second call costs two calls of os.stat.
    """
    if isinstance(path, RemoteFile) or isinstance(root, RemoteFile):
        return load_all([os.fspath(path)], root)[0]
    return _load(path, sidecar_path(path, root), identity, _identity_or_none, _read_sidecar)


def load_all(paths: Sequence[str], root: Path | None = None) -> list[Loaded]:
    """The metadata of many data files; of those in stores one listing per folder says which have sidecars, and those
    that are not known are read together.
    """
    if not isinstance(root, RemoteFile) and not any(isinstance(path, RemoteFile) for path in paths):
        return [load(path, root) for path in paths]
    places = [sidecar_path(path, root) for path in paths]
    there = _Sidecars.listed([place for place in places if isinstance(place, RemoteFile)])
    there.fetch([place for path, place in zip(paths, places, strict=True) if not there.is_known(path, place)])
    of = (listed_identity, there.state, there.read)
    return [_load(path, there.files.get(place, place), *of) for path, place in zip(paths, places, strict=True)]


@dataclass(frozen=True, slots=True)
class _Sidecars:
    """Sidecars in stores, beside those that are local: what was listed of them, and the bytes, or the error, of those
    that were read.
    """

    files: Mapping[str, RemoteFile]
    held: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def listed(cls, places: Sequence[RemoteFile]) -> _Sidecars:
        """What is there of the places."""
        found: dict[str, RemoteFile] = {}
        for store in dict.fromkeys(place.store for place in places):
            found |= store.siblings([place for place in places if place.store is store])
        return cls(found)

    def state(self, place: str) -> FileIdentity | None:
        """The state of a sidecar, None where there is none."""
        if not isinstance(place, RemoteFile):
            return _identity_or_none(place)
        return listed_identity(self.files[place]) if place in self.files else None

    def is_known(self, path: str, place: str) -> bool:
        """Whether what is remembered of a file holds for it and for its sidecar as they are now."""
        try:
            known = _cache.get(_key(path, place))
            return known is not None and known.states == (listed_identity(path), self.state(place))
        except OSError:
            return False

    def fetch(self, places: Sequence[str]) -> None:
        """Read the sidecars at these places, as far as there are any."""
        wanted = [self.files[place] for place in places if place in self.files]
        for store in dict.fromkeys(file.store for file in wanted):
            mine = [(file, listed_identity(file)) for file in wanted if file.store is store]
            ranges = [Range(file, 0, state.size, state.tag) for file, state in mine]
            self.held.update(zip((str(file) for file, _ in mine), store.read(ranges), strict=True))

    def read(self, place: str) -> bytes:
        """The bytes of a sidecar; raises OSError, FileChangedError."""
        if not isinstance(place, RemoteFile):
            return _read_sidecar(place)
        if place not in self.held:
            self.fetch([place])
        if isinstance(self.held[place], Exception):
            raise self.held[place]
        data: bytes = self.held[place]
        return data


def _key(path: Path, sidecar: str) -> tuple[str, str]:
    return str(path) if isinstance(path, RemoteFile) else os.path.abspath(path), str(sidecar)


def _load(
    path: Path,
    sidecar: str,
    state_of: Callable[[Path], FileIdentity],
    sidecar_state_of: Callable[[str], FileIdentity | None],
    read: Callable[[str], bytes],
) -> Loaded:
    """The metadata of a data file, given how to look at it and at its sidecar."""
    now = time.time_ns()
    try:
        state, sidecar_state = state_of(path), sidecar_state_of(sidecar)
        key = _key(path, sidecar)
        if (known := _cache.get(key)) is not None and known.states == (state, sidecar_state):
            return known.loaded
        loaded = _found(
            path if isinstance(path, RemoteFile) else os.fspath(path), sidecar if sidecar_state else None, read
        )
    except OSError as error:
        return Loaded(None, f"'{os.fspath(path)}' cannot be read: {error.strerror or error}", None)
    except (FooterError, FileChangedError, ValueError) as error:
        return Loaded(None, str(error), None)
    newest = max(state.written_ns, sidecar_state.written_ns if sidecar_state else 0)
    if loaded.identity == state and is_settled(newest, now):
        _cache.put(key, _Known((state, sidecar_state), loaded))
    return loaded


def remember(path: Path, root: Path | None, of: States, loaded: Loaded) -> None:
    """Take this for what is found, as long as the file and its sidecar are in these states."""
    _cache.put((os.path.abspath(path), sidecar_path(path, root)), _Known(of, loaded))


def states(path: Path, root: Path | None = None) -> States:
    """The states of a data file and of its sidecar, None where it has none; raises OSError and ValueError."""
    return identity(path), _identity_or_none(sidecar_path(path, root))


def _identity_or_none(path: str) -> FileIdentity | None:
    try:
        return identity(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _found(path: str, sidecar: str | None, read: Callable[[str], bytes]) -> Loaded:
    """What a file's sidecar, or else its footer, says of it."""
    state, raw = read_footer(path)
    footer = split(raw)
    reasons = []
    for place, payload, expected in _sources(path, sidecar, state, footer, read):
        found = _valid(place, payload, expected)
        if isinstance(found, Metadata) and expected.size and _is_older(sidecar, state):
            found = f"{place} is older than the last change of the file; enrich it again"
        if isinstance(found, Metadata):
            return Loaded(found, "", state, is_embedded=not expected.size)
        reasons.append(found)
    if footer.copied:
        reasons.append(f"a program copied the metadata in '{path}' from another file; enrich it again")
    return Loaded(None, "; ".join(reasons), state)


def _is_older(sidecar: str | None, state: FileIdentity) -> bool:
    """Whether the file was changed after its sidecar was written, though its modification time may say otherwise."""
    if sidecar is None or isinstance(state, ObjectIdentity):  # what a store says of a file cannot be set
        return False
    written = written_ns(sidecar) if isinstance(sidecar, RemoteFile) else os.stat(sidecar).st_mtime_ns
    return written < state.ctime_ns


def _sources(
    path: str, sidecar: str | None, state: FileIdentity, footer: SplitFooter, read: Callable[[str], bytes]
) -> Iterator[tuple[str, Callable[[], bytes], Tie]]:
    """Where metadata may be: a name for the place, how to read it, and the state it has to be about."""
    if sidecar is not None:
        tie = Tie(state.size, state.stamp, footer_hash(footer.base))
        yield f"'{sidecar}'", partial(read, sidecar), tie
    if footer.value is not None:
        tie = Tie(0, 0, footer_hash(footer.base))
        yield f"the footer of '{path}'", partial(base64.b64decode, footer.value, validate=True), tie


def _read_sidecar(path: str) -> bytes:
    if not os.path.isfile(path):  # a pipe would block
        raise MetadataError("this is no file; remove it and enrich the file again")
    with open(path, "rb") as file:
        return file.read()


def _valid(place: str, read: Callable[[], bytes], expected: Tie) -> Metadata | str:
    """The metadata that is there, or why it says nothing about the file."""
    try:
        metadata, tie = decode(read())
    except (OSError, FileChangedError) as error:
        return f"{place} cannot be read: {getattr(error, 'strerror', None) or error}"
    except (ValueError, MemoryError) as error:
        return f"{place}: {str(error) or 'too large for this machine'}"
    if tie != expected:
        return f"{place} is about another file or an older state of this one; enrich it again"
    return metadata


@dataclass(frozen=True, slots=True)
class _Known:
    """What was loaded when both files were in these states."""

    states: States
    loaded: Loaded

    @property
    def nbytes(self) -> int:
        """About the bytes that it takes."""
        return _ENTRY_BYTES + (self.loaded.metadata.nbytes if self.loaded.metadata else 0)


_cache: Recent[tuple[str, str], _Known] = Recent(_CACHED_BYTES, lambda known: known.nbytes)
"""By the path of the file and of its sidecar."""
