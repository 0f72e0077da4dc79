"""One query, routed, scanned, looked at and ranked by the compiled library, without Python in between.

Finds what `skipml.ann.search` finds, by the same steps over the same mapped files. The library touches nothing but what
was checked to lie within them when the index was opened; that they are as they were then is checked with every search.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann import compiled, looks
from skipml.ann.compiled import METRICS
from skipml.ann.found import Found, Work
from skipml.ann.learned import PAIRS, RANK_PAIRS, RANKS, READ_AND_NEXT, Gain, Level, best_places
from skipml.ann.metric import Singles
from skipml.ann.reader import SegmentReader
from skipml.ann.regression import Trees
from skipml.ann.routing import FLAT
from skipml.ann.rules import START, Priced, Scaled, nearness
from skipml.ann.search import n_candidates
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import Nprobe, StopRule
from skipml.errors import MetadataError

_MOST_ROWS = 100
"""More rows are wanted seldom, and looking for a row among the candidates takes time that grows with their number."""
_NPROBE, _LEVEL, _GAIN, _NEARNESS = range(4)
_NO_MEMORY, _DAMAGED = 1, 2
"""What a search ends with, as nearest.h has it; queries are finite here."""


class Laid:
    """Arrays whose addresses the library is given, which live as long as this."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def address(self, array: NDArray[Any], kind: type[np.generic]) -> int:
        """That of an array of some kind, copied where the library could not read it."""
        laid = np.require(array, kind, ["C", "A"])
        self._kept.append(laid)
        return int(laid.ctypes.data)


class NativeIndex:
    """A snapshot as the library knows it."""

    def __init__(self, snapshot: Snapshot, library: ctypes.CDLL) -> None:
        manifest = snapshot.manifest
        self._laid = Laid()
        self._segments = (compiled.Segment * len(snapshot.readers))(*map(self._segment, snapshot.readers))
        coded = next((one.code for one in manifest.segments if one.code is not None), None)
        index = self._index = compiled.Index(
            metric=METRICS[manifest.metric],
            is_int8=manifest.vector.is_int8,
            dimension=manifest.vector.dimension,
            width=manifest.space.width,
            n_lists=snapshot.n_lists,
            code_bytes=0 if snapshot.codec is None or coded is None else coded.n_bytes,
            n_segments=len(snapshot.readers),
            scale=manifest.space.scale,
            longest=manifest.longest * manifest.space.scale,
            centroids=self._laid.address(snapshot.router.centroids, np.float32),
            segments=ctypes.addressof(self._segments),
        )
        if snapshot.codec is not None:
            index.rotation = self._laid.address(snapshot.turned, np.float32)
        self._address = ctypes.addressof(index)
        self._nearest = library.skipml_nearest
        if not library.skipml_vector_index_fits(self._address):
            paths = ", ".join(f"'{reader.rows.path}'" for reader in snapshot.readers)
            raise MetadataError(
                f"{paths}: lists lie beyond the end of their files; restore them, or build the index again"
            )

    def _segment(self, reader: SegmentReader) -> compiled.Segment:
        segment, laid = reader.segment, self._laid
        vectors, row_ids = reader.extents
        made = compiled.Segment(
            rows=laid.address(reader.rows.data, np.uint8),
            rows_size=len(reader.rows.data),
            starts=laid.address(reader.starts, np.int64),
            vectors=laid.address(vectors.offsets, np.int64),
            row_ids=laid.address(row_ids.offsets, np.int64),
            deleted=laid.address(segment.deleted, np.int64),
            n_deleted=len(segment.deleted),
        )
        if reader.codes is not None and segment.code is not None and segment.positions is not None:
            made.codes, made.codes_size = laid.address(reader.codes.data, np.uint8), len(reader.codes.data)
            made.code_counts = laid.address(segment.code.counts, np.int64)
            made.code = laid.address(segment.code.offsets, np.int64)
            made.positions = laid.address(segment.positions.offsets, np.int64)
        return made

    def search(self, snapshot: Snapshot, query: Singles, k: int, rule: compiled.Rule) -> Found:
        """The k nearest rows to a query [1, d] in the lists that a rule reads."""
        room = np.empty((4, k), np.int64)
        places = room.ctypes.data
        ask = compiled.Query(query.ctypes.data, k, n_candidates(k))
        found = compiled.Found(places, places + 8 * k, places + 16 * k, places + 24 * k)
        status = self._nearest(self._address, ctypes.addressof(rule), ctypes.addressof(ask), ctypes.addressof(found))
        if status == _NO_MEMORY:
            raise MemoryError("a search of a vector index ran out of memory")
        if status == _DAMAGED:
            raise MetadataError(f"the codes of '{snapshot.readers[0].rows.path}' are damaged; build the index again")
        n = found.n
        work = Work(found.lists, found.scanned, found.vectors, found.bytes)
        position, row_id, lists, distance = room[:, :n]
        return Found(_zeros(n), position, row_id, distance.view(np.float64), work, lists)


@lru_cache(maxsize=16)
def _zeros(n: int) -> NDArray[np.int64]:
    zeros = np.zeros(n, np.int64)
    zeros.flags.writeable = False
    return zeros


class NativeRule:
    """A stop rule as the library knows it, for k rows."""

    def __init__(self, k: int, kind: int, setting: float, first: int, trees: Trees | None = None) -> None:
        laid = self._laid = Laid()
        grid = looks.grid()
        self.made = compiled.Rule(kind=kind, setting=setting, first=first, n_looks=len(grid))
        self.made.looks = laid.address(grid, np.int64)
        if trees is None:
            return
        self.made.n_trees, self.made.depth = trees.feature.shape
        self.made.mean = trees.mean
        self.made.feature = laid.address(trees.feature, np.int64)
        self.made.threshold = laid.address(trees.threshold, np.float32)
        self.made.leaf = laid.address(trees.leaf, np.float32)
        pairs = RANK_PAIRS if kind == _LEVEL else PAIRS
        lists = {"best": best_places(k), "multiples": READ_AND_NEXT, "ranks": RANKS, "pairs": pairs}
        for name, values in lists.items():
            setattr(self.made, f"n_{name}", len(values))
            setattr(self.made, name, laid.address(values, np.int64))


@lru_cache(maxsize=64)
def native_rule(rule: Hashable, k: int) -> NativeRule | None:
    """A rule as the library knows it; None for one that it does not know."""
    if isinstance(rule, Nprobe):
        return NativeRule(k, _NPROBE, 0.0, min(rule.lists, FLAT))
    if isinstance(rule, Scaled) and isinstance(rule.level, Level):
        return NativeRule(k, _LEVEL, rule.scale, 0, rule.level.model)
    if isinstance(rule, Priced) and rule.worth is nearness:
        return NativeRule(k, _NEARNESS, rule.price, START)
    if isinstance(rule, Priced) and isinstance(rule.worth, Gain):
        return NativeRule(k, _GAIN, rule.price, START, rule.worth.model)
    return None


def search_one(snapshot: Snapshot, query: Singles, k: int, rule: StopRule) -> Found | None:
    """The k nearest rows to a query [1, d] in the lists that a rule reads; None where that takes the general way: no
    library, a cold index, a rule of the caller's own, very many rows or lists.
    """
    library = compiled.library()
    k = min(k, snapshot.n_rows)
    if library is None or snapshot.cold or not 0 < k <= _MOST_ROWS or snapshot.n_lists > FLAT:
        return None
    made = native_rule(rule, k) if isinstance(rule, Nprobe | Scaled | Priced) else None
    if made is None:
        return None
    snapshot.check_unchanged()
    if snapshot.native is None:
        snapshot.native = NativeIndex(snapshot, library)
    return snapshot.native.search(snapshot, query, k, made.made)
