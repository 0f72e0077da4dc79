"""What scores and bounds in a test run: the extension, Python with its kernels, or Python alone; `batches` is Python
alone that pulls the rows of queries however few they are.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from skipml.bounds import compiled
from skipml.engines import pulling, scorers
from skipml.engines.extension import load_extension
from skipml.engines.kernels import Kernels
from skipml.library import NoExtensionError, find_extension

OPTION = "--scorer"
_ALLOWED = {"allow_unsigned_extensions": "true"}


def add_option(parser: pytest.Parser) -> None:
    """Give pytest the option."""
    choices = ("python", "batches", "kernels", "native")
    parser.addoption(OPTION, choices=choices, default="python", help="what scores rows and bounds scores")


def use(scorer: str, patch: pytest.MonkeyPatch) -> None:
    """Let every connection that is opened from here on score as told; fails where that does not run."""
    if scorer in ("python", "batches"):
        patch.setattr(scorers, "Kernels", no_kernels)
        patch.setattr(compiled, "library", lambda: None)
        if scorer == "batches":
            patch.setattr(pulling, "least_rows", lambda pull: 0)
        return
    try:
        path = find_extension()
        Kernels(path)
        if scorer == "native":
            with duckdb.connect(config=dict(_ALLOWED)) as connection:
                load_extension(connection, path)
            _allow(patch)
    except NoExtensionError as error:
        pytest.exit(str(error), returncode=1)


def no_kernels(path: object) -> Kernels:
    """In place of Kernels: there are none."""
    raise NoExtensionError(f"{path} is not to be used")


def _allow(patch: pytest.MonkeyPatch) -> None:
    plain_connect: Any = duckdb.connect

    def connect(*args: Any, config: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        return plain_connect(*args, config={**_ALLOWED, **(config or {})}, **kwargs)

    patch.setattr(duckdb, "connect", connect)
