"""The index and its peers on the same table and queries, one thread, one query at a time: recall, time, bytes read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from benchmarks.ann import vss
from benchmarks.ann.data import FOLDER, IN_DISTRIBUTION, Data, Matrix, index_of, parquet_of, table_of
from benchmarks.ann.settings import QUERIES, SLOW_QUERIES, Setting, ask_sql, measured_of
from skipml.ann.index import VectorIndex
from skipml.ann.rules import LEVELED, MARGINAL

LOG = 2_000
PEERS = FOLDER / "peers"
_LISTS = 512


def measure(data: Data, k: int) -> dict[str, Any]:
    """Every setting of every system; systems that are not installed are named with the reason."""
    import faiss

    PEERS.mkdir(parents=True, exist_ok=True)
    held_out = np.ascontiguousarray(data.queries[IN_DISTRIBUTION][LOG : LOG + QUERIES])
    exact = faiss.IndexFlatL2(data.base.shape[1])
    exact.add(np.ascontiguousarray(data.base))
    _, truth = exact.search(held_out, k)
    measured, absent, builds = [], {}, {}
    for system in (_skipml, _faiss_flat, _faiss_ivf, _faiss_hnsw, _hnswlib, _usearch, _lancedb, _duckdb):
        started = time.perf_counter()
        try:
            settings = list(system(data, k))
        except (ImportError, duckdb.Error) as error:
            absent[system.__name__[1:]] = str(error).splitlines()[0].rpartition("/")[2]
            continue
        builds[settings[0].system] = time.perf_counter() - started
        measured += [measured_of(setting, held_out, truth) for setting in settings]
    try:
        measured += vss.measure(parquet_of(data), PEERS / f"{data.name}-{len(data.base)}.duckdb", held_out, truth)
    except vss.NotMeasuredError as error:
        absent["vss"] = str(error)
    return {
        "queries": len(held_out),
        "measured": [asdict(one) for one in measured],
        "seconds_to_build_or_open": builds,
        "not_measured": absent,
    }


def _skipml(data: Data, k: int) -> Iterator[Setting]:
    index = index_of(data)
    log = np.ascontiguousarray(data.queries[IN_DISTRIBUTION][:LOG])

    def ask(which: VectorIndex, how: dict[str, Any], query: Matrix) -> NDArray[np.int64]:
        return np.asarray(which.search(query, k, **how)["id"].to_numpy())

    def bytes_read(which: VectorIndex, _: Matrix) -> int:
        return which.stats.bytes_read if which.stats is not None else 0

    where = "Parquet, page cache"
    for lists in (2, 4, 8, 16, 32, 64, 128):
        yield Setting(
            "skipml, fixed nprobe",
            str(lists),
            partial(ask, index, {"nprobe": lists}),
            where,
            bytes_read=partial(bytes_read, index),
        )
    for rule in (LEVELED, MARGINAL):
        copy = FOLDER / f"{data.name}-{rule.replace(' ', '-')}.index"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(index.path, copy, copy_function=_linked)
        calibrated = VectorIndex.open(copy)
        for promise in calibrated.calibrate(log, k=k, rule=rule):
            yield Setting(
                f"skipml, {rule}",
                f"recall={promise.target:g}",
                partial(ask, calibrated, {"recall": promise.target}),
                where,
                bytes_read=partial(bytes_read, calibrated),
            )


def _linked(source: str, target: str) -> str:
    """The manifest is replaced by a calibration, the other files never change."""
    os.link(source, target)
    return target


def _faiss_ids(index: Any, k: int, parameters: Any, query: Matrix) -> NDArray[np.int64]:
    return np.asarray(index.search(query[None], k, params=parameters)[1][0])


def _faiss_flat(data: Data, k: int) -> Iterator[Setting]:
    import faiss

    index = faiss.IndexFlatL2(data.base.shape[1])
    index.add(np.ascontiguousarray(data.base))
    yield Setting("faiss IndexFlat", "exact", partial(_faiss_ids, index, k, None), "RAM", SLOW_QUERIES)


def _faiss_ivf(data: Data, k: int) -> Iterator[Setting]:
    import faiss

    path = PEERS / f"ivf-{data.name}-{len(data.base)}.faiss"
    if not path.exists():
        made = faiss.index_factory(data.base.shape[1], f"IVF{_LISTS},Flat")
        made.train(np.ascontiguousarray(data.base))
        made.add(np.ascontiguousarray(data.base))
        faiss.write_index(made, str(path))
    index = faiss.read_index(str(path))
    sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)])

    def read(lists: int, query: Matrix) -> int:
        _, near = index.quantizer.search(query[None], lists)
        return int(sizes[near[0]].sum()) * query.nbytes

    for lists in (2, 4, 8, 16, 32, 64):
        parameters = faiss.SearchParametersIVF(nprobe=lists)
        yield Setting(
            "faiss IVFFlat",
            str(lists),
            partial(_faiss_ids, index, k, parameters),
            "RAM",
            bytes_read=partial(read, lists),
        )


def _faiss_hnsw(data: Data, k: int) -> Iterator[Setting]:
    import faiss

    path = PEERS / f"hnsw-{data.name}-{len(data.base)}.faiss"
    if not path.exists():
        made = faiss.IndexHNSWFlat(data.base.shape[1], 16)
        made.hnsw.efConstruction = 128
        made.add(np.ascontiguousarray(data.base))
        faiss.write_index(made, str(path))
    index = faiss.read_index(str(path))
    for effort in (16, 32, 64, 128, 256):
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        yield Setting(
            "faiss HNSW",
            str(effort),
            partial(_faiss_ids, index, k, parameters),
            "RAM",
        )


def _hnswlib(data: Data, k: int) -> Iterator[Setting]:
    import hnswlib

    index, path = hnswlib.Index("l2", data.base.shape[1]), PEERS / f"{data.name}-{len(data.base)}.hnswlib"
    if path.exists():
        index.load_index(str(path), max_elements=len(data.base))
    else:
        index.init_index(len(data.base), M=16, ef_construction=128, random_seed=1)
        index.add_items(data.base, num_threads=1)
        index.save_index(str(path))
    index.set_num_threads(1)

    def search(effort: int, query: Matrix) -> NDArray[np.int64]:
        index.set_ef(effort)
        return np.asarray(index.knn_query(query, k)[0][0], np.int64)

    for effort in (10, 20, 40, 80, 160, 320):
        yield Setting("hnswlib", str(effort), partial(search, effort), "RAM")


def _usearch(data: Data, k: int) -> Iterator[Setting]:
    from usearch.index import Index

    index: Any = Index(ndim=data.base.shape[1], metric="l2sq", dtype="f32", connectivity=16, expansion_add=128)
    path = PEERS / f"{data.name}-{len(data.base)}.usearch"
    if path.exists():
        index.load(str(path))
    else:
        index.add(np.arange(len(data.base)), np.ascontiguousarray(data.base), threads=1)
        index.save(str(path))

    def search(effort: int, query: Matrix) -> NDArray[np.int64]:
        index.expansion_search = effort
        return np.asarray(index.search(query, k, threads=1).keys, np.int64)

    for effort in (16, 32, 64, 128, 256):
        yield Setting("usearch", str(effort), partial(search, effort), "RAM")


def _lancedb(data: Data, k: int) -> Iterator[Setting]:
    os.environ.setdefault("LANCE_CPU_THREADS", "1")
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    connection = lancedb.connect(PEERS / f"{data.name}-{len(data.base)}.lance")
    if "rows" in connection.table_names():
        table = connection.open_table("rows")
    else:
        table = connection.create_table("rows", table_of(data))
        table.create_index("l2", vector_column_name="vector", index_type="IVF_FLAT", num_partitions=_LISTS)
    for lists in (8, 16, 32, 64):
        yield Setting(
            "lancedb IVF_FLAT",
            str(lists),
            partial(_lance_ids, table, lists, k),
            "disk",
        )


def _lance_ids(table: Any, lists: int, k: int, query: Matrix) -> NDArray[np.int64]:
    found = table.search(query).nprobes(lists).select(["id"]).limit(k).to_arrow()
    return np.asarray(found["id"].to_numpy())


def _duckdb(data: Data, k: int) -> Iterator[Setting]:
    connection = duckdb.connect(config={"threads": 1})
    source = f"'{parquet_of(data)}'"
    yield Setting(
        "DuckDB, brute force on Parquet",
        "exact",
        partial(ask_sql, connection, source, k, ""),
        "Parquet",
        SLOW_QUERIES,
    )
    connection.execute(f"CREATE TABLE rows AS SELECT id, vector::FLOAT[{data.base.shape[1]}] AS vector FROM {source}")
    yield Setting(
        "DuckDB, brute force on a table",
        "exact",
        partial(ask_sql, connection, "rows", k, ""),
        "RAM",
        SLOW_QUERIES,
    )
