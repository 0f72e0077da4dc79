"""Made-up searches: queries of different hardness whose k rows lie at random places of the order of reading."""

from __future__ import annotations

import numpy as np

from skipml.ann import looks
from skipml.ann.traces import Trace


def made_up(queries: int = 400, lists: int = 200, k: int = 10, seed: int = 0) -> Trace:
    """Hard queries have centroids that are hardly further than the nearest, and rows further down the order."""
    rng = np.random.default_rng(seed)
    hardness = rng.uniform(0.3, 4, (queries, 1))
    gaps = rng.exponential(1 / hardness, (queries, lists))
    route = (1 + np.cumsum(gaps, 1) * 0.05).astype(np.float32)
    place = np.minimum(rng.exponential(4 * hardness**1.5, (queries, 5 * k)).astype(np.int64), lists - 1)
    distance = np.sort(rng.uniform(0.5, 1.5, (queries, 5 * k)), 1).astype(np.float32)
    at = looks.grid(lists)
    best = np.full((queries, len(at), k), np.inf, np.float32)
    late = np.zeros((queries, len(at)), np.float32)
    for number, read in enumerate(at):
        for query in range(queries):
            seen = np.flatnonzero(place[query] < read)[:k]
            best[query, number, : len(seen)] = distance[query, seen]
            late[query, number] = (place[query, seen] >= read / 2).sum() / k
    recall = np.stack([(best[:, look] <= best[:, -1, -1:]).mean(1) for look in range(len(at))], 1).astype(np.float32)
    sizes = np.full((queries, lists), 20, np.int64)
    return Trace(at, route, sizes, best, late, recall)
