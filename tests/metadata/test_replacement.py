from __future__ import annotations

import fcntl
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipml.metadata.contents import Metadata
from skipml.metadata.loading import load
from skipml.metadata.storage import write_sidecar
from skipml.metadata.tie import tie
from tests.metadata.stored import footer_start, loaded, metadata_for, put_in, write


def test_leftovers_of_dead_writers_are_removed_and_those_of_live_ones_stay(path: Path) -> None:
    directory = path.parent
    dead, live, foreign = (
        directory / name for name in (".skipml-dead.tmp", ".skipml-live.tmp", ".skipml-dead.parquet")
    )
    for file in (dead, live, foreign):
        file.write_bytes(b"half")
    with live.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        write(path)
        assert not dead.exists()
        assert live.exists()
    put_in(path)
    assert not live.exists()
    assert foreign.exists()


def test_a_new_file_that_was_taken_for_a_leftover_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    mkstemp = tempfile.mkstemp

    def make_and_lose(*args: Any) -> tuple[int, str]:
        descriptor, name = mkstemp(*args)
        made.append(name)
        if len(made) == 1:
            os.unlink(name)
        return descriptor, name

    monkeypatch.setattr(tempfile, "mkstemp", make_and_lose)
    write(path)
    loaded(path)
    assert len(made) == 2


def test_writers_at_once_do_not_mix(path: Path) -> None:
    state, metadata = tie(path), metadata_for(path)
    stop = threading.Event()
    failures: list[str] = []

    def write_often(turn: int) -> None:
        while not stop.is_set():
            write_sidecar(path, replace(metadata, settings={"turn": "x" * turn * 2000}), state)

    write(path)
    writers = [threading.Thread(target=write_often, args=(turn,)) for turn in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(100):
        found = load(path)
        if found.metadata is None:
            failures.append(found.reason)
    stop.set()
    for writer in writers:
        writer.join()
    assert not failures
    assert sorted(os.listdir(path.parent)) == ["file.parquet", "file.parquet.skipml"]


@pytest.mark.parametrize("put", ["write", "put_in"])
def test_writers_killed_at_any_moment(path: Path, table: pa.Table, put: str) -> None:
    imports = "from tests.metadata import stored, test_replacement as here"
    script = f"{imports}; here.kill_writers({str(path)!r}, stored.{put}, kills=12)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(path).to_pydict() == table.to_pydict()


def kill_writers(name: str, put: Callable[..., Metadata], kills: int) -> None:
    """Runs in a process of its own, which has no threads, so that it can fork."""
    path, moments = Path(name), random.Random(0)
    pages = path.read_bytes()[: footer_start(path)]
    put(path, turn="first")
    names = sorted(os.listdir(path.parent))
    for turn in range(kills):
        child = start_writer(path, put, turn)
        time.sleep(moments.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the writer failed by itself"
        assert loaded(path).settings["turn"].startswith(f"{turn} ")
        assert path.read_bytes()[: footer_start(path)] == pages
        found = [file for file in os.listdir(path.parent) if not file.startswith(".skipml-")]
        assert sorted(found) == names
    put(path, turn="last")
    assert sorted(os.listdir(path.parent)) == names


def start_writer(path: Path, put: Callable[..., Metadata], turn: int) -> int:
    """A process that has written once and goes on writing."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            for i in itertools.count():
                put(path, turn=f"{turn} {i}", padding="x" * (i % 3 * 20_000))
                os.write(writing, b"." * (not i))
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1), "the writer failed by itself"
    os.close(reading)
    return child
