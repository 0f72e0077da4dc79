"""What metadata lets heads over embeddings skip.

usage: python -m benchmarks.embeddings [--rows N]

Writes results/embeddings.json, the tables of README.md and results/embeddings.png. The embeddings are those of
benchmarks/ann, which makes them once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import skipml
from benchmarks.embeddings.data import INDEX, LISTS, ORDERS, SIZES, Matrix, file, rows
from benchmarks.embeddings.heads import KINDS, SELECTIVITIES, Head, cosine, heads
from benchmarks.embeddings.output import figure, text
from benchmarks.embeddings.skipping import Table, shares
from benchmarks.environment import environment
from benchmarks.readme import replace_section

HERE = Path(__file__).parent
_CODED = ("512", LISTS)
"""Where what is known of rows is measured."""
_RUNS, _SLAB = 5, 2048


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embeddings")
    parser.add_argument("--rows", type=int, default=None, help="so many rows, at equal distances")
    arguments = parser.parse_args()
    data = rows()
    if arguments.rows is not None:
        data = data.take(arguments.rows)
    models = heads(data)
    print(f"{len(models)} heads are trained", flush=True)
    before = [model for head in models for model in head.before.values()]
    found: dict[str, Any] = {
        "environment": environment(),
        "rows": len(data.topics),
        "heads": {kind: sum(head.kind == kind for head in models) for kind in KINDS},
        "cosines": _cosines(models),
        "skipped": {},
        "row_groups": {},
    }
    for size in SIZES:
        for order in ORDERS if size != LISTS else (INDEX,):
            table = Table(file(data.vectors, order, size), before)
            mine = shares(table, models, by_row=size in _CODED)
            found["skipped"].setdefault(size, {})[order] = mine
            found["row_groups"].setdefault(size, {})[order] = len(table.sizes)
            print(size, order, json.dumps(mine), flush=True)
    found["seconds"] = _seconds(data.vectors, models[0])
    found["products"] = products(data.vectors)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "embeddings.json").write_text(json.dumps(found, indent=1) + "\n")
    replace_section(HERE / "README.md", "<!-- results -->", "<!-- end of results -->", text(found))
    figure(found, HERE / "results" / "embeddings.png")


def _cosines(models: list[Head]) -> dict[str, float]:
    first = [head for head in models if head.before]
    return {name: float(np.mean([cosine(head, head.before[name]) for head in first])) for name in first[0].before}


def _seconds(vectors: Matrix, head: Head) -> dict[str, float]:
    """End to end in DuckDB: medians of warm runs, by what is stored, over row groups of 512 rows as an index has them;
    over the table of an index, with its balls and without.
    """
    limit = head.limit(SELECTIVITIES[0])
    path = file(vectors, INDEX, "512")
    found, sidecar = {}, Path(f"{path}.skipml")
    settings: dict[str, Callable[[], object] | None] = {
        "skipping off": None,
        "ball and PCA box of 16": lambda: skipml.enrich(path, columns=["embedding"]),
        "scores of the model": lambda: skipml.enrich(path, columns=["embedding"], models=[head.model]),
    }
    for name, enrich in settings.items():
        sidecar.unlink(missing_ok=True)
        if enrich is not None:
            enrich()
        with skipml.connect() as con:
            con.register_model("head", head.model)
            con.skipping = enrich is not None
            sql = f"SELECT count(*) FROM '{path}' WHERE head(embedding) > {limit!r}"
            found[name] = _median(lambda con=con, sql=sql: con.execute(sql).fetchall())  # type: ignore[misc]
    sidecar.unlink(missing_ok=True)
    with skipml.connect() as con:
        con.register_model("head", head.model)
        con.register_index("docs", skipml.VectorIndex.open(file(vectors, INDEX, LISTS).parent))
        sql = f"SELECT count(*) FROM docs WHERE head(embedding) > {limit!r}"
        for name, skipping in (("an index, skipping off", False), ("an index, its balls", True)):
            con.skipping = skipping
            found[name] = _median(lambda con=con, sql=sql: con.execute(sql).fetchall())  # type: ignore[misc]
    return found


def products(vectors: Matrix) -> dict[str, float]:
    """What one product of all vectors, and of codes of them, with a head's weights takes in numpy."""
    codes = np.rint(vectors * 127).astype(np.int8)
    weight = np.ones((vectors.shape[1], 1), np.float32)
    starts = range(0, len(vectors), _SLAB)
    return {
        "of the vectors": _median(lambda: [vectors[i : i + _SLAB] @ weight for i in starts]),
        "of 8-bit codes": _median(lambda: [codes[i : i + _SLAB].astype(np.float32) @ weight for i in starts]),
    }


def _median(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(1 + _RUNS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


if __name__ == "__main__":
    main()
