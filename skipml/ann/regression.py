"""A small regression that predicts in microseconds: boosted trees that ask one question per depth, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.stopping import FloatMatrix, FloatVector

_TREES, _DEPTH, _RATE, _BINS = 60, 5, 0.15, 32
_PRIOR = 50.0
"""Rows of the mean that every leaf starts with."""
_SAMPLE = 40_000
"""Rows that choose the questions of a tree; all rows fill its leaves."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """t trees of depth d: question (i, j) asks whether feature `feature[i, j]` is above `threshold[i, j]`, the answers
    are the bits of the leaf; a prediction is `mean` plus the leaves' sum. Shapes (t, d), (t, d), (t, 2**d).
    """

    mean: float
    feature: NDArray[np.int64]
    threshold: FloatMatrix
    leaf: FloatMatrix

    def predict(self, x: FloatMatrix) -> FloatVector:
        """The predictions (n,) for features (n, f)."""
        depth = self.feature.shape[1]
        answers = x[:, self.feature] > self.threshold
        leaf = answers @ (1 << np.arange(depth)[::-1])
        found: FloatVector = self.leaf[np.arange(len(self.leaf)), leaf].sum(1, dtype=np.float32) + np.float32(self.mean)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers, for JSON."""
        feature, threshold, leaf = self.feature.tolist(), self.threshold.tolist(), self.leaf.tolist()
        return {"mean": self.mean, "feature": feature, "threshold": threshold, "leaf": leaf}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Trees:
        """What to_dict made."""
        feature = np.array(stored["feature"], np.int64)
        threshold, leaf = np.array(stored["threshold"], np.float32), np.array(stored["leaf"], np.float32)
        if feature.ndim != 2 or threshold.shape != feature.shape or leaf.shape != (len(feature), 1 << feature.shape[1]):
            raise ValueError("The arrays of a learned rule do not fit each other")
        return Trees(float(stored["mean"]), feature, threshold, leaf)


def fit(x: FloatMatrix, y: FloatVector, seed: int = 0) -> Trees:
    """Least squares of y (n,) on features x (n, f)."""
    rng = np.random.default_rng(seed)
    cuts = [_cuts(column) for column in x.T]
    bins = np.stack([np.searchsorted(cut, column) for cut, column in zip(cuts, x.T, strict=True)], 1)
    mean = float(np.mean(y))
    residual = np.asarray(y, np.float64) - mean
    feature, threshold = np.empty((_TREES, _DEPTH), np.int64), np.empty((_TREES, _DEPTH), np.float32)
    leaves = np.empty((_TREES, 1 << _DEPTH), np.float32)
    for tree in range(_TREES):
        sample = rng.choice(len(x), min(len(x), _SAMPLE), replace=False)
        leaf = np.zeros(len(x), np.int64)
        for depth in range(_DEPTH):
            chosen, cut = _question(bins[sample], residual[sample], leaf[sample], cuts)
            feature[tree, depth], threshold[tree, depth] = chosen, cuts[chosen][cut]
            leaf = 2 * leaf + (bins[:, chosen] > cut)
        total, count = (np.bincount(leaf, weights, minlength=1 << _DEPTH) for weights in (residual, None))
        leaves[tree] = _RATE * total / (count + _PRIOR)
        residual -= leaves[tree][leaf]
    return Trees(mean, feature, threshold, leaves)


def _cuts(column: FloatVector) -> FloatVector:
    """Thresholds of a feature that divide the rows evenly; a row is above cut i if its bin is above i."""
    cuts: FloatVector = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]).astype(np.float32))
    return cuts


def _question(
    bins: NDArray[np.int64], residual: NDArray[np.float64], leaf: NDArray[np.int64], cuts: list[FloatVector]
) -> tuple[int, int]:
    """The feature and the cut that, asked in every leaf so far, explain most of the residuals."""
    best, question = -np.inf, (0, 0)
    leaves = int(leaf.max()) + 1
    for feature, cut in enumerate(cuts):
        cell = leaf * _BINS + bins[:, feature]
        total = np.bincount(cell, residual, minlength=leaves * _BINS).reshape(leaves, _BINS).cumsum(1)
        count = np.bincount(cell, minlength=leaves * _BINS).reshape(leaves, _BINS).cumsum(1)
        above, rest = total[:, -1:] - total, count[:, -1:] - count
        explained = (total**2 / (count + _PRIOR) + above**2 / (rest + _PRIOR)).sum(0)[: len(cut)]
        if explained.max() > best:
            best, question = float(explained.max()), (feature, int(explained.argmax()))
    return question
