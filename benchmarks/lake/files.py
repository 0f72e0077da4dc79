"""A lake of many small files in the order of time, and the model that filters it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tpc.data import DATA
from skipml.network import Affine, LeakyRelu, Network
from skipml.scores import Model

COLUMNS = ("hour", "amount", "age")
ROW_GROUPS, ROWS_PER_GROUP = 20, 4096
"""Of a file. Runs of equal values keep it small; planning sees their limits and their number alone."""
_RUNS = 8
MOST_FILES = 10_000


def lake(n_files: int) -> list[str]:
    """The paths of so many of the files, evenly spread; those that are not there are written."""
    folder = DATA / "lake"
    numbers = [i * MOST_FILES // n_files for i in range(n_files)]
    for i in numbers:
        path = _path(folder, i)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            pq.write_table(_rows(i), temporary, row_group_size=ROWS_PER_GROUP, compression="none")
            temporary.rename(path)
    return [str(_path(folder, i)) for i in numbers]


def model() -> Model:
    """A ReLU network of 3-16-16-1, random, whose largest scores lie at one end of each column."""
    rng = np.random.default_rng(0)
    scale = np.array([1e-4, 1e-4, 2e-2], np.float32)
    layers = []
    for rows, columns in ((16, 3), (16, 16), (1, 16)):
        weights = np.abs(rng.standard_normal((rows, columns))).astype(np.float32) / np.float32(columns)
        layers.append(
            Affine(weights * scale if columns == 3 else weights, rng.standard_normal(rows).astype(np.float32))
        )
    steps = (layers[0], LeakyRelu(0.0), layers[1], LeakyRelu(0.0), layers[2])
    return Model(Network(3, 1, np.dtype(np.float32), steps), COLUMNS)


def _path(folder: Path, i: int) -> Path:
    return folder / f"{i // 1000:03d}" / f"{i:06d}.parquet"


def _rows(i: int) -> pa.Table:
    """Those of one file: an hour each, amounts and ages that wander."""
    rng = np.random.default_rng(i)
    wandering = 5_000 + 4_000 * np.sin(i / 300)
    distinct = {
        "hour": i + np.arange(ROW_GROUPS * _RUNS) // (10 * _RUNS),
        "amount": rng.normal(wandering, 300, ROW_GROUPS * _RUNS),
        "age": rng.integers(18, 90, ROW_GROUPS * _RUNS),
    }
    length = ROWS_PER_GROUP // _RUNS
    return pa.table({name: np.repeat(values.astype(np.int32), length) for name, values in distinct.items()})
