"""Trains the networks of the published protocol: 120 epochs of Adam on 2,000 rows, the scaling folded in."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.tpc.data import DATA
from benchmarks.tpc.published.blocks import Rows
from benchmarks.tpc.published.workload import HIDDEN, Function

Floats = NDArray[np.float64]

_EPOCHS = 120
_BATCH_ROWS = 512
_LEARNING_RATE = 0.01
_TRAIN_SHARE = 0.8


def network(function: Function, depth: str) -> nn.Sequential:
    """Linear and ReLU layers [n, d] -> [n, 1], or [n, classes]; `depth` is shallow or deep."""
    widths = [len(function.features), *HIDDEN[depth]]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], function.classes or 1))


def trained(function: Function, depth: str, rows: Rows, seed: int) -> nn.Sequential:
    """The network trained on these rows, or read from .data/ where it was trained before; a seed decides it."""
    key = hashlib.sha256(f"{function} {depth} {seed}".encode()).hexdigest()[:16]
    path = DATA / "published" / f"{function.name}-{depth}-{key}.npz"
    torch.manual_seed(seed)
    module = network(function, depth)
    if not path.exists():
        _train(module, rows, seed, function.classes)
        _save(module, path)
    with np.load(path) as weights:
        module.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return module.eval()


def scores(module: nn.Sequential, inputs: Floats) -> Floats:
    """The float32 outputs of rows [n, d] as torch computes them, as float64 [n, m]; NaN where an input is."""
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(inputs.astype(np.float32))).numpy(), np.float64)


def _train(module: nn.Sequential, rows: Rows, seed: int, classes: int) -> None:
    usable = np.flatnonzero(rows.usable)
    chosen = np.random.default_rng(seed).permutation(usable)[: round(_TRAIN_SHARE * len(usable))]
    x, y = torch.from_numpy(rows.inputs[chosen]), torch.from_numpy(rows.targets[chosen])
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-9)
    middle, spread = (y.mean(), y.std().clamp_min(1e-9)) if not classes else (torch.zeros(()), torch.ones(()))
    inputs = ((x - mean) / deviation).float()
    # one function's labels count from 1: its last label becomes the one before it
    targets = y.long().clamp(max=classes - 1) if classes else ((y - middle) / spread).float()[:, None]
    loss: nn.Module = nn.CrossEntropyLoss() if classes else nn.MSELoss()
    optimiser = torch.optim.Adam(module.parameters(), _LEARNING_RATE)
    for _ in range(_EPOCHS):
        for batch in torch.split(torch.randperm(len(inputs)), _BATCH_ROWS):
            optimiser.zero_grad()
            loss(module(inputs[batch]), targets[batch]).backward()
            optimiser.step()
    _fold(module, (mean, deviation), (middle, spread))


def _fold(module: nn.Sequential, inputs: tuple[torch.Tensor, torch.Tensor], target: tuple[torch.Tensor, ...]) -> None:
    """Put the scaling of inputs and target (mean, deviation) into the first and the last layer."""
    first, last = module[0], module[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        weight = first.weight.double() / inputs[1]
        first.bias.copy_(first.bias.double() - weight @ inputs[0])
        first.weight.copy_(weight)
        last.weight.copy_(last.weight.double() * target[1])
        last.bias.copy_(last.bias.double() * target[1] + target[0])


def _save(module: nn.Sequential, path: Path) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{name: tensor.numpy() for name, tensor in module.state_dict().items()})
    partial.replace(path)
