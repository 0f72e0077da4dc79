"""Filtered search against DuckDB's exact filtered scan: rows found, recall, time.

usage: python -m benchmarks.ann.filtered [--queries N] [--output results.json]

Each query is asked alone, with one thread, through SQL on a connection, its condition evaluated each time. DuckDB scans
the same rows in one Parquet file, compressed, and in a table of its own in memory. The vector is a literal of text,
which DuckDB binds fastest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

import skipml
from benchmarks.ann.data import Matrix
from benchmarks.ann.filtered_data import Filtered, filtered
from benchmarks.environment import environment

K, RECALL = 10, 0.95
RESULTS = Path(__file__).parent / "results" / "filtered.json"
_INPUTS = ["a", "b", "c"]


def cases(data: Filtered, model: skipml.Model) -> list[tuple[str, str, Matrix]]:
    """A name, the condition and the queries."""
    scores = _scores(data, model)
    found = [(f"random {share / 10:g} %", f"share < {share}", data.queries) for share in (500, 100, 10, 1)]
    found += [(f"anti-correlated {share / 10:g} %", f"along < {share}", data.far) for share in (500, 80, 10)]
    found += [("correlated 8 %", "along >= 920", data.far)]
    for share in (0.1, 0.01):
        limit = float(np.quantile(scores, 1 - share))
        found.append((f"model {100 * share:g} %", f"score(a, b, c) > {limit!r}::FLOAT", data.queries))
    return found


def small_network() -> skipml.Model:
    """A model of three columns."""
    torch.manual_seed(5)
    layers = [torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)]
    return skipml.Model.from_torch(torch.nn.Sequential(*layers), columns=_INPUTS)


def _scores(data: Filtered, model: skipml.Model) -> NDArray[np.float64]:
    with skipml.connect() as con:
        con.register_model("score", model)
        rows = con.execute(f"SELECT score(a, b, c) AS s FROM '{data.parquet}'").fetchnumpy()
    return np.asarray(rows["s"], np.float64)


def measure(ask: Callable[[Matrix], list[tuple[Any, ...]]], queries: Matrix) -> tuple[list[set[int]], float]:
    """The rows of each query, and the median seconds of one; the first is a warm-up."""
    ask(queries[0])
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        rows = ask(query)
        seconds.append(time.perf_counter() - start)
        found.append({int(row[0]) for row in rows})
    return found, float(np.median(seconds))


def run(n_queries: int) -> list[dict[str, Any]]:
    """One row of figures per case."""
    data, model = filtered(), small_network()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    con = skipml.connect(config={"threads": 1})
    con.register_index("docs", data.index)
    con.register_model("score", model)
    con.execute(f"CREATE TABLE held AS SELECT * REPLACE (vector::FLOAT[384] AS vector) FROM '{data.parquet}'")
    con.set_recall(RECALL)
    results = []
    for name, condition, queries in cases(data, model):
        mine = queries[:n_queries]

        def ask(query: Matrix, table: str, condition: str = condition) -> list[tuple[Any, ...]]:
            text = "[" + ",".join(map(repr, query.tolist())) + "]"
            far = f"array_distance(vector::FLOAT[384], '{text}'::FLOAT[384])"
            rows: list[tuple[Any, ...]] = con.execute(
                f"SELECT id FROM {table} WHERE {condition} ORDER BY {far} LIMIT {K}"
            ).fetchall()
            return rows

        found, seconds = measure(lambda query: ask(query, "docs"), mine)
        report = con.last_report
        con.skipping = False
        few = mine[: max(3, n_queries // 4)]
        _, scanned = measure(lambda query: ask(query, f"'{data.parquet}'"), few)
        truth, in_table = measure(lambda query: ask(query, "held"), mine)
        con.skipping = True
        passing = con.execute(f"SELECT count(*) FROM held WHERE {condition}").fetchall()[0][0]
        hits = [len(a & b) / max(len(b), 1) for a, b in zip(found, truth, strict=True)]
        results.append(
            {
                "case": name,
                "passing": int(passing),
                "queries": len(mine),
                "least_rows": min(map(len, found)),
                "recall": round(float(np.mean(hits)), 4),
                "ms": round(1000 * seconds, 2),
                "duckdb_parquet_ms": round(1000 * scanned, 2),
                "duckdb_table_ms": round(1000 * in_table, 2),
                "against_parquet": round(seconds / scanned, 3),
                "against_table": round(seconds / in_table, 3),
                "guarantee": report.notes[0] if report is not None and report.notes else "",
                "lists_skipped": report.counters.get("skipped", 0) if report is not None else 0,
            }
        )
        print(json.dumps(results[-1]), flush=True)
    con.close()
    return results


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    filtered()
    record = {"environment": {**environment(), "faiss": faiss.__version__}, "k": K, "target": RECALL}
    record["cases"] = run(arguments.queries)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
