"""Runs the published workload over the functions of a suite and writes what it finds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environment import environment
from benchmarks.tpc.published.endtoend import Timing, timings
from benchmarks.tpc.published.measure import Figure, Network, figures, n_methods, network
from benchmarks.tpc.published.plots import plot
from benchmarks.tpc.published.sizes import plot_sizes, sizes
from benchmarks.tpc.published.summary import Results, print_summary
from benchmarks.tpc.published.workload import HIDDEN, functions

_QUICK_FUNCTIONS = 1


def run(suite: str, results: Path, *, seed: int = 0, quick: bool = False, console: Console) -> dict[str, Any]:
    """Measure, print and write results/published.json and published.png; `quick` takes one function and writes nothing.

    Raises AssertionError for a wrong decision, or where two ways give other rows.
    """
    torch.set_num_threads(1)
    about = environment()
    found = functions(suite)
    if quick:
        found = [function for function in found if not function.classes][:_QUICK_FUNCTIONS]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    all_figures: list[Figure] = []
    all_timings: list[Timing] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(found) * len(HIDDEN) * (n_methods + 1))
        for function in found:
            for depth in HIDDEN:
                progress.update(task, description=f"{function.name}, {depth}")
                net = network(function, depth, seed)
                if net is None:
                    console.print(f"{function.name}: {function.table} has no block of rows after those to train on")
                    break
                all_figures += figures(net, lambda: progress.advance(task))
                all_timings += _timings(net, seed)
                progress.advance(task)
    measured = Results(tuple(all_figures), tuple(all_timings))
    print_summary(console, measured)
    by_size = sizes(seed)
    record = {
        "environment": about,
        "seed": seed,
        "sizes": [asdict(size) for size in by_size],
        "figures": [asdict(figure) for figure in all_figures],
        "timings": [asdict(timing) for timing in all_timings],
    }
    if not quick:
        results.mkdir(exist_ok=True)
        (results / "published.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(measured, results / "published.png")
        plot_sizes(by_size, results / "sizes.png")
        console.print(f"wrote {results}/published.json, published.png and sizes.png")
    return record


def _timings(net: Network, seed: int) -> list[Timing]:
    return [] if net.function.classes else list(timings(net, seed))
