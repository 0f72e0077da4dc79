"""The files of a plan as a file system for Arrow, which reads those in stores by ranges, in the state planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec

from skipml.identity import listed_identity
from skipml.parquet.reading import RangedFile
from skipml.stores import RemoteFile


class PlannedFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Files by the names they have in the plan; there are no others."""

    protocol = "skipml-plan"
    cachable = False

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__()
        self._files = files

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        file = self._files[path]
        return RangedFile(file, listed_identity(file)) if isinstance(file, RemoteFile) else open(file, mode)

    def isfile(self, path: str) -> bool:
        return path in self._files

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": listed_identity(self._files[path]).size, "type": "file"}
