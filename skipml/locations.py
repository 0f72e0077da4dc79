"""Names of files that mean the same to a process with another working directory."""

from __future__ import annotations

import os
from collections.abc import Sequence


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path, or a URL as it is."""
    name = os.fspath(path)
    return name if "://" in name else os.path.abspath(name)


def absolute_all(paths: Sequence[str]) -> tuple[str, ...]:
    """Those of several."""
    return tuple(map(absolute, paths))
