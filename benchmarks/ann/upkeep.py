"""What an index costs beside its answers: the scan in place against lists in memory, private memory, and a compaction
after drifted appends against a rebuild.

usage: python -m benchmarks.ann.upkeep [--output FOLDER]

Makes its data first (see benchmarks.ann.data). Writes upkeep.json into results/ beside this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.ann.data import FOLDER, Data, Matrix, embeddings, index_of
from benchmarks.environment import environment
from skipml import VectorIndex
from skipml.ann.scan import lists_in_place, preassigned

RESULTS = Path(__file__).with_name("results")
K, NPROBE, QUERIES, RUNS, RECALL = 10, 32, 200, 7, 0.95
_MEMORY = """
import sys
import faiss, numpy as np
from skipml import VectorIndex

def private():  # not the page cache: pages of a mapped file that nobody else has mapped are clean
    lines = open("/proc/self/smaps_rollup").readlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

queries = np.load(sys.argv[2])
VectorIndex.open(sys.argv[3]).search(queries[0], k=10, nprobe=4)  # so that code and libraries are there
before = private()
index = VectorIndex.open(sys.argv[1])
for query in queries:
    index.search(query, k=10, nprobe=16)
print(private() - before)
"""


def scan_in_place(data: Data) -> dict[str, Any]:
    """faiss over the vectors of the lists where they lie in the Parquet file, and over copies of them in memory."""
    snapshot = index_of(data).snapshot
    reader, segment, centroids = snapshot.readers[0], snapshot.manifest.segments[0], snapshot.manifest.centroids
    n_lists, width = centroids.shape
    quantizer = faiss.IndexFlatL2(width)
    quantizer.add(centroids)
    held, mapped = (faiss.IndexIVFFlat(quantizer, width, n_lists) for _ in range(2))
    for number in range(n_lists):
        rows = np.ascontiguousarray(reader.list_vectors(number))
        ids = np.arange(len(rows), dtype=np.int64) + int(reader.starts[number])
        if len(rows):
            held.invlists.add_entries(number, len(rows), faiss.swig_ptr(ids), faiss.swig_ptr(rows.view(np.uint8)))
    in_place = lists_in_place(reader.rows.path, segment.columns[snapshot.manifest.column])  # faiss does not own them
    mapped.replace_invlists(in_place, False)
    held.ntotal = mapped.ntotal = len(data.base)
    queries = np.asarray(next(iter(data.queries.values()))[:QUERIES], np.float32)
    route, lists = quantizer.search(queries, NPROBE)

    def found(index: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return preassigned(index, queries, lists, route, K, is_coded=False, in_pairs=True)

    one, other = found(held), found(mapped)
    same = np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    seconds: dict[str, list[float]] = {"memory": [], "file": []}
    for _ in range(RUNS):
        for name, index in (("memory", held), ("file", mapped)):
            start = perf_counter()
            found(index)
            seconds[name].append(perf_counter() - start)
    each = {f"us_in_{name}": round(1e6 * median(took) / QUERIES, 1) for name, took in seconds.items()}
    return {"nprobe": NPROBE, "same": same, **each, "ratio": round(each["us_in_file"] / each["us_in_memory"], 3)}


def private_memory(data: Data) -> dict[str, Any]:
    """Of a process that opens the index and searches it, beyond what it has after one search of a small index."""
    index_of(data)
    queries = FOLDER / "upkeep-queries.npy"
    np.save(queries, np.asarray(next(iter(data.queries.values()))[:QUERIES], np.float32))
    path = FOLDER / f"{data.name}-{len(data.base)}.index"
    small = FOLDER / "upkeep-small.index"
    shutil.rmtree(small, ignore_errors=True)
    VectorIndex.build(_table(data.base, np.arange(500)), column="vector", path=small)
    command = [sys.executable, "-c", _MEMORY, str(path), str(queries), str(small)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"private_bytes": grown, "share_of_vectors": round(grown / data.base.nbytes, 4)}


def compaction(data: Data) -> dict[str, Any]:
    """Rows that a search reads at the recall: of an index of 70 % of the rows, to which those that lie furthest along
    the first principal direction were appended in three parts and which was compacted, and of one of all rows.
    """
    base = np.asarray(data.base, np.float32)
    along = (base - base.mean(0)) @ np.linalg.svd(base[::20] - base.mean(0), full_matrices=False)[2][0]
    order = np.argsort(along)
    split = int(0.7 * len(base))
    early, late = np.sort(order[:split]), order[split:]
    folder = FOLDER / "upkeep"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changed = VectorIndex.build(_table(base, early), column="vector", path=folder / "changed.index")
    for part in np.array_split(late, 3):
        changed.append(_table(base, part))
    start = perf_counter()
    changed.compact()
    took = perf_counter() - start
    rebuilt = VectorIndex.build(_table(base, np.arange(len(base))), column="vector", path=folder / "rebuilt.index")
    groups = {name: np.asarray(queries[:QUERIES], np.float32) for name, queries in data.queries.items()}
    read = {name: [_rows_read(index, q) for index in (changed, rebuilt)] for name, q in groups.items()}
    shutil.rmtree(folder)
    figures = {n: {"compacted": c, "rebuilt": r, "more": round(c / r - 1, 3)} for n, (c, r) in read.items()}
    return {"appended": len(late), "seconds_to_compact": round(took, 1), "rows_read": figures}


def _table(base: Matrix, rows: NDArray[np.int64]) -> pa.Table:
    values = pa.array(np.ascontiguousarray(base[rows], np.float32).ravel())
    return pa.table({"id": pa.array(rows), "vector": pa.FixedSizeListArray.from_arrays(values, base.shape[1])})


def _rows_read(index: VectorIndex, queries: Matrix) -> float:
    """Rows of the fewest lists that reach the recall, per query."""
    true = index.search(queries, k=K, exact=True)["id"].to_numpy().reshape(len(queries), K)
    low, high, read = 1, len(index.snapshot.manifest.centroids), 0.0
    while low < high:
        nprobe = (low + high) // 2 if high <= 4 * low else 2 * low
        found = index.search(queries, k=K, nprobe=nprobe)["id"].to_numpy().reshape(len(queries), K)
        hits = sum(len(np.intersect1d(one, other)) for one, other in zip(found, true, strict=True))
        stats = index.stats
        assert stats is not None
        if hits < RECALL * true.size:
            low = nprobe + 1
        else:
            high, read = nprobe, float(stats.scanned) / len(queries)
    return read


def main() -> None:
    """Measure and write as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ann.upkeep", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    data = embeddings()
    parts = (scan_in_place, private_memory, compaction)
    found = {"environment": environment(), "k": K, "recall": RECALL, **{p.__name__: p(data) for p in parts}}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "upkeep.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({part.__name__: found[part.__name__] for part in parts}, indent=1))


if __name__ == "__main__":
    main()
