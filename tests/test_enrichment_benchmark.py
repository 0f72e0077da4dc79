"""The enrichment benchmark measures what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks.enrichment import __main__ as enrichment
from benchmarks.enrichment import hulls
from benchmarks.enrichment.case import Case, Measured, measure
from skipml.metadata import hulls as stored

TRIANGLE = np.array([[0.0, 0.0], [16.0, 0.0], [0.0, 16.0]])


def test_the_excess_is_relative_to_the_free_area() -> None:
    found = hulls.measure("x", TRIANGLE)
    assert found is not None
    one_cell_at_each_corner = 1 - 15**2 / 16**2 / 2
    assert found.excess[hulls.GRID_NAME] == pytest.approx((one_cell_at_each_corner - 0.5) / 0.5)
    assert all(0 <= found.excess[f"{size} bytes"] < 1e-3 for size in stored.SIZES)
    assert found.outside == 0


@pytest.mark.parametrize(
    "points", [np.ones((3, 2)), np.array([[0.0, 1.0], [1.0, 1.0]]), np.indices((2, 2)).reshape(2, -1).T]
)
def test_pairs_without_anything_to_cut_off_do_not_count(points: NDArray[np.float64]) -> None:
    assert hulls.measure("x", points.astype(np.float64)) is None


def test_rows_outside_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    build = stored.build
    monkeypatch.setattr(stored, "build", lambda points, *rest: build(points[:3], *rest))
    found = hulls.measure("x", np.array([*TRIANGLE, [15.0, 15.0], [1.0, 1.0]]))
    assert found is not None
    assert found.outside == len(stored.SIZES), "the rest of build's points are within its hull"


def test_a_case_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, root = tmp_path / "x.parquet", tmp_path / "root"
    pq.write_table(pa.table({name: rng.random(1000) for name in "abc"}), path, row_group_size=100)
    case = Case(str(path), str(root), {"pairs": "all"}, repeat=2)
    found = measure(case)
    assert (found.rows, found.row_groups, found.pairs, len(found.wall_seconds)) == (1000, 10, 3, 2)
    assert found.sidecar_bytes > 10 * 3 * 45
    assert found.decode_seconds > 0
    assert measure(Case(str(path), str(root), {"pairs": "all"}, enriched=True)).sidecar_bytes == found.sidecar_bytes


def test_hulls_are_charged_what_they_take_beyond_the_limits(tmp_path: Path) -> None:
    ten_rows = Measured(
        [3.0, 2.0], [1.5, 1.0], 0.5, 0.0, rows=10, row_groups=1, pairs=2, sidecar_bytes=1, peak_growth_bytes=0
    )
    slower = replace(ten_rows, cpu_seconds=[5.0, 4.0], wall_seconds=[4.0])
    planned = enrichment.cases(tmp_path / "x", tmp_path / "y", "", repeat=1)
    measured = {name: slower if case.settings["pairs"] == "all" else ten_rows for name, case in planned.items()}
    found = enrichment.summary(measured)
    assert set(found["rows_per_second_and_core"].values()) == {10}
    assert set(found["decoding_alone"].values()) == {20}
    assert found["ns_per_row_and_pair"] == {str(size): 1e9 * 3 / 20 for size in stored.SIZES}
    assert set(found["times_as_fast_on_2_threads"].values()) == {1.0}
    assert not found["targets_met"]
