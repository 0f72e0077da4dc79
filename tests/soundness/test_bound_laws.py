"""Laws of bounds: every scorer, whatever the batch, computes values inside them; a column more or another order of the
columns changes no decision.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

import skipml
from skipml.bounds.budget import Budget
from skipml.bounds.verifier import Verifier
from skipml.engines.kernels import Kernels
from skipml.library import NoExtensionError, find_extension
from skipml.models import from_torch
from skipml.network import Affine, Network
from tests.oracle import standing_clock

_ROWS, _BOXES, _BATCHES = 210, 15, (1, 7, 210)


def _module(seed: int, dtype: torch.dtype) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(3, 24), torch.nn.ReLU(), torch.nn.Linear(24, 24), torch.nn.LeakyReLU(0.1)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(24, 2)).to(dtype)


def _network(seed: int, dtype: torch.dtype) -> Network:
    network = from_torch(_module(seed, dtype))
    assert isinstance(network, Network)
    return network


def _rows(seed: int) -> NDArray[np.float64]:
    """Rows whose boxes are of very different sizes, far from 0 and near."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(_BOXES, 1, 3)) * 10.0 ** rng.integers(-3, 5, (_BOXES, 1, 1))
    rows = centre + rng.normal(size=(_BOXES, _ROWS // _BOXES, 3)) * 10.0 ** rng.integers(-6, 3, (_BOXES, 1, 1))
    return np.asarray(rows.reshape(-1, 3).astype(np.float32), np.float64)


def _scorers(module: torch.nn.Sequential, network: Network) -> dict[str, object]:
    def by_torch(x: NDArray[np.float64]) -> NDArray[np.floating]:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(x.astype(network.dtype))).numpy())

    found: dict[str, object] = {"numpy": network.forward, "torch": by_torch}
    try:
        kernels = Kernels(find_extension()).load(network)
    except NoExtensionError:
        return found
    return {**found, "kernels": lambda x: kernels.forward_columns([np.ascontiguousarray(c) for c in x.T])}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_every_scorer_and_batch_lie_within_the_bounds(seed: int, dtype: torch.dtype) -> None:
    module = _module(seed, dtype)
    network, rows = _network(seed, dtype), _rows(seed)
    verifier = Verifier(network)
    boxes = rows.reshape(_BOXES, -1, 3)
    lower, upper = boxes.min(axis=1), boxes.max(axis=1)
    bounds = verifier.crown(lower, upper)
    interval = verifier.interval(lower, upper)
    for name, score in _scorers(module, network).items():
        assert callable(score)
        for batch in _BATCHES:
            values = np.concatenate([score(rows[i : i + batch]) for i in range(0, _ROWS, batch)])
            for low, high in ((bounds.lower, bounds.upper), interval):
                of_boxes = values.reshape(_BOXES, -1, 2)
                assert (of_boxes >= low[:, None]).all(), (name, batch)
                assert (of_boxes <= high[:, None]).all(), (name, batch)


@pytest.mark.parametrize("seed", range(4))
def test_a_smaller_region_has_no_looser_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verifier = Verifier(_network(seed, torch.float32))
    lower = rng.normal(size=(200, 3))
    upper = lower + rng.random((200, 3)) * 4
    inner = np.sort(lower + rng.random((2, 200, 3)) * (upper - lower), axis=0)
    low, high = verifier.interval(lower, upper)
    inner_low, inner_high = verifier.interval(*inner)
    assert (inner_low >= low).all()
    assert (inner_high <= high).all()


def test_other_columns_and_their_order_change_nothing(tmp_path: Path) -> None:
    """Columns that the model does not read, their order in the file, and a column that feeds two inputs."""
    rng = np.random.default_rng(1)
    table = pa.table({name: np.sort(rng.normal(size=600)) for name in "abc"})
    weight = rng.normal(size=(1, 3)).astype(np.float32)
    bias = np.zeros(1, np.float32)
    plain = skipml.Model(Network(3, 1, np.dtype(np.float32), (Affine(weight, bias),)), ("a", "b", "c"))
    turned = skipml.Model(
        Network(3, 1, np.dtype(np.float32), (Affine(np.ascontiguousarray(weight[:, ::-1]), bias),)), ("c", "b", "a")
    )
    split = np.concatenate([weight / 2, weight[:, :1] / 2 - weight[:, :1] + weight[:, :1], weight[:, 1:] / 2], axis=1)
    twice = skipml.Model(Network(6, 1, np.dtype(np.float32), (Affine(split, bias),)), ("a", "b", "c", "a", "b", "c"))
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    pq.write_table(table, one, row_group_size=30)
    pq.write_table(table.append_column("d", table["a"]).select(["d", "c", "a", "b"]), other, row_group_size=30)
    scores = plain.evaluate(table)
    with standing_clock():
        for share in (0.1, 0.5, 0.9):
            limit = float(np.quantile(scores, share)) + 1e-4
            decisions = [
                skipml.plan(path, model < limit, budget=Budget.unlimited(64)).decisions
                for path, model in ((one, plain), (other, plain), (one, turned), (one, twice))
            ]
            for found in decisions[1:]:
                assert (found == decisions[0]).all()
            assert (decisions[0] == skipml.SKIP).any()
