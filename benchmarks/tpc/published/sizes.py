"""What verification costs by the size of the network, beside what PyTorch takes to score the rows of a block."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

import skipml
from benchmarks.tpc.published.workload import BLOCK_ROWS
from skipml.bounds.verifier import Verifier
from skipml.network import Network

Floats = NDArray[np.float64]

WIDTHS = (8, 16, 32, 64, 128, 256)
_INPUTS, _BLOCKS, _RUNS = 3, 100, 5


@dataclass(frozen=True, slots=True)
class Size:
    """Microseconds per block of 1,000 rows for a network of two hidden layers; the fastest of five runs."""

    width: int
    interval: float
    crown: float
    pytorch: float


def sizes(seed: int) -> list[Size]:
    """Random networks of every width over 100 blocks of three inputs, on one thread."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.normal(size=(_BLOCKS, _INPUTS)), rng.random((_BLOCKS, _INPUTS))
    rows = torch.from_numpy(rng.normal(size=(BLOCK_ROWS, _INPUTS)).astype(np.float32))
    torch.manual_seed(seed)
    return [_size(width, centre - radius, centre + radius, rows) for width in WIDTHS]


def _size(width: int, lower: Floats, upper: Floats, rows: torch.Tensor) -> Size:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((_INPUTS, width, width, 1)):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    model = skipml.Model.from_torch(module, columns=[f"x{i}" for i in range(_INPUTS)])
    network = model.function
    assert isinstance(network, Network)
    verifier = Verifier(network)
    with torch.inference_mode():
        return Size(
            width=width,
            interval=_fastest(lambda: verifier.interval(lower, upper)) / _BLOCKS,
            crown=_fastest(lambda: verifier.crown(lower, upper)) / _BLOCKS,
            pytorch=_fastest(lambda: module(rows)),
        )


def _fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(1e6 * min(seconds), 2)


def plot_sizes(found: list[Size], path: Path) -> None:
    """Draw the times of all widths."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    widths = [size.width for size in found]
    for name, label, color in (
        ("pytorch", "PyTorch scores the 1,000 rows", "#999999"),
        ("crown", "CROWN bounds of the block", "#0072b2"),
        ("interval", "interval bounds of the block", "#56b4e9"),
    ):
        axes.plot(widths, [getattr(size, name) for size in found], "o-", color=color, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(widths, [f"3-{width}-{width}-1" for width in widths], fontsize=7)
    axes.set_ylabel("us per block, one thread")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
