"""Plans a model filter over lakes of 1,000 to 10,000 files with 20 row groups each, with a metadata cache and without.

usage: python -m benchmarks.lake [--runs 3] [--files 1000 3000 10000] [--output FOLDER]

Generates the files first (kept under .data/lake, 200 MB for 10,000). Every plan is made in a process of its own, whose
imports do not count: without a cache, by making one, and from it; each once more on what the process knows by then.
Writes lake.json and lake.png into results/ beside this file. Fails where plans differ, or one from the cache of 10,000
files takes more than 2 s or 1 GB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.lake.files import ROW_GROUPS, lake
from benchmarks.lake.plot import plot
from benchmarks.tpc.data import ROOT

RESULTS = Path(__file__).with_name("results")
MOST_SECONDS, MOST_MIB = 2.0, 1024
_MODES = {"uncached": "no cache", "building": "making the cache", "cached": "from the cache"}


def measure(n_files: int, runs: int, folder: Path) -> list[dict[str, Any]]:
    """The plans over so many files in each mode, medians over the runs."""
    found = []
    for mode in _MODES:
        cache = folder / f"{n_files}.skipml-cache"
        taken = []
        for _ in range(runs):
            if mode == "building":
                cache.unlink(missing_ok=True)
            taken.append(_one(n_files, cache if mode != "uncached" else None))
        middle = {key: statistics.median(run[key] for run in taken) for key in ("seconds", "again_seconds", "peak_mib")}
        facts = {"files": n_files, "row_groups": n_files * ROW_GROUPS, "mode": mode, **middle, "plan": taken[0]["plan"]}
        found.append({**facts, "cache_bytes": cache.stat().st_size if cache.exists() else 0, "runs": taken})
    return found


def _one(n_files: int, cache: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.lake.worker", str(n_files), *([str(cache)] if cache else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def failures(found: list[dict[str, Any]]) -> list[str]:
    """What is not as it has to be."""
    wrong = []
    for n_files in {case["files"] for case in found}:
        left = {case["plan"]["left"][0] for case in found if case["files"] == n_files}
        if len(left) > 1:
            wrong.append(f"{n_files} files: plans leave different row groups: {sorted(left)}")
    slow = [case for case in found if case["seconds"] > MOST_SECONDS or case["peak_mib"] > MOST_MIB]
    return wrong + [
        f"{case['files']} files from the cache: {case['seconds']:.2f} s, {case['peak_mib']:.0f} MiB"
        for case in slow
        if case["mode"] == "cached"
    ]


def print_found(console: Console, found: list[dict[str, Any]]) -> None:
    """One row per number of files and mode."""
    table = Table(
        "files", "row groups", "plan", "seconds", "again", "peak MiB", "files out", "row groups left", "cache"
    )
    for case in found:
        numbers = f"{case['files']:,}", f"{case['row_groups']:,}"
        times = f"{case['seconds']:.2f}", f"{case['again_seconds']:.2f}", f"{case['peak_mib']:.0f}"
        left = f"{case['plan']['files_out']:,}", f"{case['plan']['left'][0]:,}"
        table.add_row(*numbers, _MODES[case["mode"]], *times, *left, f"{case['cache_bytes']:,}")
    console.print(table)


def main() -> None:
    """Measure, print and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lake", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="processes per case (default 3)")
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 3000, 10_000], help="sizes of the lake")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    lake(max(options.files))
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for n_files in sorted(options.files):
            found += measure(n_files, max(1, options.runs), Path(folder))
            console.print(f"{n_files:,} files: done")
    print_found(console, found)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "lake.json").write_text(
        json.dumps({"environment": environment(), "cases": found}, indent=1) + "\n"
    )
    plot(found, options.output / "lake.png")
    if wrong := failures(found):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
