"""Files with metadata, written and read in one call."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skipml.footers import read_footers
from skipml.metadata.contents import ColumnMetadata, Metadata, PairMetadata
from skipml.metadata.loading import load
from skipml.metadata.storage import embed, write_sidecar
from skipml.metadata.tie import tie
from tests.writers import write_pyarrow

ROWS = 6000


def metadata_for(path: Path, **settings: str) -> Metadata:
    """Metadata of the right shape; what it says of the rows does not matter here."""
    n_rows = read_footers([str(path)], []).n_rows
    n, zero = len(n_rows), np.zeros(len(n_rows), dtype=np.int64)
    column = ColumnMetadata("x", "DOUBLE", np.full(n, -5.0), np.full(n, 5.0), zero, zero)
    hulls = PairMetadata(("x", "y"), np.arange(n * 45, dtype=np.uint8).reshape(n, 45))
    return Metadata(np.arange(n), np.cumsum(n_rows) - n_rows, n_rows, (column,), (hulls,), (), settings)


def write(path: Path, **settings: str) -> Metadata:
    metadata = metadata_for(path, **settings)
    write_sidecar(path, metadata, tie(path))
    return metadata


def put_in(path: Path, **settings: str) -> Metadata:
    metadata = metadata_for(path, **settings)
    embed(path, metadata, tie(path))
    return metadata


def loaded(path: Path, root: Path | None = None) -> Metadata:
    found = load(path, root)
    assert found.metadata is not None, found.reason
    assert found.reason == ""
    assert found.identity == read_footers([str(path)], []).identities[0]
    return found.metadata


def refused(path: Path) -> str:
    found = load(path)
    assert found.metadata is None
    return found.reason


def footer_start(path: Path) -> int:
    return path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[-8:-4], "little")


def rewrite(path: Path) -> None:
    write_pyarrow(pq.read_table(path).slice(0, ROWS // 2), path)


def wait(patch: pytest.MonkeyPatch) -> None:
    """Let time go on until nothing was written a moment ago."""
    now = time.time_ns
    patch.setattr(time, "time_ns", lambda: now() + 10**10)
