"""The published workload is what it says: its filters, its baselines, and its check of every decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

import skipml
from benchmarks.tpc.published import endtoend, measure, workload
from benchmarks.tpc.published.filters import class_filters, range_filters
from benchmarks.tpc.published.hulls import all_pairs, grid_corners
from benchmarks.tpc.published.measure import CEILING, Network, figures
from benchmarks.tpc.published.methods import METHODS
from benchmarks.tpc.published.summary import Results
from benchmarks.tpc.published.workload import Function, functions

Floats = NDArray[np.float64]

_FUNCTION = Function("tpch", "t", "difference", "a - b", ("CAST(a AS DOUBLE)", "CAST(b AS DOUBLE)"), 0)
_SOME = tuple(
    m for m in METHODS if m.name in ("min-max, complete", "grid hull, complete", "hull 13 B", "score map 32 B")
)


def test_the_workload_has_the_published_functions() -> None:
    every = [f for suite in ("tpch", "tpcds") for f in functions(suite)]
    assert sum(not f.classes for f in every) == 10
    assert len({f.name for f in every}) == len(every)
    assert [*every[0].columns] == ["c_acctbal", "c_nationkey"]
    assert "epoch_l_shipdate" in [name for f in every for name in f.columns]


def test_filters_are_those_of_the_protocol() -> None:
    scores = np.arange(3000.0)
    found = range_filters(scores, np.array([0.0, 16.0]))
    widths = sorted({f.upper - f.lower for f in found})
    assert widths == [2.0, 4.0, 8.0, 16.0]
    assert sum(f.upper - f.lower == 2 for f in found) == 10
    assert sum(f.upper - f.lower == 16 for f in found) == 1
    two = next(f for f in found if f.upper - f.lower == 2)
    assert two.matches.tolist() == [3, 0, 0]
    assert (two.selectivity, two.bin) == (0.1, 0.1)
    assert two.skippable.tolist() == [False, True, True]


def test_a_row_without_a_score_qualifies_nowhere() -> None:
    scores = np.where(np.arange(2000) % 2, np.nan, 1.0)
    assert all(f.matches.sum() in (0, 1000) for f in range_filters(scores, np.array([0.0, 4.0])))
    assert [f.matches.tolist() for f in class_filters(np.array([0, 1, -1, 1]), 2)] == [[1], [2]]


def diagonal(n: int = 3000) -> Floats:
    """Rows along the diagonal, in blocks that go up it."""
    rng = np.random.default_rng(0)
    a = np.round(np.sort(rng.random(n)) * 1000, 2)
    return np.stack([a, np.round(a + rng.normal(size=n), 2)], axis=1)


def test_hulls_hold_their_rows() -> None:
    blocks = np.split(diagonal(), 3)
    for corners in (grid_corners, lambda unit: unit):
        (hull,), n_bytes = all_pairs(blocks, corners)
        assert n_bytes >= 5
        for i, block in enumerate(blocks):
            unit = (block - hull.lower[i]) / (hull.upper[i] - hull.lower[i])
            assert (unit @ hull.normal[i].T <= hull.offset[i]).all()
            empty_corner = np.array([0.0, 1.0])
            assert (empty_corner @ hull.normal[i].T > hull.offset[i]).any()


@pytest.fixture
def net(tmp_path: Path) -> Network:
    """A - b, whose small values a polygon sees and min-max does not."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    with torch.no_grad():
        for layer, weight in ((module[0], [[1.0, -1.0], [-1.0, 1.0]]), (module[2], [[1.0, -1.0]])):
            layer.weight.copy_(torch.tensor(weight))  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]
    inputs = diagonal()
    path = tmp_path / "t.parquet"
    table = pa.table({"a": inputs[:, 0], "b": inputs[:, 1]})
    pq.write_table(table, path, row_group_size=workload.BLOCK_ROWS)
    with torch.inference_mode():
        scores = module(torch.from_numpy(inputs.astype(np.float32))).numpy().astype(np.float64)
    model = skipml.Model.from_torch(module, columns=["a", "b"])
    filters = range_filters(scores[:, 0], np.array([0.0, 64.0]))
    return Network(_FUNCTION, "shallow", model, path, inputs, scores, filters)


def test_figures_say_what_was_skipped(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "METHODS", _SOME)
    found = Results(tuple(figures(net)), ())
    first = {
        name: found.mean("effectiveness", name, budget, 0.1)
        for name, budget in (
            ("min-max, complete", "complete"),
            ("grid hull, complete", "complete"),
            ("hull 13 B", "half"),
            ("score map 32 B", "half"),
            (CEILING, "complete"),
        )
    }
    assert first["min-max, complete"] == 0
    assert 20 < first["grid hull, complete"] < first["hull 13 B"] <= first[CEILING] <= first["score map 32 B"] == 100
    assert 13 <= found.mean("bytes_per_block", "hull 13 B", "half", 0.1) < 30  # 3 blocks share the names of the columns
    again = Results(tuple(figures(net)), ())
    assert [f.effectiveness for f in again.figures] == [f.effectiveness for f in found.figures]


def test_a_wrong_decision_ends_the_run(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "METHODS", _SOME[-1:])
    for f in net.filters:
        f.matches[:] = 1
    with pytest.raises(AssertionError, match="wrong decision"):
        list(figures(net))


@pytest.mark.skipif(duckdb.__version__ < "2", reason="row groups are read by their number")
def test_end_to_end_compares_rows(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, -1.0]]))  # type: ignore[operator]
        module[0].bias.zero_()  # type: ignore[operator]
    monkeypatch.setattr(endtoend, "read_rows", lambda function: (None, None))
    monkeypatch.setattr(endtoend, "trained", lambda *_: module)
    found = endtoend.timings(net, 0)
    by_system = {t.system: t for t in found}
    assert set(by_system) == {endtoend.BASELINE, *endtoend.NAMES}
    assert by_system[endtoend.BASELINE].blocks_left == 1
    assert by_system["score map 256 B"].blocks_left < by_system["min-max"].blocks_left <= 1
    assert all(t.seconds >= t.planning > 0 for t in by_system.values() if t.system != endtoend.BASELINE)
    with torch.no_grad():
        module[0].bias.fill_(40.0)  # type: ignore[operator]
    wrong: Any = endtoend.timings(net, 0)
    with pytest.raises(AssertionError, match="other rows than PyTorch"):
        list(wrong)
