"""Learned stop rules: the level of a query before reading, and the gain from reading on, over the same features.

Both are small regressions. *Leveled* predicts how many lists a query needs, from the distances of its nearest
centroids. *Marginal gain* predicts at each look how many of the k rows the next doubling of the lists would bring, and
stops where that is not worth its price: for a mean recall, that is the cheapest order of stopping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skipml.ann import looks, regression
from skipml.ann.regression import Trees
from skipml.ann.stopping import FloatMatrix, FloatVector, Progress
from skipml.ann.traces import Trace

_RANKS = np.array([0, 1, 3, 7, 15, 31, 63, 127, 255])
"""Places in the order of reading whose centroid distances are features."""
_READ_AND_NEXT = np.array([1, 2])
_SMALLEST, _LARGEST = np.float32(1e-12), np.float32(1e30)


def _differences() -> FloatMatrix:
    """Logs of the lists read, of the k-th, first and middle distance, and of the centroids last read, as far again, and
    at the ranks -> features.
    """
    lists, kth, first, middle, read, later, nearest = range(7)
    ranks = range(nearest + 1, nearest + len(_RANKS))
    pairs = [(kth, first), (kth, middle), (kth, read), (kth, nearest), (later, read), (read, nearest)]
    pairs += [(rank, nearest) for rank in ranks]
    made = np.zeros((nearest + len(_RANKS), 3 + len(pairs)), np.float32)
    made[[lists, kth, nearest], [0, 1, 2]] = 1
    for column, (plus, minus) in enumerate(pairs, 3):
        made[plus, column], made[minus, column] = 1, -1
    return made


_DIFFERENCES = _differences()


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Predicts before reading how many lists a query needs."""

    model: Trees

    def __call__(self, route: FloatMatrix) -> FloatVector:
        """Lists, (q,)."""
        return np.asarray(np.exp(self.model.predict(before(route))), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """Predicts during reading how many of the k rows each further list brings."""

    model: Trees

    def __call__(self, progress: Progress) -> FloatVector:
        """Rows per list, (q,)."""
        return np.asarray(self.model.predict(during(progress)) / progress.lists, np.float32)


def before(route: FloatMatrix) -> FloatMatrix:
    """What is known before reading, (q, 9): the nearest centroid's distance, and the others' as ratios to it; logs."""
    logs = np.log(np.maximum(route[:, np.minimum(_RANKS, route.shape[1] - 1)], _SMALLEST))
    logs[:, 1:] -= logs[:, :1]
    return logs


def during(progress: Progress) -> FloatMatrix:
    """What is known at a look, (q, 17): distances of the best rows against each other and the centroids read and to be
    read, and what was known before; logs. Where among the lists the rows were found says no more.
    """
    q, m = progress.route.shape
    k = progress.best.shape[1]
    raw = np.empty((q, _DIFFERENCES.shape[0]), np.float32)
    raw[:, 0] = progress.lists
    raw[:, 1:4] = progress.best[:, [k - 1, 0, (k - 1) // 2]]
    raw[:, 4:6] = progress.route[np.arange(q)[:, None], np.minimum(progress.lists[:, None] * _READ_AND_NEXT, m) - 1]
    raw[:, 6:] = progress.route[:, np.minimum(_RANKS, m - 1)]
    np.minimum(np.maximum(raw, _SMALLEST, out=raw), _LARGEST, out=raw)
    np.log(raw, out=raw)
    return raw @ _DIFFERENCES


def train_leveled(trace: Trace, seed: int = 0) -> Trees:
    """Learn from a trace how many lists a query needs to find nine in ten of its rows; the log of it."""
    enough = (trace.recall >= 0.9 - 1e-6).argmax(1)
    return regression.fit(before(trace.route), np.log(trace.looks[enough]).astype(np.float32), seed)


def train_marginal(trace: Trace, seed: int = 0) -> Trees:
    """Learn from a trace how many rows the next doubling brings."""
    everyone = np.arange(len(trace))
    features, gains = [], []
    for look in range(len(trace.looks) - 1):
        after = looks.places(trace.looks, 2 * trace.looks[look])
        features.append(during(trace.progress(look, everyone)))
        gains.append((trace.recall[:, after] - trace.recall[:, look]) * trace.k)
    return regression.fit(np.concatenate(features), np.concatenate(gains), seed)
