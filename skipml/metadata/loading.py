"""Finding the metadata of a data file, and remembering it as long as nothing changes."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from skipml.errors import FooterError, MetadataError
from skipml.identity import FileIdentity, Path, identity, is_settled
from skipml.metadata.contents import Metadata
from skipml.metadata.format import decode
from skipml.metadata.storage import sidecar_path
from skipml.metadata.tie import SplitFooter, Tie, footer_hash, read_footer, split
from skipml.recent import Recent

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
    now = time.time_ns()
    try:
        sidecar = sidecar_path(path, root)
        state, sidecar_state = states(path, root)
        key = (os.path.abspath(path), sidecar)
        if (known := _cache.get(key)) is not None and known.states == (state, sidecar_state):
            return known.loaded
        loaded = _load(os.fspath(path), sidecar if sidecar_state else None)
    except OSError as error:
        return Loaded(None, f"'{os.fspath(path)}' cannot be read: {error.strerror or error}", None)
    except (FooterError, ValueError) as error:
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


def _load(path: str, sidecar: str | None) -> Loaded:
    """What a file's sidecar, or else its footer, says of it."""
    state, raw = read_footer(path)
    footer = split(raw)
    reasons = []
    for place, read, expected in _sources(path, sidecar, state, footer):
        found = _valid(place, read, expected)
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
    return sidecar is not None and os.stat(sidecar).st_mtime_ns < state.ctime_ns


def _sources(
    path: str, sidecar: str | None, state: FileIdentity, footer: SplitFooter
) -> Iterator[tuple[str, Callable[[], bytes], Tie]]:
    """Where metadata may be: a name for the place, how to read it, and the state it has to be about."""
    if sidecar is not None:
        tie = Tie(state.size, state.mtime_ns, footer_hash(footer.base))
        yield f"'{sidecar}'", partial(_read_sidecar, sidecar), tie
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
    except OSError as error:
        return f"{place} cannot be read: {error.strerror or error}"
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
