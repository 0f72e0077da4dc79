"""Many threads on one database, processes that fork, models that come and go while queries run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from tests.oracle import linear, model

THREADS, TURNS = 16, 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for number in range(3):
        i = np.arange(1000) + 1000 * number
        table = pa.table({"id": i, "a": i, "b": np.zeros(1000, np.int64)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=100)
    skipml.enrich(tmp_path / "1.parquet", ["a", "b"], block_rows=20)
    return tmp_path


def _in_threads(work: Callable[[int], None], n: int = THREADS) -> list[str]:
    failures: list[str] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(f"{number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return failures


def test_sixteen_threads_with_cursors(path: Path) -> None:
    with skipml.connect(config={"threads": 2}) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))

        def work(number: int) -> None:
            cursor = con.cursor()
            for turn in range(TURNS):
                limit = 37 * number + 181 * turn
                query = f"SELECT id FROM '{path}/*.parquet' WHERE minus(a, b) > {limit}"
                relation = None if turn % 2 else cursor.sql(query)
                rows = cursor.execute(query).fetchall() if relation is None else relation.fetchall()
                assert sorted(row[0] for row in rows) == list(range(limit + 1, 3000)), limit
                by_parameter = f"SELECT count(*) FROM '{path}/*.parquet' WHERE minus(a, b) > ?"
                assert cursor.execute(by_parameter, [limit]).fetchall() == [(2999 - limit,)]
                first = cursor.execute(
                    f"SELECT id FROM '{path}/*.parquet' ORDER BY minus(a, b) DESC LIMIT 2"
                ).fetchall()
                assert first == [(2999,), (2998,)]

        assert _in_threads(work) == []


def test_models_come_and_go_while_queries_run(path: Path) -> None:
    """A name stands for one model at a time: a query answers with that of before or of after, or finds none."""
    with skipml.connect(config={"threads": 2}) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        stop = threading.Event()
        shifts = [0.0, 1000.0]

        def change() -> None:
            for turn in range(8):
                con.register_model(f"other{turn}", model(linear([[2, 0]], [0])))
                con.remove_function(f"other{turn}")
                con.remove_function("minus")
                con.register_model("minus", model(linear([[1, -1]], [shifts[(turn + 1) % 2]])))

        def work(number: int) -> None:
            if number == 0:
                try:
                    change()
                finally:
                    stop.set()
            cursor = con.cursor()
            while not stop.is_set():
                try:
                    rows = cursor.execute(f"SELECT id FROM '{path}/*.parquet' WHERE minus(a, b) > 2900.5").fetchall()
                except (duckdb.Error, skipml.RegistrationError):
                    continue  # there was no model of that name, or another one when it was planned
                assert sorted(row[0] for row in rows) in [list(range(first, 3000)) for first in (2901, 1901)]

        assert _in_threads(work, 6) == []


def test_forked_workers(path: Path) -> None:
    """A child has its own connections, though threads that it does not have had theirs when it was forked."""
    stop, planned = threading.Event(), threading.Semaphore(0)

    def plan() -> None:
        skipml.plan(path, model(linear([[1, -1]], [0])) > 2500)
        planned.release()
        stop.wait()

    planners = [threading.Thread(target=plan) for _ in range(3)]
    children = []
    try:
        for planner in planners:
            planner.start()
            planned.acquire()
        for number in range(4):
            child = os.fork()
            if child == 0:
                try:
                    found = skipml.plan(path, model(linear([[1, -1]], [0])) > 2900 - number).scan().read_all().num_rows
                    os._exit(0 if found == 99 + number else 1)
                except BaseException:
                    os._exit(2)
            children.append(child)
        codes = [_waited(child) for child in children]
    finally:
        stop.set()
        for planner in planners:
            planner.join()
    assert codes == [0] * 4, "None is a child that hangs"


def _waited(child: int, seconds: float = 30.0) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
