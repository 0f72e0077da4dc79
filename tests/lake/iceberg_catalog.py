"""An Iceberg catalog in a dictionary, as pyiceberg's own needs a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table


def _unused(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


class _Catalog(MetastoreCatalog):
    """Tables by name; what tests do not use is not there."""

    def __init__(self, folder: Path) -> None:
        super().__init__("test")
        self._folder = folder
        self._places: dict[Any, str] = {}

    def create_table(self, identifier: Any, schema: Any, *_: Any, **kwargs: Any) -> Table:
        location = (self._folder / str(identifier)).as_uri()
        staged = self._create_staged_table(("ns", identifier), schema, location, **kwargs)
        return self._store(staged)

    def _store(self, staged: Any) -> Table:
        self._write_metadata(staged.metadata, staged.io, staged.metadata_location)
        self._places[staged.name()] = staged.metadata_location
        return self.load_table(staged.name())

    def load_table(self, identifier: Any) -> Table:
        place = self._places[identifier]
        io = self._load_file_io({}, place)
        return Table(identifier, FromInputFile.table_metadata(io.new_input(place)), place, io, self)

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        staged = self._update_and_stage_table(self.load_table(table.name()), table.name(), requirements, updates)
        stored = self._store(staged)
        return CommitTableResponse.model_construct(metadata=stored.metadata, metadata_location=stored.metadata_location)


def table(folder: Path, schema: pa.Schema, **kwargs: Any) -> Table:
    """A new table without rows."""
    names = dict.fromkeys(_Catalog.__abstractmethods__, _unused)
    catalog: Any = type("Catalog", (_Catalog,), names)(folder)
    with patch("pyiceberg.catalog.MetastoreCatalog.load_namespace_properties", lambda *_: {}, create=True):
        made: Table = catalog.create_table("t", schema, **kwargs)
    return made
