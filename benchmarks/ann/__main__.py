"""Measures learned pruning against a fixed number of lists and SPANN's rule, and the index against its peers.

usage: python -m benchmarks.ann [pruning] [peers] [--data embeddings clusters] [--readme] [--output FOLDER]

Makes its data first (see benchmarks.ann.data). Writes pruning.json, peers.json and pictures into results/ beside this
file.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.ann import output, peers, pruning
from benchmarks.ann.data import clusters, embeddings, index_of
from benchmarks.ann.lists import Searches, lists_of, search
from benchmarks.ann.pruning import Reading
from benchmarks.environment import environment

RESULTS = Path(__file__).with_name("results")
K = 10
DATA = {"embeddings": embeddings, "clusters": clusters}


def measure_pruning(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """All figures of pruning, and their pictures."""
    found: dict[str, Any] = {"environment": environment(), "k": K, "data": {}}
    for data in (DATA[name]() for name in names):
        lists = lists_of(index_of(data))
        searches = {group: search(lists, np.asarray(queries), K) for group, queries in data.queries.items()}
        figures, readings = pruning_of(searches)
        found["data"][data.name] = {
            "rows": len(data.base),
            "dimension": data.base.shape[1],
            "lists": len(lists.centroids),
            "queries": {group: len(one.found) for group, one in searches.items()},
            **figures,
        }
        output.plot_pruning(folder / f"pruning-{data.name}.png", readings)
    return found


def pruning_of(searches: dict[str, Searches]) -> tuple[dict[str, Any], dict[str, dict[str, Reading]]]:
    """The figures of one table, whose first group of queries is also the log that rules learn from."""
    groups = list(searches)
    first = searches[groups[0]]
    order = np.random.default_rng(11).permutation(len(first.found))
    log, later = order[: pruning.TRAINING], order[pruning.TRAINING :]
    models = pruning.train(first, log)
    held_out = Searches(first.trace.take(later), first.found[later])
    readings = {group: pruning.readings(searches[group], models) for group in groups[1:]}
    readings = {groups[0]: pruning.readings(held_out, models), **readings}
    figures = {
        "trained_on": len(log),
        "seconds_per_prediction": pruning.seconds_per_prediction(held_out, models),
        "one_distribution": pruning.one_distribution(readings[groups[0]], held_out.trace.sizes),
        "mixed": pruning.mixed(list(readings.values())),
        "promises": pruning.promises(readings[groups[0]]),
        "against_lightgbm": pruning.against_lightgbm(first, log, later),
    }
    return figures, readings


def main() -> None:
    """Measure and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ann", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["pruning", "peers"], default=["pruning", "peers"])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), help="tables to prune (all)")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md beside this file")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    faiss.omp_set_num_threads(1)
    if "pruning" in options.parts:
        found = measure_pruning(options.output, options.data)
        output.write_json(options.output / "pruning.json", found)
        if options.readme:
            output.update(Path(__file__).with_name("README.md"), "pruning", output.pruning_tables(found))
    if "peers" in options.parts:
        data = embeddings()
        found = {"environment": environment() | versions(), "k": K, "data": data.name, **peers.measure(data, K)}
        output.write_json(options.output / "peers.json", found)
        output.plot_peers(options.output / "peers.png", found)
        if options.readme:
            output.update(Path(__file__).with_name("README.md"), "peers", output.peers_table(found))


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {}
    for name in ("faiss-cpu", "hnswlib", "usearch", "lancedb", "pylance", "lightgbm"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    main()
