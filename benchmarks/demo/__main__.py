"""Runs a filter with a network over TPC-H lineitem, through PyTorch in a DuckDB UDF and through skipml.

usage: python -m benchmarks.demo [--runs 7] [--readme]

Makes its data first (TPC-H SF1, kept under .data/). Prints times, what was scanned and why; writes results/demo.json
and results/demo.png beside this file. Fails if two ways give other rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

import skipml
from benchmarks.demo.measure import Measured, measure
from benchmarks.demo.network import COLUMNS, read_inputs, threshold, torch_scores, trained
from benchmarks.demo.output import plot, print_measured, update_readme, write_json
from benchmarks.demo.systems import systems
from benchmarks.demo.tables import layouts
from benchmarks.environment import environment
from benchmarks.scorer import scorer_outputs
from benchmarks.tpc.data import DATA, ROOT
from benchmarks.tpc.networks import Floats

SELECTIVITY = 0.001
RESULTS = Path(__file__).with_name("results")


def run(console: Console, tables: Mapping[str, Path], onnx_file: Path, n_warm: int) -> list[Measured]:
    """Train or read the network, choose the threshold, measure every layout."""
    torch.set_num_threads(1)  # more only compete with DuckDB's own threads
    table = next(iter(tables.values()))
    with console.status("training the network"):
        network = trained(table, onnx_file)
    model = skipml.Model.load(onnx_file, columns=COLUMNS)
    with console.status("scoring every row to choose the threshold"):
        limit, said = _threshold(network, model, read_inputs(table))
    console.print(said)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    results = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for layout, path in tables.items():
            contenders = systems(network, model)
            task = progress.add_task(layout, total=len(contenders) * (n_warm + 1))
            tick = partial(progress.advance, task)
            results.append(measure(layout, path, contenders, limit, n_warm=n_warm, tick=tick))
    return results


def _threshold(network: nn.Sequential, model: skipml.Model, inputs: Floats) -> tuple[float, str]:
    """The threshold, and why PyTorch and skipml select the same rows with it."""
    theirs = torch_scores(network, inputs)
    limit = threshold(theirs, SELECTIVITY)
    others = model.function.forward(inputs)[:, 0], scorer_outputs(model, inputs)[:, 0]
    difference = max(float(np.abs(ours - theirs).max()) for ours in others)
    distance = np.abs(theirs - np.float32(limit)).min()
    assert difference < distance, f"the scores differ by {difference}, but one is within {distance} of the threshold"
    return limit, (
        f"{len(inputs):,} rows; {int((theirs > limit).sum()):,} score above {limit}.\n"
        f"PyTorch and skipml sum in different orders: their scores differ by at most {difference:.2g}.\n"
        f"No score is nearer to the threshold than {distance:.2g}, so both select the same rows.\n"
    )


def main() -> None:
    """Run the demo as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="warm runs of each way and layout (default 7)")
    parser.add_argument("--readme", action="store_true", help="write the table of figures into README.md")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    tables = layouts()
    results = run(console, tables, DATA / "demo" / "charge.onnx", max(1, options.runs))
    for measured in results:
        print_measured(console, measured)
    found = environment()
    write_json(RESULTS / "demo.json", found, results)
    plot(RESULTS / "demo.png", results)
    if options.readme:
        update_readme(ROOT / "README.md", found, results)
    console.print("Every way gave the same rows. Figures: benchmarks/demo/results/demo.json and demo.png")


if __name__ == "__main__":
    main()
