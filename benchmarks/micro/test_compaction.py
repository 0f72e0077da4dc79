"""How long deciding a block takes with a network as it is and without what gives nothing over the blocks.

OMP_NUM_THREADS=1 pytest benchmarks/micro/test_compaction.py --benchmark-enable; `us_each` is the time per block,
`weights` the share of them that is left. Sparse networks have the smallest 90 % of each layer's weights set to 0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.micro.test_bounds import Above, Blocks, blocks, trained_like
from benchmarks.micro.timing import timed
from skipml.bounds.bounder import Bounder
from skipml.bounds.branch import Budget, branch_and_bound
from skipml.bounds.compaction import compacted, narrowed, reduced
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Op

Floats = NDArray[np.float64]

_N, _SPARSE = 1000, 0.9
_STEPS, _ROWS, _RATE = 2000, 256, 3e-3


def pruned(network: Network, share: float = _SPARSE) -> Network:
    """The same without that share of each layer's weights, the smallest."""
    ops: list[Op] = []
    for op in network.ops:
        if isinstance(op, Affine):
            least = np.quantile(np.abs(op.weight), share)
            ops.append(replace(op, weight=np.where(np.abs(op.weight) < least, 0, op.weight).astype(op.weight.dtype)))
        else:
            ops.append(op)
    return Network(network.n_inputs, network.n_outputs, network.dtype, tuple(ops))


@cache
def trained() -> Network:
    """What a line of TPC-H's lineitem is charged: quantity, price and discount, uniform as dbgen draws them, learnt by
    a 3-32-32-1 network on inputs that are scaled to [0, 1].
    """
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layers = [torch.nn.Linear(3, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)]
    module = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(module.parameters(), _RATE)
    for _ in range(_STEPS):
        x = torch.as_tensor(rng.random((_ROWS, 3)), dtype=torch.float32)
        wanted = x[:, :1] * (0.02 + 0.98 * x[:, 1:2]) * (1 - 0.1 * x[:, 2:])
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x), wanted).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
    ops: list[Op] = []
    for layer in found:
        ops += [Affine(layer.weight.detach().numpy(), layer.bias.detach().numpy()), LeakyRelu(0.0)]
    return Network(3, 1, np.dtype(np.float32), tuple(ops[:-1]))


def _of_lineitem(share: float) -> Blocks:
    """Blocks of a table of which all columns cover a share of what the network was trained on."""
    rng = np.random.default_rng(1)
    centre, radius = (0.5 + (rng.random((_N, 3)) - 0.5) * share, 0.1 * rng.random((_N, 3)) * share)
    return Blocks(centre - radius, centre + radius, np.arange(_N), np.full(_N, 10_000))


def needed_by_a_tenth(network: Network, parts: Blocks) -> float:
    """A limit that the highest of some scores of each block is above in a tenth of them."""
    share = np.random.default_rng(2).random((200, *parts.lower.shape))
    rows = (parts.lower + share * (parts.upper - parts.lower)).reshape(-1, network.n_inputs)
    return float(np.percentile(network.forward(rows).reshape(200, -1).max(axis=0), 90))


def _cases() -> dict[str, tuple[Any, Blocks]]:
    around = blocks(_N, 4, 1.0)
    return {
        "random 4-64-64-1": (lambda: trained_like((4, 64, 64, 1)), around),
        "random 4-64-64-1, sparse": (lambda: pruned(trained_like((4, 64, 64, 1))), around),
        "random 8-128-128-1, sparse": (lambda: pruned(trained_like((8, 128, 128, 1))), blocks(_N, 8, 1.0)),
        "trained 3-32-32-1": (trained, _of_lineitem(1.0)),
        "trained 3-32-32-1, a quarter of each column": (trained, _of_lineitem(0.25)),
        "trained 3-32-32-1, sparse": (lambda: pruned(trained()), _of_lineitem(1.0)),
    }


_CASES = _cases()


@pytest.mark.parametrize("how", ["whole", "compacted"])
@pytest.mark.parametrize("case", _CASES)
def test_decisions(benchmark: Any, case: str, how: str) -> None:
    """1,000 blocks; the limit is what the highest of 200 scores in a block is above in a tenth of them."""
    make, parts = _CASES[case]
    network = make()
    whole: Bounder = Verifier(network)
    verifier = reduced(whole, parts) if how == "compacted" else whole
    limit = needed_by_a_tenth(network, parts)
    timed(benchmark, _N, branch_and_bound, verifier, parts, Above(limit), Budget(cost_per_row=150e-9))
    for found in narrowed(whole, verifier):
        benchmark.extra_info["weights"] = round(found.weights / found.weights_before, 3)


@pytest.mark.parametrize("shape", [(4, 64, 64, 1), (8, 128, 128, 1)], ids=str)
def test_compacting(benchmark: Any, shape: tuple[int, ...]) -> None:
    """What is spent on it once per network and table."""
    parts = blocks(_N, shape[0], 1.0)
    domain = parts.lower.min(axis=0), parts.upper.max(axis=0)
    timed(benchmark, 1, compacted, trained_like(shape), *domain)
