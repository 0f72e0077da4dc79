"""How far the scores of each way lie apart, against the margin that the bounds allow for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import skipml
from benchmarks.scorer import scorer_outputs
from benchmarks.scoring.systems import COLUMNS
from skipml.bounds.verifier import Verifier

_BATCH = 1_000_000
_EDGES = (0.0, -0.0, 1e-45, -1e-45, 1e-38, 1.0, -1.0, 16_777_217.0, 1e18, -1e18, 3e38, np.inf, -np.inf, np.nan)


@dataclass(frozen=True, slots=True)
class Differences:
    """The largest distance between the scores of torch and of the extension over some rows, the largest share of the
    margin at its row that one took, and the rows for which one was NaN or infinite and the other was not.
    """

    rows: int
    largest: float
    share_of_margin: float
    contradictions: int


def differences(module: nn.Sequential, rows: int, seed: int) -> Differences:
    """Over normally distributed rows of several scales, and over all pairs of edge values."""
    model = skipml.Model.from_torch(module, columns=list(COLUMNS))
    rng = np.random.default_rng(seed)
    found = [_compare(module, model, _edges())]
    for start in range(0, rows, _BATCH):
        scale = 10.0 ** rng.integers(-3, 5)
        found.append(_compare(module, model, rng.normal(size=(min(_BATCH, rows - start), len(COLUMNS))) * scale))
    return Differences(
        rows=sum(one.rows for one in found),
        largest=max(one.largest for one in found),
        share_of_margin=max(one.share_of_margin for one in found),
        contradictions=sum(one.contradictions for one in found),
    )


def _edges() -> NDArray[np.float64]:
    grid = np.stack(np.meshgrid(*[_EDGES] * len(COLUMNS), indexing="ij"), axis=-1)
    return grid.reshape(-1, len(COLUMNS))


def _compare(module: nn.Sequential, model: skipml.Model, rows: NDArray[np.float64]) -> Differences:
    with torch.inference_mode(), np.errstate(over="ignore"):
        theirs = module(torch.from_numpy(rows.astype(np.float32))).numpy()[:, 0].astype(np.float64)
    ours = scorer_outputs(model, rows)[:, 0].astype(np.float64)
    usable = np.isfinite(rows).all(axis=1)
    verifier = model.output(0).verifier
    assert isinstance(verifier, Verifier)
    margin = np.full(len(rows), np.inf)
    box = rows[usable]
    margin[usable] = verifier.margin(box, box, np.zeros_like(box))[:, 0]
    both = np.isfinite(theirs) & np.isfinite(ours)
    with np.errstate(invalid="ignore"):
        apart = np.where(both, np.abs(theirs - ours), 0.0)
    bounded = np.isfinite(margin)
    wrong = bounded & ~both  # a finite margin promises numbers
    wrong |= ~usable & (np.isnan(theirs) != np.isnan(ours))
    share = np.where(bounded & (margin > 0), apart / np.where(margin > 0, margin, 1.0), 0.0)
    return Differences(
        len(rows), float(apart[bounded].max(initial=0.0)), float(share.max(initial=0.0)), int(wrong.sum())
    )
