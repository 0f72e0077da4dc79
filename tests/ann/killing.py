"""Kills a process that works on an index at one step after another: each works on its own copy.

usage: python -m tests.ann.killing FOLDER COPIES ACTION STEP...

Every call that renames, removes or synchronises a file is a step. Imports are done once, in the process that forks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skipml import VectorIndex
from tests.ann.brute import clustered, table_of

ACTIONS: dict[str, Callable[[str], Any]] = {
    "build": lambda path: VectorIndex.build(f"{Path(path).parent}/source.parquet", column="v", path=path),
    "append": lambda path: VectorIndex.open(path).append(table_of(clustered(30, 40, 5), id=pa.array(np.arange(30)))),
    "delete": lambda path: VectorIndex.open(path).delete([1, 2, 3]),
    "compact": lambda path: VectorIndex.open(path).compact(),
}


def killed_at(folder: Path, copies: Path, action: str, steps: Sequence[int]) -> list[tuple[Path, bool]]:
    """The copies that were worked on, and whether the process was killed before it was done."""
    command = [sys.executable, "-m", "tests.ann.killing", str(folder), str(copies), action, *map(str, steps)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    statuses = printed.split()
    assert set(statuses) <= {"0", "9"}
    return [(copies / str(step), status == "9") for step, status in zip(steps, statuses, strict=True)]


def _work(path: str, action: str, step: int) -> None:
    done = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("replace", "fsync", "unlink", "rename", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    ACTIONS[action](path)


def _main(folder: str, copies: str, action: str, *steps: str) -> None:
    for step in steps:
        path = os.path.join(copies, step)
        if os.path.isdir(folder):
            shutil.copytree(folder, path)
        child = os.fork()
        if not child:
            _work(path, action, int(step))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{status}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
