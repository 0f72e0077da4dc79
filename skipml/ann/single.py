"""One query that reads its lists at once: the steps of a search without the bookkeeping of rounds.

Finds what `skipml.ann.search` finds; a single query is short enough that the bookkeeping would be most of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.ann.found import Found, Work
from skipml.ann.metric import Singles, distances
from skipml.ann.rules import Scaled
from skipml.ann.scan import ListScanner
from skipml.ann.search import ROUTE, each_once, n_candidates, n_scanned
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import Nprobe

Indices = NDArray[np.int64]
_ZEROS = np.zeros(1, np.int64)


def search_one(snapshot: Snapshot, query: Singles, k: int, rule: Nprobe | Scaled) -> Found | None:
    """The k nearest rows in the lists that a rule wants to a query [1, d]; None where that takes the general way:
    several segments, vectors that faiss cannot scan, fewer than k rows, very many lists.
    """
    scanner = snapshot.scanners[0] if len(snapshot.scanners) == 1 else None
    if not isinstance(scanner, ListScanner):
        return None
    reader = snapshot.readers[0]
    reader.check_unchanged()
    placed = snapshot.placed(query)
    route, order = snapshot.router.nearest(placed, rule.lists if isinstance(rule, Nprobe) else ROUTE)
    read = min(max(int(rule.first(route, snapshot.sizes[order], k)[0]), 1), snapshot.n_lists)
    if read > order.shape[1]:
        return None
    if read < order.shape[1]:
        route, order = np.ascontiguousarray(route[:, :read]), np.ascontiguousarray(order[:, :read])
    bytes_read = reader.fetch_lists(order[0])
    scanned = query if snapshot.codec is None else placed
    estimate, _, position = scanner.scan(scanned, order, route, n_scanned(snapshot, reader, k))
    if len(snapshot.deleted):
        there = ~snapshot.is_deleted(position)
        estimate, position = estimate[there], position[there]
    position, _, estimate = each_once(position, estimate)
    position = position[np.argsort(estimate, kind="stable")[: n_candidates(k)]]
    if len(position) < k or order[0, -1] < 0:
        return None
    distance = distances(snapshot.manifest.metric, query, _ZEROS, reader.vectors(position))
    # NaN is sorted behind every number
    kept = np.flatnonzero(~(distance > np.partition(distance, k - 1)[k - 1]))
    row_id = reader.row_ids(position[kept])
    best = np.lexsort((row_id, distance[kept]))[:k]
    work = Work(
        lists=order.shape[1],
        scanned=int(snapshot.sizes[order[0]].sum()),
        vectors=len(position),
        bytes_read=bytes_read + len(position) * snapshot.manifest.vector.n_bytes,
    )
    kept = kept[best]
    return Found(np.zeros(k, np.int64), position[kept], row_id[best], distance[kept], work)
