"""Searching: route, scan what is compact, look at the best rows themselves.

A round scans some more lists of each query that has not read enough. Of what was scanned the best by their estimates
are candidates; their distances are computed from the vectors. A row that two lists hold is a candidate once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from skipml.ann.found import Found, Work
from skipml.ann.manifest import Manifest
from skipml.ann.metric import Singles
from skipml.ann.reader import SegmentReader
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import Nprobe, Progress, StopRule

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUTE = 256
"""Lists that are put in order at first, for a rule that may read on."""
_AHEAD = 2
"""Rules see the distances of so many times the lists that are read."""
_LEAST_CANDIDATES, _CANDIDATES_PER_ROW = 60, 6
"""How many rows are looked at for each that is wanted: codes put the best rows among so many."""
_BLOCK_QUERIES = 64


def n_candidates(k: int) -> int:
    """How many rows are looked at for k: the best by the least of their estimates."""
    return max(_LEAST_CANDIDATES, _CANDIDATES_PER_ROW * k)


def n_scanned(snapshot: Snapshot, reader: SegmentReader, k: int) -> int:
    """How many codes, or vectors, a scan of a segment asks for: neither deleted rows nor second codes of a row may take
    the place of others.
    """
    wanted, copies = n_candidates(k), 1 if snapshot.codec is None else 2
    return max(1, copies * min(wanted + min(len(reader.segment.deleted), wanted), reader.segment.n_rows))


def each_once(key: Indices, estimate: Singles) -> tuple[Indices, Indices, Singles]:
    """Keys [n] in order, each once; where the first of each is, and the least of its estimates [n]."""
    kept, first = np.unique(key, return_index=True)
    order = np.lexsort((estimate, key))
    starts = np.searchsorted(key[order], kept)
    return kept, first, estimate[order][starts]


def search(snapshot: Snapshot, queries: Singles, k: int, rule: StopRule, threads: int = 1) -> Found:
    """The k nearest rows that are found to each query [q, d], as the rule has it; blocks of queries are searched by so
    many threads.
    """
    snapshot.check_unchanged()
    k = min(k, snapshot.manifest.n_rows)
    if not k or not len(queries):
        return Found.nothing()
    starts = range(0, len(queries), _BLOCK_QUERIES)

    def block(start: int) -> Found:
        return _Search(snapshot, queries[start : start + _BLOCK_QUERIES], k, rule).run()

    return joined(run_all(block, starts, threads), starts)


def run_all(block: Callable[[int], Found], starts: range, threads: int) -> list[Found]:
    """Search blocks of queries in threads, each of which lets faiss use no others."""
    if threads <= 1 or len(starts) == 1:
        return [block(start) for start in starts]
    with ThreadPoolExecutor(threads, initializer=_one_thread) as pool:
        return list(pool.map(block, starts))


def _one_thread() -> None:
    import faiss

    faiss.omp_set_num_threads(1)


def joined(blocks: list[Found], starts: range) -> Found:
    """What blocks of queries found, together."""
    if len(blocks) == 1:
        return blocks[0]
    work = Work()
    for found in blocks:
        work.add(found.work)
    return Found(
        query=np.concatenate([found.query + start for found, start in zip(blocks, starts, strict=True)]),
        position=np.concatenate([found.position for found in blocks]),
        row_id=np.concatenate([found.row_id for found in blocks]),
        distance=np.concatenate([found.distance for found in blocks]),
        work=work,
    )


def squared(manifest: Manifest, queries: Singles, distance: Floats) -> Floats:
    """Distances [n] or [n, k] from queries [n, d] as the squared ones of the space, which routes have."""
    if manifest.metric == "l2":
        return np.square(distance * manifest.space.scale)
    if manifest.metric == "cosine":
        return 2 * distance
    length = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    longest = manifest.longest * manifest.space.scale
    scale = longest * manifest.space.scale / np.where(length > 0, length, 1)
    return np.asarray(np.maximum(2 * (longest**2 + scale.reshape(-1, *[1] * (distance.ndim - 1)) * distance), 0))


class _Search:
    """A search for a block of queries.

    The candidates of all queries are in flat arrays, in the order of their key, query times rows plus position.
    """

    def __init__(self, snapshot: Snapshot, queries: Singles, k: int, rule: StopRule) -> None:
        self.snapshot, self.queries, self.k, self.rule = snapshot, queries, k, rule
        self.work = Work()
        self.placed = snapshot.placed(queries)
        self.scanned_for = queries if snapshot.codec is None else self.placed
        wanted = rule.lists if isinstance(rule, Nprobe) else ROUTE
        self.route, self.order = snapshot.router.nearest(self.placed, wanted)
        self.read = np.zeros(len(queries), np.int64)
        """Lists that each query has read."""
        self.key = np.empty(0, np.int64)
        self.estimate = np.empty(0, np.float32)
        self.distance = np.empty(0)
        self.found_at = np.empty(0, np.int64)
        """Lists that had been read when a candidate was found."""

    @property
    def _query(self) -> Indices:
        return self.key // int(self.snapshot.starts[-1])

    @property
    def _position(self) -> Indices:
        return self.key % int(self.snapshot.starts[-1])

    def run(self) -> Found:
        n_lists = self.snapshot.n_lists
        target = np.clip(self.rule.first(self.route, self._sizes, self.k), 1, n_lists)
        active = np.arange(len(self.queries))
        while len(active):
            self._read(active, target)
            wanted = self._wanted(active)
            go_on = wanted > self.read[active]
            active, target = active[go_on], wanted[go_on]
        return Found.ranked(self.snapshot, self._query, self._position, self.distance, self.k, self.work)

    @property
    def _sizes(self) -> Indices:
        return np.where(self.order >= 0, self.snapshot.sizes[self.order], 0)

    def _wanted(self, active: Indices) -> Indices:
        """Lists that the active queries shall have read: twice as many where fewer than k rows are found."""
        read = self.read[active]
        short = np.bincount(self._query, minlength=len(self.queries))[active] < self.k
        wanted = read if isinstance(self.rule, Nprobe) else self.rule.more(self._progress(active))
        wanted = np.where(short, np.maximum(wanted, 2 * read), wanted)
        return np.minimum(wanted, self.snapshot.n_lists)

    def _progress(self, active: Indices) -> Progress:
        best = np.full((len(self.queries), self.k), np.inf)
        found_at = np.zeros(best.shape, np.int64)
        query = self._query
        order = np.lexsort((self.distance, query))
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        order, query, rank = order[rank < self.k], query[rank < self.k], rank[rank < self.k]
        best[query, rank] = np.where(
            np.isnan(self.distance[order]),
            np.inf,
            squared(self.snapshot.manifest, self.queries[query], self.distance[order]),
        )
        found_at[query, rank] = self.found_at[order]
        read = self.read[active]
        late = (found_at[active] > read[:, None] / 2).mean(axis=1)
        near = best[active].astype(np.float32)
        return Progress(read, self.route[active], near, late.astype(np.float32), self._sizes[active])

    def _read(self, active: Indices, target: Indices) -> None:
        """Read the lists up to the target [a] of the active queries [a]."""
        end = int(target.max())
        known, needed = self.order.shape[1], end if isinstance(self.rule, Nprobe) else _AHEAD * end
        if needed > known and known < self.snapshot.n_lists:
            count = min(max(needed, 4 * known), self.snapshot.n_lists)
            self.route, self.order = self.snapshot.router.nearest(self.placed, count)
        read = self.read[active]
        start = int(read.min())
        lists, route = self.order[active, start:end], self.route[active, start:end]
        place = np.arange(start, end)
        outside = (place < read[:, None]) | (place >= target[:, None])
        if outside.any():
            lists = np.where(outside, -1, lists)
        wanted = lists[lists >= 0]
        for i, (reader, scanner) in enumerate(zip(self.snapshot.readers, self.snapshot.scanners, strict=True)):
            self.work.bytes_read += reader.fetch_lists(wanted)
            count = n_scanned(self.snapshot, reader, self.k)
            estimate, query, position = scanner.scan(self.scanned_for[active], lists, route, count)
            self._merge(active[query], position + self.snapshot.starts[i], estimate, target[query])
        self.work.lists += int((target - read).sum())
        self.work.scanned += int(self.snapshot.sizes[wanted].sum())
        self.read[active] = target
        self._look()

    def _merge(self, query: Indices, position: Indices, estimate: Singles, found_at: Indices) -> None:
        """Keep the best candidates of those found before and now, each row once."""
        key = query * int(self.snapshot.starts[-1]) + position
        if len(self.snapshot.deleted):
            there = ~self.snapshot.is_deleted(position)
            key, estimate, found_at = key[there], estimate[there], found_at[there]
        self.key, kept, self.estimate = each_once(
            np.concatenate([self.key, key]), np.concatenate([self.estimate, estimate])
        )
        self.distance = np.concatenate([self.distance, np.full(len(key), np.nan)])[kept]
        self.found_at = np.concatenate([self.found_at, found_at])[kept]
        self._trim()

    def _trim(self) -> None:
        """Keep the best by their estimates, and those that are among the k nearest so far."""
        query = self._query
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        by_estimate, by_distance = (np.lexsort((values, query)) for values in (self.estimate, self.distance))
        near = by_distance[rank < self.k]
        near = near[~np.isnan(self.distance[near])]
        kept = np.union1d(by_estimate[rank < n_candidates(self.k)], near)
        self.key, self.estimate = self.key[kept], self.estimate[kept]
        self.distance, self.found_at = self.distance[kept], self.found_at[kept]

    def _look(self) -> None:
        """Compute the distances of the candidates that have none."""
        new = np.flatnonzero(np.isnan(self.distance))
        total = int(self.snapshot.starts[-1])
        query, position = np.divmod(self.key[new], total)
        self.distance[new] = self.snapshot.distances(self.queries, query, position)
        self.work.vectors += len(new)
        self.work.bytes_read += len(new) * self.snapshot.manifest.vector.n_bytes
