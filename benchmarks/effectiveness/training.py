"""Trains the networks of the workload: ReLU networks on standardised inputs, the same weights for the same seed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.effectiveness.tables import read_target
from benchmarks.effectiveness.workload import Function, Workload
from benchmarks.tpc.data import DATA

Floats = NDArray[np.float64]

_SCORE_ROWS = 65_536


class Scorer(nn.Module):
    """Standardises its inputs [n, d], then Linear and ReLU layers -> [n, 1]."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, function: Function) -> None:
        super().__init__()
        widths = [len(function.columns), *function.hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.register_buffer("mean", torch.zeros(widths[0]))
        self.register_buffer("deviation", torch.ones(widths[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One score per row."""
        scores: torch.Tensor = self.layers((x - self.mean) / self.deviation)
        return scores


def trained(workload: Workload, function: Function, inputs: Floats, has_inputs: NDArray[np.bool_]) -> Scorer:
    """The function's network, trained on a sample of the rows, or read from .data/ where it was trained before."""
    key = f"{asdict(function)} {asdict(workload.training)} {workload.scale} {workload.rows_per_table}"
    path = DATA / "effectiveness" / f"{function.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    torch.manual_seed(function.seed)
    scorer = Scorer(function)
    if not path.exists():
        _train(scorer, workload, function, (inputs, has_inputs))
        _save(scorer, path)
    with np.load(path) as weights:
        scorer.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return scorer.eval()


def score(scorer: Scorer, inputs: Floats) -> Floats:
    """The float32 scores of all rows as torch computes them, [n]; NaN for rows with a NULL."""
    x = torch.from_numpy(inputs.astype(np.float32))
    with torch.no_grad():
        return torch.cat([scorer(part)[:, 0] for part in torch.split(x, _SCORE_ROWS)]).numpy().astype(np.float64)


def _save(scorer: Scorer, path: Path) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{name: tensor.numpy() for name, tensor in scorer.state_dict().items()})
    partial.replace(path)


def _train(scorer: Scorer, workload: Workload, function: Function, rows: tuple[Floats, NDArray[np.bool_]]) -> None:
    settings = workload.training
    inputs, usable = rows
    targets = read_target(workload, function) if function.kind == "regress" else _made_target(function, *rows)
    candidates = np.flatnonzero(usable & ~np.isnan(targets))
    chosen = np.random.default_rng(function.seed).permutation(candidates)[: settings.rows]
    x, y = torch.from_numpy(inputs[chosen]), torch.from_numpy(targets[chosen])
    scorer.mean.copy_(x.mean(0))
    scorer.deviation.copy_(x.std(0) + 1e-9)
    y = (y - y.mean()) / y.std()
    loss = nn.MSELoss()
    optimiser = torch.optim.Adam(scorer.parameters(), settings.learning_rate)
    x, y = x.float(), y.float()
    for _ in range(settings.epochs):
        for batch in torch.split(torch.randperm(len(x)), settings.batch_rows):
            optimiser.zero_grad()
            loss(scorer(x[batch])[:, 0], y[batch]).backward()
            optimiser.step()


def _made_target(function: Function, inputs: Floats, usable: NDArray[np.bool_]) -> Floats:
    """What anomaly and conjunction functions learn, [n]."""
    known = inputs[usable]
    target = np.full(len(inputs), np.nan)
    if function.kind == "anomaly":
        z = known - known.mean(0)
        target[usable] = np.einsum("ni,ij,nj->n", z, np.linalg.inv(np.cov(z.T)), z)
        return target
    # A classifier would be flat where all conditions hold, and no threshold could select a part of it.
    margins = []
    for column, side, quantile in function.conditions:
        values = known[:, function.columns.index(column)]
        margin = (values - np.quantile(values, quantile)) / values.std()
        margins.append(margin if side == ">" else -margin)
    target[usable] = np.min(margins, axis=0)
    return target
