"""Measures what Ray on two processors gains over one process for enrichment, scans of a plan and index builds.

usage: python -m benchmarks.distributed [--repeat 2] [--output FOLDER]

Makes its data first (TPC-H SF1, kept under .data/). Writes results/distributed.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.distributed.cases import Run, enrichment, index_build, scan
from benchmarks.environment import environment

RESULTS = Path(__file__).with_name("results")
CPUS = 2
TARGET = 1.6
"""Times as fast as one process, for the enrichment of 20 files or more."""
_STORE_BYTES = 500 << 20


def connect() -> float:
    """Start Ray and its workers -> seconds."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 Ray's workers would give way to whatever else runs here
    import ray
    import ray.data

    from skipml.engines.ray_executor import RayExecutor

    start = time.perf_counter()
    ray.init(
        num_cpus=CPUS,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.range(CPUS).materialize()
    for call in [RayExecutor().submit(_imported, 2.0) for _ in range(CPUS)]:
        call.result()
    return time.perf_counter() - start


def _imported(seconds: float) -> None:
    """Keeps a worker for a while, so that the next call goes to another."""
    import ray.data  # noqa: F401

    import skipml.ann.index  # noqa: F401

    time.sleep(seconds)


def measured(run: Run, repeat: int, tick: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of every way, by turns, and the best of each against the first."""
    seconds: dict[str, list[float]] = {name: [] for name in run.ways}
    details: dict[str, Any] = {}
    contents = {}
    for _ in range(repeat):
        for name, way in run.ways.items():
            start = time.perf_counter()
            found = way()
            seconds[name].append(round(time.perf_counter() - start, 4))
            details[name] = found.details
            contents[name] = found.content
            tick(f"{run.name}: {name}")
    first = next(iter(run.ways))
    best = {name: min(times) for name, times in seconds.items()}
    return {
        "seconds": seconds,
        "times_as_fast": {name: round(best[first] / best[name], 2) for name in run.ways},
        "same_as_the_first": {name: content == contents[first] for name, content in contents.items()},
        "details": details,
    }


def print_figures(console: Console, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each way of each case."""
    table = Table("", "", "seconds", "times as fast", "the same", "besides", box=SIMPLE)
    for column in table.columns[2:4]:
        column.justify = "right"
    for case, found in cases.items():
        for name, seconds in found["seconds"].items():
            besides = ", ".join(f"{key} {value}" for key, value in found["details"][name].items())
            ratio, same = f"{found['times_as_fast'][name]:.2f}", str(found["same_as_the_first"][name])
            table.add_row(case, name, f"{min(seconds):.2f}", ratio, same, besides)
    console.print(table)


def main() -> None:
    """Measure every case, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=2, help="runs of each case; the best counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    about = environment() | {"ray": version("ray"), "ray_cpus": CPUS}
    start_seconds = round(connect(), 2)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        runs = [*enrichment(Path(folder)), scan(), index_build(Path(folder))]
        task = bar.add_task("", total=options.repeat * sum(len(run.ways) for run in runs))
        cases = {
            run.name: measured(run, options.repeat, lambda what: bar.update(task, advance=1, description=what))
            for run in runs
        }
    print_figures(console, cases)
    reached = {
        name: max(ratio for way, ratio in found["times_as_fast"].items() if way.startswith("Ray"))
        for name, found in cases.items()
    }
    met = {name: ratio >= TARGET for name, ratio in reached.items() if name.startswith("enrich")}
    console.print(f"Ray was ready after {start_seconds} s; targets met: {met}", highlight=False)
    options.output.mkdir(parents=True, exist_ok=True)
    record = {"environment": about, "ray_start_seconds": start_seconds, "targets_met": met, "cases": cases}
    (options.output / "distributed.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"wrote {options.output}/distributed.json")


if __name__ == "__main__":
    main()
