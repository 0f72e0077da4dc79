"""Atomic replacement: a file is written beside its target, synchronised, and renamed over it.

Whatever happens at any moment, the target is its old state or the new one. A temporary file is named
`.skipml-<random>.tmp` and locked as long as its writer lives, so two writers never share one; the next writer in the
directory removes those that nobody holds any more. Where locks do not work, they stay.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_PREFIX, _SUFFIX = ".skipml-", ".tmp"


@contextmanager
def temporary(directory: str) -> Iterator[tuple[str, BinaryIO]]:
    """A new file in the directory and its name, gone at the end of the block unless it was published.

    Removes what killed writers left there. Raises OSError.
    """
    _remove_leftovers(directory)
    descriptor, name = _create(directory)
    try:
        with open(descriptor, "wb") as file:
            yield name, file
    finally:
        with suppress(FileNotFoundError):  # published
            os.unlink(name)


def synchronise(file: BinaryIO, mode: int) -> None:
    """Bring what was written to the disk, under the given permissions; raises OSError."""
    file.flush()
    os.fchmod(file.fileno(), mode & 0o7777)
    os.fsync(file.fileno())


def publish(name: str, target: str) -> None:
    """Let a synchronised temporary file take the place of its target; raises OSError."""
    os.replace(name, target)
    descriptor = os.open(os.path.dirname(target) or os.curdir, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(directory: str) -> tuple[int, str]:
    """A new file that only its owner may read until its permissions are known, locked."""
    while True:
        descriptor, name = tempfile.mkstemp(_SUFFIX, _PREFIX, directory)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # removed as a leftover before it was locked


def _remove_leftovers(directory: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            with suppress(OSError):  # held by its writer, gone by now, or not ours to remove
                _remove_unheld(os.path.join(directory, name))


def _remove_unheld(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)
