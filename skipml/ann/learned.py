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
from skipml.ann.stopping import FloatMatrix, FloatVector, IntMatrix, IntVector, Progress
from skipml.ann.traces import Trace

RANKS = np.array([0, 1, 3, 7, 15, 31, 63, 127, 255])
"""Places in the order of reading whose centroid distances are features."""
READ_AND_NEXT = np.array([1, 2])
"""Multiples of the lists read, the centroid distance of the last of which is a feature."""
_SMALLEST, _LARGEST = np.float32(1e-12), np.float32(1e30)


def _pairs() -> IntMatrix:
    """Features (f, 2) are differences of what is known at a look: the logs of the lists read, of the k-th, first and
    middle distance, and of the centroids last read, as far again, and at the ranks; -1 for nothing to subtract.
    """
    lists, kth, first, middle, read, later, nearest = range(7)
    pairs = [(lists, -1), (kth, -1), (nearest, -1)]
    pairs += [(kth, first), (kth, middle), (kth, read), (kth, nearest), (later, read), (read, nearest)]
    return np.array([*pairs, *((nearest + i, nearest) for i in range(1, len(RANKS)))], np.int64)


PAIRS = _pairs()
RANK_PAIRS = np.array([(0, -1), *((i, 0) for i in range(1, len(RANKS)))], np.int64)
"""The same for what is known before reading: the logs at the ranks alone."""


def best_places(k: int) -> IntVector:
    """Which of the k best distances are features."""
    return np.array([k - 1, 0, (k - 1) // 2], np.int64)


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
    return _differences(route[:, np.minimum(RANKS, route.shape[1] - 1)], RANK_PAIRS)


def during(progress: Progress) -> FloatMatrix:
    """What is known at a look, (q, 17): distances of the best rows against each other and the centroids read and to be
    read, and what was known before; logs. Where among the lists the rows were found says no more.
    """
    q, m = progress.route.shape
    best = best_places(progress.best.shape[1])
    n_best, n_read = 1 + len(best), 1 + len(best) + len(READ_AND_NEXT)
    raw = np.empty((q, n_read + len(RANKS)), np.float32)
    raw[:, 0] = progress.lists
    raw[:, 1:n_best] = progress.best[:, best]
    last = np.minimum(progress.lists[:, None] * READ_AND_NEXT, m) - 1
    raw[:, n_best:n_read] = progress.route[np.arange(q)[:, None], last]
    raw[:, n_read:] = progress.route[:, np.minimum(RANKS, m - 1)]
    return _differences(raw, PAIRS)


def _differences(raw: FloatMatrix, pairs: IntMatrix) -> FloatMatrix:
    """Differences of the logs of what is known (q, r) at pairs (f, 2) of places, (q, f)."""
    logs = np.zeros((len(raw), raw.shape[1] + 1), np.float32)  # place -1 is zero
    np.log(np.minimum(np.maximum(raw, _SMALLEST), _LARGEST), out=logs[:, :-1])
    found: FloatMatrix = logs[:, pairs[:, 0]] - logs[:, pairs[:, 1]]
    return found


def train_leveled(trace: Trace, seed: int = 0) -> Trees:
    """Learn from a trace how many lists a query needs to find nine in ten of its rows; the log of it."""
    enough = (trace.recall >= 0.9 - 1e-6).argmax(1)
    return regression.fit(before(trace.route), np.log(trace.looks[enough]).astype(np.float32), seed)


def train_marginal(trace: Trace, seed: int = 0) -> Trees:
    """Learn from a trace how many rows the next doubling brings."""
    return regression.fit(*gains(trace), seed)


def gains(trace: Trace) -> tuple[FloatMatrix, FloatVector]:
    """What was known at each look of each query (n, 17), and the rows that the next doubling brought (n,)."""
    features, found = [], []
    for look in range(len(trace.looks) - 1):
        after = looks.places(trace.looks, 2 * trace.looks[look : look + 1])[0]
        features.append(during(trace.progress(look)))
        found.append((trace.recall[:, after] - trace.recall[:, look]) * np.float32(trace.k))
    return np.concatenate(features), np.concatenate(found)
