"""Faults of disks, clocks and neighbours: a query gives the right rows or an error, a writer leaves no half file."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines.virtual import VirtualFiles
from skipml.identity import identity
from skipml.metadata.loading import load
from skipml.metadata.storage import sidecar_path
from tests.oracle import linear, model
from tests.rewritten import left_over, rows_of

_SQL = "SELECT id FROM '{}' WHERE minus(a, b) > 900"
_EXPECTED = list(range(901, 1000))


def _write(path: Path, first: int = 0) -> None:
    i = np.arange(first, first + 1000)
    pq.write_table(
        pa.table({"id": i, "a": i, "b": np.zeros(1000, np.int64)}), path, row_group_size=100, compression="none"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    _write(tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with skipml.connect(config={"threads": 1}) as connection:
        connection.register_model("minus", model(linear([[1, -1]], [0])))
        yield connection


def _ids(con: skipml.Connection, path: Path) -> list[int]:
    return sorted(row[0] for row in con.execute(_SQL.format(path)).fetchall())


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_short_reads_are_read_on(path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    files = VirtualFiles()
    name = files.add([(str(path), identity(path), [3])])[0]
    whole = files.open(name).read()
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: pread(file, min(size, most), start))
    assert files.open(name).read() == whole
    handle = files.open(name)
    handle.seek(100)
    assert handle.read(2000) == whole[100:2100]


def test_a_file_that_ends_early_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = VirtualFiles()
    handle = files.open(files.add([(str(path), identity(path), [3])])[0])
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: pread(file, size, start)[: max(0, 1000 - start)])
    with pytest.raises(skipml.FileChangedError, match="cut off"):
        handle.read(2000)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("after", range(4))
def test_failing_reads_give_the_rows_or_an_error(
    con: skipml.Connection, path: Path, monkeypatch: pytest.MonkeyPatch, error: int, after: int
) -> None:
    calls = iter(range(10**6))
    pread = os.pread

    def fail(file: int, size: int, start: int) -> bytes:
        if next(calls) >= after:
            raise OSError(error, os.strerror(error))
        return pread(file, size, start)

    monkeypatch.setattr(os, "pread", fail)
    try:
        found = _ids(con, path)
    except (duckdb.Error, skipml.SkipmlError, OSError):
        found = _EXPECTED
    assert found == _EXPECTED
    monkeypatch.undo()
    assert _ids(con, path) == _EXPECTED, "the failure is not remembered"


@pytest.mark.parametrize("place", ["skipml.decisions.decide", "skipml.engines.planner.known_of"])
@pytest.mark.parametrize("error", [ValueError, MemoryError, IndexError])
def test_an_error_while_pruning_is_counted_and_fails_nothing(
    con: skipml.Connection, path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("boom")

    monkeypatch.setattr(place, fail)
    assert _ids(con, path) == _EXPECTED
    assert con.last_report is not None
    assert con.last_report.counters["errors"] == 1
    assert "boom" in str(con.last_report)


def test_a_sidecar_that_cannot_be_read_is_done_without(con: skipml.Connection, path: Path) -> None:
    skipml.enrich(path, ["a", "b"])
    sidecar = Path(sidecar_path(path))
    content = sidecar.read_bytes()
    sidecar.unlink()
    sidecar.symlink_to(sidecar.name)  # ELOOP
    assert _ids(con, path) == _EXPECTED
    sidecar.unlink()
    sidecar.write_bytes(content[: len(content) // 2])
    assert _ids(con, path) == _EXPECTED


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


_WRITERS: dict[str, Callable[[Path], object]] = {
    "sidecar": lambda path: skipml.enrich(path, ["a", "b"], pairs="all", boxes=8),
    "embed": lambda path: skipml.enrich(path, ["a", "b"], pairs="all", boxes=8, embed=True),
    "scores": lambda path: skipml.plan(path, model(linear([[1, -1]], [0])) > 900).scan(store_scores=True).read_all(),
    "cluster": lambda path: skipml.cluster(path, path.with_name("clustered.parquet"), by=["a", "b"]),
}


@pytest.mark.parametrize("writer", _WRITERS)
@pytest.mark.parametrize("size", [0, 200])
def test_a_full_disk_leaves_the_old_state(con: skipml.Connection, path: Path, writer: str, size: int) -> None:
    if writer == "scores":
        skipml.enrich(path, ["a", "b"])
    old, metadata = rows_of(path), load(path).metadata
    # rows_of is what shows that the file is whole; DuckDB may fail in ways of its own before anything is written
    with _full_disk(size), pytest.raises((skipml.SkipmlError, duckdb.Error, OSError)):
        _WRITERS[writer](path)
    assert rows_of(path) == old
    assert (load(path).metadata is None) == (metadata is None)
    assert not left_over(path.parent)
    assert not path.with_name("clustered.parquet").exists()
    assert _ids(con, path) == _EXPECTED


@pytest.mark.parametrize("how", ["rewritten", "replaced", "cut", "removed"])
@pytest.mark.parametrize("moment", ["plan", "first row"])
def test_files_that_change_under_a_query(con: skipml.Connection, path: Path, how: str, moment: str) -> None:
    changes: dict[str, Callable[[], object]] = {
        "rewritten": partial(_write, path, 5000),
        "replaced": partial(os.replace, path.with_suffix(".new"), path),
        "cut": lambda: path.write_bytes(path.read_bytes()[:-5000]),
        "removed": path.unlink,
    }
    _write(path.with_suffix(".new"), 5000)
    relation = con.sql(_SQL.format(path)) if moment == "plan" else None
    if moment == "first row":
        con.execute(f"SELECT id FROM '{path}' WHERE minus(a, b) > 150")
        con.fetchone()
    changes[how]()
    try:
        rows = relation.fetchall() if relation is not None else con.fetchall()
    except (duckdb.Error, skipml.SkipmlError, OSError):
        return
    new, old = set(range(5000, 6000)), set(range(152, 1000))
    assert {row[0] for row in rows} in ([new] if moment == "plan" else [old]), "rows of one state of the file, and all"


@pytest.mark.parametrize("shift", [-(10**18), -(10**10), 10**10, 10**18])
def test_a_clock_that_is_wrong(con: skipml.Connection, path: Path, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    monkeypatch.undo()  # files are as young as they are
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + shift)
    for first in (0, 5000, 0):
        _write(path, first)
        time.sleep(0.01)
        skipml.enrich(path, ["a", "b"], pairs="all")
        assert len(_ids(con, path)) == (99 if first == 0 else 1000)


_NEIGHBOUR = """
import sys, time, skipml
from pathlib import Path
from tests.soundness.test_faults import _write
path, deadline = Path(sys.argv[1]), time.time() + float(sys.argv[2])
i = 0
while time.time() < deadline:
    i += 1
    if i % 3 == 0:
        new = path.with_suffix(f".new{i}")
        _write(new, 0)
        new.replace(path)
    try:
        skipml.enrich(path, ["a", "b"], pairs="all", embed=i % 2 == 0)
    except skipml.SkipmlError:
        pass
"""


def test_another_process_enriches_and_rewrites_meanwhile(con: skipml.Connection, path: Path) -> None:
    """The rows are always the same ones: each query answers with them or says that the file changed."""
    seconds = 3.0
    with subprocess.Popen([sys.executable, "-c", _NEIGHBOUR, str(path), str(seconds)]) as neighbour:
        answered = 0
        while neighbour.poll() is None:
            try:
                assert _ids(con, path) == _EXPECTED
                answered += 1
            except (skipml.FileChangedError, duckdb.IOException, duckdb.InvalidInputException):
                continue
        assert neighbour.returncode == 0
    assert answered > 3
    assert _ids(con, path) == _EXPECTED


def test_two_enrichments_at_once(path: Path, con: skipml.Connection) -> None:
    failures: list[BaseException] = []

    def enrich(boxes: int) -> None:
        for _ in range(5):
            try:
                skipml.enrich(path, ["a", "b"], pairs="all", boxes=boxes)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=enrich, args=(boxes,)) for boxes in (0, 3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, skipml.SkipmlError) for error in failures), failures
    assert load(path).metadata is not None
    assert _ids(con, path) == _EXPECTED
    assert not left_over(path.parent)
