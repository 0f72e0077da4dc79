"""New files beside old ones: a folder for what is temporary, and a name for what is finished.

A crash at any moment leaves the old file or the new one under the name, and a folder that the next run removes.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from skipml.errors import EnrichmentError
from skipml.metadata import replacement


@contextmanager
def workspace(target: str) -> Iterator[str]:
    """A folder beside the target for everything temporary, removed in the end; those of dead processes go first.

    A living process holds a lock in its folder. Raises EnrichmentError where the folder cannot be made.
    """
    folder, name = os.path.split(target)
    prefix = f".{name}.skipml-"
    try:
        for old in glob.glob(os.path.join(glob.escape(folder), glob.escape(prefix) + "*")):
            _remove_dead(old)
        made, lock = _make_locked(folder, prefix)
    except OSError as error:
        raise EnrichmentError(
            f"cannot write '{target}': {error.strerror or error}; choose a folder that exists and can be written"
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _make_locked(folder: str, prefix: str) -> tuple[str, int]:
    while True:
        made = tempfile.mkdtemp(prefix=prefix, dir=folder)
        lock = _open_lock(made)
        if lock is not None:
            with suppress(OSError):  # where locks do not work, folders of dead processes stay
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(made):
                return made, lock
            os.close(lock)  # another process took the new folder for a dead one's


def _open_lock(folder: str) -> int | None:
    try:
        return os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None


def _remove_dead(folder: str) -> None:
    lock = _open_lock(folder)
    if lock is None:
        return
    try:
        with suppress(OSError):  # its process is alive
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def publish(path: str, target: str) -> None:
    """Give a finished file on the target's file system its name, with the permissions of the file it replaces; raises
    OSError.
    """
    if os.path.exists(target):
        shutil.copymode(target, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    replacement.publish(path, target)
