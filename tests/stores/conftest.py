"""Stores that live in this process: fsspec's memory, an S3 server and a web server on the loopback interface."""

from __future__ import annotations

import io
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.remote.server import SlowServer, make_bucket, s3_application, s3_options, serving

GROUP, GROUPS = 100, 8


def rows(first: int = 0, groups: int = GROUPS) -> pa.Table:
    """`a` and `id` rise from row to row."""
    i = np.arange(first, first + groups * GROUP)
    return pa.table({"id": i, "a": i, "b": i * 7 % 100})


def parquet(table: pa.Table, group: int = GROUP) -> bytes:
    """A Parquet file of the rows."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group)
    return sink.getvalue()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, the server that has it, and how to reach it."""

    server: SlowServer
    url: str
    options: dict[str, Any]
    filesystem: Any

    def put(self, name: str, data: bytes) -> str:
        """A file by its name, and its URL."""
        self.filesystem.pipe_file(f"{self.url}/{name}", data)
        return f"{self.url}/{name}"


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[SlowServer, str]]:
    with serving(s3_application()) as (server, url):
        yield server, url


_names = itertools.count()


@pytest.fixture
def bucket(s3: tuple[SlowServer, str]) -> Iterator[Bucket]:
    server, url = s3
    name = f"bucket{next(_names)}"
    server.latency = 0.0
    yield Bucket(server, f"s3://{name}", s3_options(url), make_bucket(url, name))
    server.faults.clear()


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of an empty folder in fsspec's memory."""
    name = f"/{uuid.uuid4().hex}"
    yield f"memory://{name}"
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(name):
        filesystem.rm(name, recursive=True)
