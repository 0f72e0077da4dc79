"""Files in stores that a query names: through the file systems that are registered on its database."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import Parser, Reference
from skipml.engines.virtual import VirtualFiles
from skipml.errors import FileChangedError, FooterError
from skipml.footers import read_footers
from skipml.identity import FileIdentity, Path, expand, metadata_root
from skipml.stores import RemoteFile


@dataclass(frozen=True, slots=True)
class Stores:
    """The fsspec file systems of one database by protocol. Through DuckDB's own httpfs, whose credentials are its own,
    queries run as they are.
    """

    held: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, filesystem: Any) -> None:
        """Know a file system by all its protocols."""
        protocols = filesystem.protocol
        with self.lock:
            self.held.update(dict.fromkeys([protocols] if isinstance(protocols, str) else protocols, filesystem))

    def remove(self, protocol: str) -> None:
        """Forget the file system that has a protocol."""
        with self.lock:
            gone = self.held.get(protocol)
            for each in [each for each, filesystem in self.held.items() if filesystem is gone]:
                del self.held[each]

    def root(self, folder: str | None) -> Path | None:
        """A folder of sidecars, read through the file system that is registered for it, if its name is a URL."""
        return metadata_root(folder, None, self.held.get(folder.partition("://")[0]) if folder else None)

    def describe(self, reference: Reference, parser: Parser, files: VirtualFiles) -> bool:
        """Bind a reference to files in one store as its listing and their footers have them; False where that cannot
        be, so that DuckDB says what is wrong.
        """
        protocol = reference.patterns[0].partition("://")[0]
        filesystem = self.held.get(protocol)
        if filesystem is None or not all(pattern.startswith(f"{protocol}://") for pattern in reference.patterns):
            return False
        try:
            reference.files = expand(reference.patterns, None, filesystem)
            states = read_footers(reference.files, [], strict=True).identities
            whole = [(path, state, None) for path, state in zip(reference.files, states, strict=True) if state]
            urls = files.add(whole, reads_rows=False)
            reference.schema = parser.describe(reference, urls)
        except (duckdb.Error, NotAnalysableError, FooterError, FileChangedError, OSError, UnicodeDecodeError):
            return False
        return True


def to_check(files: Sequence[str], states: Sequence[FileIdentity | None], route: str) -> list[tuple[str, FileIdentity]]:
    """The files that are to be looked at again after a query has read them by a route: a store that is asked for the
    version planned gives no other.
    """
    pairs = [(path, state) for path, state in zip(files, states, strict=True) if state is not None]
    return [(path, state) for path, state in pairs if route != "virtual files" or not _is_asked(path, state)]


def _is_asked(path: str, state: FileIdentity) -> bool:
    return isinstance(path, RemoteFile) and bool(state.tag) and path.store.can_match
