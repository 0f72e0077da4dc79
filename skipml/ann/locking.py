"""One writer at a time: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from skipml.errors import ConflictError

_NAME = "lock"


@contextmanager
def writer_lock(folder: str) -> Iterator[None]:
    """Be the only writer of an index; raises ConflictError where there is one already."""
    descriptor = os.open(os.path.join(folder, _NAME), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(f"another process is writing to '{folder}'; try again when it has ended") from error
        yield
    finally:
        os.close(descriptor)
