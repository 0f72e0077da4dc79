"""The figures that a change is judged by, in a few minutes: parts of skipml, a slice of the workload, the demo.

usage: python -m benchmarks.quick

Makes its data first, kept under .data/. The last line of the output is one JSON object: microseconds of each
micro-benchmark per box, row, block or query; the share of the row groups without a qualifying row that is skipped, over
every seventh function of the workload; how many times faster the demo's query is through skipml. Writes nothing. Fails
if a skipped row group holds a qualifying row, or two ways to run the demo's query give other rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from benchmarks.demo.__main__ import run as run_demo
from benchmarks.demo.tables import layouts
from benchmarks.effectiveness.run import run as run_effectiveness
from benchmarks.effectiveness.summary import summary
from benchmarks.effectiveness.workload import load_workload
from benchmarks.environment import environment
from benchmarks.tpc.data import DATA, ROOT

_BENCHMARK = ("--benchmark-enable", "--benchmark-only", "--benchmark-max-time=0.3", "--benchmark-min-rounds=3")
_EVERY = 7
_SHOWN = ("cases", "skippable", "mean_effectiveness", "us_per_row_group", "unsound_row_groups")
_DEMO_RUNS = 5


def micro() -> dict[str, float]:
    """Microseconds of each micro-benchmark, by its name, on one thread."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "benchmarks.json"
        command = [sys.executable, "-m", "pytest", "--quiet", "benchmarks/micro", *_BENCHMARK]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([*command, f"--benchmark-json={output}"], cwd=ROOT, env={**os.environ, **threads}, check=True)
        found = json.loads(output.read_text())["benchmarks"]
    return {each["name"].removeprefix("test_"): each["extra_info"]["us_each"] for each in found}


def effectiveness(console: Console) -> dict[str, float]:
    """The summary of every seventh function of the workload."""
    workload = load_workload()
    workload.functions[:] = workload.functions[::_EVERY]
    found = summary(run_effectiveness(workload, console))
    if found["unsound_row_groups"]:
        sys.exit(f"a skipped row group holds a qualifying row: {found}")
    return {name: found[name] for name in _SHOWN}


def demo(console: Console) -> dict[str, dict[str, float]]:
    """By layout of the demo's table: seconds through PyTorch and through skipml, and their ratio."""
    measured = run_demo(console, layouts(), DATA / "demo" / "charge.onnx", _DEMO_RUNS)
    return {
        each.layout: {
            "pytorch_seconds": round(each.runs[0].median, 4),
            "skipml_seconds": round(each.runs[-1].median, 4),
            "times_faster": round(each.speedup, 2),
        }
        for each in measured
    }


def main() -> None:
    """Measure and print."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    console = Console(stderr=True)
    figures: dict[str, Any] = {"environment": environment(), "micro_us": micro()}
    figures["effectiveness"] = effectiveness(console)
    figures["demo"] = demo(console)
    print(json.dumps({**figures, "seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
