"""The table that is asked, on an S3 server, and the model that is asked of it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

import skipml
from benchmarks.remote.server import make_bucket, s3_options
from benchmarks.tpc.data import ROOT

FILES, GROUPS, GROUP_ROWS = 12, 32, 16_384
COLUMNS = ("amount", "age", "hour")
PAYLOAD = 3
SELECTIVITY = 1e-3


@dataclass(frozen=True)
class Lake:
    """A table in a bucket, the process that serves it, and the threshold that a thousandth of the scores pass."""

    url: str
    glob: str
    model: skipml.Model
    threshold: float
    rows: int
    options: dict[str, Any]

    def counts(self) -> dict[str, int]:
        """Requests and bytes that were sent since the last call."""
        with urllib.request.urlopen(f"{self.url}/counts") as answer:
            found: dict[str, int] = json.load(answer)
        return found


def charge() -> skipml.Model:
    """A network of 3-32-32-1 with fixed random weights."""
    torch.manual_seed(7)
    layers = [torch.nn.Linear(3, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)]
    return skipml.Model.from_torch(torch.nn.Sequential(*layers), columns=list(COLUMNS))


def table(rng: np.random.Generator) -> pa.Table:
    """Rows clustered by the model's columns, as `skipml.cluster` leaves them, with other columns beside them."""
    n = FILES * GROUPS * GROUP_ROWS
    inputs = rng.random((n, 3)).astype(np.float64)
    order = np.argsort(_morton(inputs), kind="stable")
    columns = {name: inputs[order, i] for i, name in enumerate(COLUMNS)}
    payload = {f"payload{i}": rng.integers(0, 1 << 40, n) for i in range(PAYLOAD)}
    return pa.table({"id": np.arange(n), **columns, **payload})


def _morton(inputs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of points of the unit cube on a Z-order curve."""
    cells = (inputs * 32).astype(np.int64)
    code = np.zeros(len(inputs), np.int64)
    for bit in range(5):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


@contextmanager
def served(latency: float) -> Iterator[Lake]:
    """The table on a server of its own process, enriched, with seconds of latency per request."""
    command = [sys.executable, "-m", "benchmarks.remote.server", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield _filled(server.stdout.readline().strip())
        finally:
            server.stdin.close()


def _filled(url: str) -> Lake:
    filesystem = make_bucket(url, "lake")
    rows, model = table(np.random.default_rng(0)), charge()
    per_file = GROUPS * GROUP_ROWS
    for i in range(FILES):
        sink = io.BytesIO()
        pq.write_table(rows.slice(i * per_file, per_file), sink, row_group_size=GROUP_ROWS)
        filesystem.pipe_file(f"lake/part{i:03}.parquet", sink.getvalue())
    glob = "s3://lake/*.parquet"
    skipml.enrich(glob, list(COLUMNS), filesystem=filesystem)
    scores = model.evaluate(rows.select(COLUMNS))[:, 0]
    threshold = float(np.quantile(scores, 1 - SELECTIVITY))
    return Lake(url, glob, model, threshold, rows.num_rows, s3_options(url))
