"""skipml's DuckDB extension: where its binary is, and how it gets into a database."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from skipml.engines.dialect import quote_text

_VARIABLE = "SKIPML_EXTENSION"
_FILE = "skipml.duckdb_extension"


class NoExtensionError(Exception):
    """The extension does not run here; the text says why."""


def load_extension(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Load the extension into the database of a connection; raises NoExtensionError."""
    allowed = connection.execute("SELECT current_setting('allow_unsigned_extensions')").fetchone()
    if not (allowed and allowed[0]):
        raise NoExtensionError(
            'unsigned extensions are not allowed: connect with config={"allow_unsigned_extensions": "true"}'
        )
    try:
        connection.execute(f"LOAD {quote_text(str(path))}")
    except duckdb.Error as error:
        raise NoExtensionError(f"{path} could not be loaded: {error}") from error


def find_extension() -> Path:
    """The file that SKIPML_EXTENSION names; else that of the checkout, or the one inside the package. Raises
    NoExtensionError.
    """
    named = os.environ.get(_VARIABLE)
    package = Path(__file__).resolve().parents[1]
    places = [Path(named)] if named else [package.parent / "extension/build" / _FILE, package / "native" / _FILE]
    for place in places:
        if place.is_file():
            return place
    if named:
        raise NoExtensionError(f"{_VARIABLE} names {named}, which is not a file")
    raise NoExtensionError("no extension is built: `make extension`")
