from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skipml.metadata import loading
from skipml.recent import Recent
from tests.metadata.stored import ROWS
from tests.writers import write_pyarrow


@pytest.fixture
def table() -> pa.Table:
    values = np.random.default_rng(0).normal(size=ROWS)
    text = pa.array([None if i % 7 == 0 else f"t{i}" for i in range(ROWS)], pa.string())
    return pa.table({"x": values, "y": np.arange(ROWS) % 97, "t": text})


@pytest.fixture
def path(tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the table; nothing is remembered of it."""
    monkeypatch.setattr(loading, "_cache", Recent(1 << 20, lambda known: known.nbytes))
    write_pyarrow(table, tmp_path / "file.parquet")
    return tmp_path / "file.parquet"
