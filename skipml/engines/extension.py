"""How skipml's DuckDB extension gets into a database."""

from __future__ import annotations

from pathlib import Path

import duckdb

from skipml.engines.dialect import quote_text
from skipml.library import NoExtensionError


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
