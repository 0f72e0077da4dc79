"""The compiled library: the file of skipml's DuckDB extension, which Python calls as well."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_VARIABLE = "SKIPML_EXTENSION"
_FILE = "skipml.duckdb_extension"
_INTERFACE = 4
"""The number of the functions that are called here, as extension/src/library.c has it."""
_FOOTER, _FOOTER_BYTES = b"C_STRUCT", 534
"""The kind of extension that DuckDB reads in the last bytes of the file."""


class NoExtensionError(Exception):
    """The extension does not run here; the text says why."""


def find_extension() -> Path:
    """The file that SKIPML_EXTENSION names; else that of the checkout, or the one inside the package. Raises
    NoExtensionError.
    """
    named = os.environ.get(_VARIABLE)
    package = Path(__file__).resolve().parent
    places = [Path(named)] if named else [package.parent / "extension/build" / _FILE, package / "native" / _FILE]
    for place in places:
        if place.is_file():
            return place
    if named:
        raise NoExtensionError(f"{_VARIABLE} names {named}, which is not a file")
    raise NoExtensionError("no extension is built: `make extension`")


def open_library(path: str | os.PathLike[str]) -> ctypes.CDLL:
    """The functions in the extension's file; raises NoExtensionError where they cannot be called."""
    name = os.fspath(path)
    try:
        if not _is_whole(name):
            raise NoExtensionError(f"{name} could not be loaded: its end is missing")
        library = ctypes.CDLL(name)
        interface = library.skipml_interface()
    except (OSError, AttributeError) as error:
        raise NoExtensionError(f"{name} could not be loaded: {error}") from error
    if interface != _INTERFACE:
        raise NoExtensionError(f"{name} was built for another version of skipml: `make extension`")
    return library


def _is_whole(path: str) -> bool:
    """Whether a file ends as an extension does: the system's loader would crash on half of one."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _FOOTER_BYTES))
        return _FOOTER in file.read()
