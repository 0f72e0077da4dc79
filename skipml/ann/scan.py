"""Scanning posting lists with faiss where they lie in the file: codes, or whole vectors where there are no codes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.codes import Codec, query_parameters
from skipml.ann.metric import Metric, Singles, distances
from skipml.ann.postings import Extents
from skipml.ann.reader import SegmentReader

Indices = NDArray[np.int64]


def lists_in_place(path: str, extents: Extents) -> Any:
    """faiss's inverted lists over a file that others wrote: it needs no ids, as rows are known by list and place."""
    import faiss

    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.filename = len(extents.counts), extents.n_bytes, path
    lists.totsize, lists.read_only = os.path.getsize(path), True
    lists.lists.clear()
    for size, offset in zip(extents.counts.tolist(), extents.offsets.tolist(), strict=True):
        one = faiss.OnDiskOneList()
        one.size = one.capacity = size
        one.offset = max(offset, 0)
        lists.lists.push_back(one)
    if lists.totsize:
        lists.do_mmap()
    return lists


def preassigned(
    index: Any, queries: Singles, lists: Indices, route: Singles, count: int, *, is_coded: bool, in_pairs: bool
) -> tuple[Singles, Indices]:
    """What faiss finds for queries [q, width] in lists [q, m] of an index: estimates and labels [q, count], -1 for
    none, which are lists and offsets `in_pairs`, or else ids.
    """
    import faiss

    n, m = lists.shape
    estimates, labels = np.empty((n, count), np.float32), np.empty((n, count), np.int64)
    parameters = query_parameters(m) if is_coded else faiss.SearchParametersIVF(nprobe=m)
    queries, route = np.ascontiguousarray(queries), np.ascontiguousarray(route)
    lists = np.ascontiguousarray(lists)
    index.search_preassigned_c(
        n,
        faiss.swig_ptr(queries),
        count,
        faiss.swig_ptr(lists),
        faiss.swig_ptr(route),
        faiss.swig_ptr(estimates),
        faiss.swig_ptr(labels),
        in_pairs,
        parameters,
        None,
    )
    return estimates, labels


class ListScanner:
    """The best rows of some lists of a segment for each query."""

    def __init__(self, reader: SegmentReader, metric: Metric, codec: Codec | None) -> None:
        import faiss

        file, extents = reader.in_place()
        self._reader = reader
        self._is_coded = codec is not None
        self._lists = lists_in_place(file.path, extents)
        if codec is not None:
            index: Any = Codec(codec.centroids).index
        else:
            quantizer = faiss.IndexFlatL2(extents.n_bytes // 4)
            kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
            index = faiss.IndexIVFFlat(quantizer, quantizer.d, len(extents.counts), kind)
            index.referenced_objects = [quantizer]
            index.is_trained = True
        index.replace_invlists(self._lists, False)
        index.ntotal = int(extents.counts.sum())
        self._index = index
        self._is_negative = index.metric_type == faiss.METRIC_INNER_PRODUCT

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices, Indices]:
        """At most `count` of the best rows of some lists [q, m], -1 for none, for each query [q, width]: estimates of
        the squared distance (or the negative inner product), the queries and the positions [n]. A row may come twice.
        """
        estimates, labels = preassigned(
            self._index, queries, lists, route, count, is_coded=self._is_coded, in_pairs=True
        )
        flat = np.flatnonzero(labels.ravel() >= 0)
        hits, found = labels.ravel()[flat], estimates.ravel()[flat]
        query = flat // count
        position = self._reader.copies(hits >> 32, hits & 0xFFFFFFFF)
        return -found if self._is_negative else found, query, position


class ExactScanner:
    """The same for vectors that faiss cannot read where they lie: int8, and cosine without codes."""

    def __init__(self, reader: SegmentReader, metric: Metric) -> None:
        self._reader = reader
        self._metric = metric

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices, Indices]:
        """The same, with distances of the metric."""
        del route
        estimates, rows, positions = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for i, mine in enumerate(lists):
            for number in mine[mine >= 0].tolist():
                vectors = self._reader.list_vectors(number)
                found = distances(self._metric, queries[i : i + 1], np.zeros(len(vectors), np.int64), vectors)
                best = np.argsort(found, kind="stable")[:count]
                most = np.finfo(np.float32).max
                estimates.append(np.clip(found[best], -most, most).astype(np.float32))
                rows.append(np.full(len(best), i))
                positions.append(int(self._reader.starts[number]) + best)
        return np.concatenate(estimates), np.concatenate(rows), np.concatenate(positions)
