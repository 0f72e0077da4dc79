"""Which scorer the connections of a test run have: Python, or skipml's DuckDB extension where it is built."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from skipml.engines.extension import NoExtensionError, load_extension

OPTION = "--scorer"
_ALLOWED = {"allow_unsigned_extensions": "true"}


def add_option(parser: pytest.Parser) -> None:
    """Give pytest the option."""
    parser.addoption(OPTION, choices=("python", "native"), default="python", help="what scores rows in DuckDB")


def use_extension(patch: pytest.MonkeyPatch) -> None:
    """Let every connection that is opened from here on load the extension; fails where it does not run."""
    plain_connect: Any = duckdb.connect

    def connect(*args: Any, config: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        return plain_connect(*args, config={**_ALLOWED, **(config or {})}, **kwargs)

    with connect() as connection:
        try:
            load_extension(connection)
        except NoExtensionError as error:
            pytest.exit(str(error), returncode=1)
    patch.setattr(duckdb, "connect", connect)
