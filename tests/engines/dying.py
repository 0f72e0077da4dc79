"""Work that is killed while it is done, for tests of what becomes of it; runs in other processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from skipml.engines.ray_executor import RayExecutor

Moment = Literal["before", "after"]
DOOMED = "doomed"
_LONG = 120.0


@dataclass(frozen=True)
class Dying:
    """A function whose process is killed before or after it first gives a file its name, once for each moment: there is
    a file of that name in the folder then. On a machine that is doomed it gets no further, and says so by a file.
    """

    function: Callable[..., Any]
    folder: Path
    moments: tuple[Moment, ...]
    doomed: str

    def __call__(self, *args: Any) -> Any:
        rename: Any = os.replace

        def killing(*names: Any) -> None:
            if ray.get_runtime_context().get_node_id() == self.doomed:
                (self.folder / DOOMED).touch()
                time.sleep(_LONG)
            self._die("before")
            rename(*names)
            self._die("after")

        system: Any = os
        system.replace = killing
        try:
            return self.function(*args)
        finally:
            system.replace = rename

    def _die(self, moment: Moment) -> None:
        if moment in self.moments:
            try:
                (self.folder / moment).touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


class DyingExecutor(RayExecutor):
    """One whose workers die at these moments, or are on a machine that is doomed."""

    def __init__(self, folder: Path, *moments: Moment, doomed: str = "", retries: int = 5) -> None:
        super().__init__(retries=retries)
        self._made: dict[Any, Dying] = {}
        self._how = folder, moments, doomed

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a task."""
        dying = self._made.setdefault(fn, Dying(fn, *self._how))
        return super().submit(dying, *args, **kwargs)
