"""Files in stores that a query names: through the file systems that are registered on its database."""

from __future__ import annotations

import os
import threading
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

    def root(self, folder: Path | None) -> Path | None:
        """A folder of sidecars, read through the file system that is registered for it, if its name is a URL."""
        return metadata_root(folder, None, self.held.get(os.fspath(folder).partition("://")[0]) if folder else None)

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


def is_asked(path: str, state: FileIdentity) -> bool:
    """Whether the store of a file that is read by ranges is asked for its version, and gives no other."""
    return isinstance(path, RemoteFile) and bool(state.tag) and path.store.can_match
