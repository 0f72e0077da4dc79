"""Kills writers of metadata and of clustered tables at random moments, and checks what they leave.

usage: python -m benchmarks.kills [--count 200] [--seed 0] [--output FOLDER]

Writes results/kills.json. Fails if a file is damaged, a skip is wrong or something is left after a run that ends.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.kills.checks import Findings, check, leftovers
from benchmarks.kills.lake import Lake
from benchmarks.kills.worker import IDLE
from benchmarks.tpc.data import ROOT

RESULTS = Path(__file__).with_name("results")
LONGEST_SECONDS = 0.6


def kill_one(lake: Lake, seed: int, seconds: float) -> str:
    """Start a worker, kill it so long after it is ready; returns the operation that was going on."""
    with _worker(lake, seed) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        time.sleep(seconds)
        failed = process.poll() is not None
        process.kill()
        said = (ready + process.stdout.read()).split("\n")
    if failed or not ready:
        raise RuntimeError(f"the worker with seed {seed} ended by itself; its output is above")
    return said[-2]  # after the last line feed is nothing, or the line that the kill cut off


def run(lake: Lake, count: int, seed: int, progress: Progress) -> dict[str, Any]:
    """Kill workers and check after each, then let one end; returns the figures."""
    rng = random.Random(seed)
    expected, found, during = lake.write(), Findings(), Counter[str]()
    for i in progress.track(range(count), description="killing"):
        during[kill_one(lake, seed + i, rng.uniform(0, LONGEST_SECONDS))] += 1
        findings = check(lake, expected)
        findings.problems = [f"kill {i}: {problem}" for problem in findings.problems]
        found.add(findings)
    before = len(leftovers(lake))
    with _worker(lake, seed, "--once") as process:
        process.communicate()
    after = check(lake, expected)
    found.problems += [f"after the clean run: {problem}" for problem in after.problems]
    found.problems += [f"after the clean run: {path.name} is left" for path in leftovers(lake)]
    if process.returncode:
        found.problems.append(f"the clean run ended with status {process.returncode}")
    return {
        "kills": count,
        "during": dict(sorted(during.items())),
        "metadata_states": dict(sorted(found.metadata.items())),
        "decisions_checked": dict(sorted(found.decisions.items())),
        "leftovers_before_clean_run": before,
        "leftovers_after_clean_run": after.leftovers,
        "problems": found.problems,
    }


def _worker(lake: Lake, seed: int, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.kills.worker", str(lake.folder), str(seed), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def print_figures(console: Console, figures: dict[str, Any]) -> None:
    """Print what was killed and found."""
    table = Table("", "", box=None, show_header=False)
    for name in ("during", "metadata_states", "decisions_checked"):
        for key, number in figures[name].items():
            title = "between two operations" if key == IDLE else key
            table.add_row(f"{name.replace('_', ' ')}: {title}", f"{number:,}")
    for name in ("kills", "leftovers_before_clean_run", "leftovers_after_clean_run"):
        table.add_row(name.replace("_", " "), f"{figures[name]:,}")
    table.add_row("problems", f"{len(figures['problems']):,}")
    console.print(table)
    for problem in figures["problems"]:
        console.print(f"  {problem}", markup=False)


def main() -> None:
    """Kill, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=200, help="how many workers to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the operations and the moments")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 100)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        figures = run(Lake(Path(folder)), options.count, options.seed, progress)
    print_figures(console, figures)
    options.output.mkdir(parents=True, exist_ok=True)
    record = {"environment": environment(), "seed": options.seed, "seconds": round(time.perf_counter() - started)}
    (options.output / "kills.json").write_text(json.dumps(record | figures, indent=1) + "\n")
    console.print(f"wrote {options.output}/kills.json")
    if figures["problems"]:
        sys.exit("a killed writer left something wrong: this is a bug, please report it with the results file")


if __name__ == "__main__":
    main()
