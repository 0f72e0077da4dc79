"""Runs model filters over the whole tables of TPC-H or TPC-DS, end to end.

usage: python -m benchmarks.tpc.tables (tpch|tpcds) [--scale 1] [--seed 0] [--runs 3] [--quick]

Makes the data first. Prints every filter and system, and writes results/tables.json, tables.png and systems.png of the
suite. Fails if two ways give other rows.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks.tpc.tables.run import run
from benchmarks.tpcds.models import SUITE as TPCDS
from benchmarks.tpch.models import SUITE as TPCH


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tpc.tables", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("suite", choices=("tpch", "tpcds"))
    parser.add_argument("--scale", type=float, default=1, help="scale factor in GB (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the networks (default 0)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="warm runs of each way (default 3)")
    parser.add_argument("--quick", action="store_true", help="one table and two selectivities; writes nothing")
    options = parser.parse_args()
    suite = TPCH if options.suite == "tpch" else TPCDS
    console = Console(width=None if sys.stdout.isatty() else 130)
    runs = max(1, options.runs)
    run(suite, scale=options.scale, seed=options.seed, runs=runs, quick=options.quick, console=console)


if __name__ == "__main__":
    main()
