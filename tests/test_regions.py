from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skipml.footers import read_footers
from skipml.regions import from_footers
from tests.writers import write_pyarrow


def test_from_footers(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    columns = {"i": [1, 5, None, 7, None, None], "f": [0.5, 1.5, 2.5, 2.5, -1.0, -2.0], "t": ["a"] * 6}
    write_pyarrow(pa.table(columns), path, 2)
    footers = read_footers([str(path)], ["i", "f", "t", "gone"])
    regions = from_footers(footers, ["f", "i", "t", "gone", "i"])
    assert regions.columns == ("f", "i", "t", "gone", "i")
    assert len(regions) == 3
    assert regions.block.tolist() == [0, 1, 2]
    assert regions.n_rows.tolist() == [2, 2, 2]
    inf = np.inf
    assert regions.lower[:, :2].tolist() == [[0.5, 1], [2.5, 7], [-2, -inf]]
    assert regions.upper[:, :2].tolist() == [[1.5, 5], [2.5, 7], [-1, inf]]
    assert np.isneginf(regions.lower[:, 2:4]).all()
    assert regions.unknown.tolist() == [[False, False, True, True, False]] * 3
    assert regions.all_null.tolist() == [[False, block == 2, False, False, block == 2] for block in range(3)]
    assert regions.may_be_null.tolist() == [[False, block > 0, True, True, block > 0] for block in range(3)]
    assert regions.may_be_nan.tolist() == [[True, False, True, True, False]] * 3, "pyarrow counts no NaN"
    with pytest.raises(KeyError):
        from_footers(footers, ["other"])


def test_no_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(b"nothing")
    regions = from_footers(read_footers([str(path)], ["i"]), ["i"])
    assert len(regions) == 0
    assert regions.lower.shape == regions.unknown.shape == (0, 1)
