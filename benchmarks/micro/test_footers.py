"""How long reading the footers of 10,000 row groups takes: eight columns, of which four are wanted.

OMP_NUM_THREADS=1 pytest benchmarks/micro/test_footers.py --benchmark-enable; `us_each` is the time per row group.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.micro.timing import timed
from skipml.footers import read_footers
from skipml.parquet.footer import read_files

ROW_GROUPS = 10_000
COLUMNS = tuple("abcdefgh")
WANTED = COLUMNS[:4]


def write(folder: Path, n_files: int) -> list[str]:
    """Files of 10,000 row groups together, two rows in each."""
    n_rows = 2 * ROW_GROUPS // n_files
    table = pa.table({name: np.arange(n_rows) * (i + 1) for i, name in enumerate(COLUMNS)})
    paths = [str(folder / f"{i}.parquet") for i in range(n_files)]
    for path in paths:
        pq.write_table(table, path, row_group_size=2)
    return paths


@pytest.mark.parametrize("n_files", [1, 200], ids=["1 file", "200 files"])
def test_read_footers(benchmark: Any, n_files: int, tmp_path: Path) -> None:
    """Read and parsed each time."""
    paths = write(tmp_path, n_files)
    timed(benchmark, ROW_GROUPS, read_files, paths, WANTED)


@pytest.mark.parametrize("n_files", [1, 200], ids=["1 file", "200 files"])
def test_remembered_footers(benchmark: Any, n_files: int, tmp_path: Path) -> None:
    """Of files that were read before and did not change."""
    paths = write(tmp_path, n_files)
    for path in paths:
        os.utime(path, (0, 0))  # a file of the last second is read again
    assert len(read_footers(paths, WANTED)) == ROW_GROUPS
    timed(benchmark, ROW_GROUPS, read_footers, paths, WANTED)
