"""Runs the published workload over the functions of a suite and writes what it finds."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environment import environment
from benchmarks.tpc.published.endtoend import timings
from benchmarks.tpc.published.measure import figures, network
from benchmarks.tpc.published.plots import plot
from benchmarks.tpc.published.sizes import plot_sizes, sizes
from benchmarks.tpc.published.summary import Results, print_summary
from benchmarks.tpc.published.workload import HIDDEN, Function, functions

_QUICK_FUNCTIONS = 1


def run(
    suite: str, results: Path, *, seed: int = 0, jobs: int = 1, quick: bool = False, console: Console
) -> dict[str, Any]:
    """Measure, print and write results/published.json and published.png; `quick` takes one function and writes nothing.
    So many networks are measured at a time as there are `jobs`: more than one disturb each other's times.

    Raises AssertionError for a wrong decision, or where two ways give other rows.
    """
    about = environment()
    found = functions(suite)
    if quick:
        found = [function for function in found if not function.classes][:_QUICK_FUNCTIONS]
    wanted = [_Wanted(function, depth, seed) for function in found for depth in HIDDEN]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    measured = Results((), ())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool,
    ):
        task = progress.add_task(f"{suite}: published workload", total=len(wanted))
        for part in pool.map(_measured, wanted):
            measured = Results(measured.figures + part.figures, measured.timings + part.timings)
            progress.advance(task)
    print_summary(console, measured)
    by_size = sizes(seed)
    record = {
        "environment": about,
        "seed": seed,
        "jobs": jobs,
        "sizes": [asdict(size) for size in by_size],
        "figures": [asdict(figure) for figure in measured.figures],
        "timings": [asdict(timing) for timing in measured.timings],
    }
    if not quick:
        results.mkdir(exist_ok=True)
        (results / "published.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(measured, results / "published.png")
        plot_sizes(by_size, results / "sizes.png")
        console.print(f"wrote {results}/published.json, published.png and sizes.png")
    return record


@dataclass(frozen=True, slots=True)
class _Wanted:
    function: Function
    depth: str
    seed: int


def _measured(wanted: _Wanted) -> Results:
    """The figures of one network; none of a table without a block of rows after those to train on."""
    net = network(wanted.function, wanted.depth, wanted.seed)
    if net is None:
        return Results((), ())
    timed = () if net.function.classes else tuple(timings(net, wanted.seed))
    return Results(tuple(figures(net)), timed)
