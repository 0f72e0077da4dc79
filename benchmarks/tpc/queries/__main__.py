"""Runs the queries of TPC-H or TPC-DS, standard and with a model predicate, on plain DuckDB and through skipml.

usage: python -m benchmarks.tpc.queries (tpch|tpcds) [--scale 1] [--runs 3] [--quick]

Makes its data first, kept under .data/. Writes results/queries.json of the suite. Fails if a query gives other rows.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import torch
from rich.console import Console

from benchmarks.tpc.queries.run import run
from benchmarks.tpc.suite import Suite


def main() -> None:
    """Run the suite that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tpc.queries", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("suite", choices=("tpch", "tpcds"))
    parser.add_argument("--scale", type=float, default=1, help="scale factor in GB (default 1)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each query, by turns (default 3)")
    parser.add_argument("--quick", action="store_true", help="some of the queries, once; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite: Suite = importlib.import_module(f"benchmarks.{options.suite}.models").SUITE
    console = Console(width=None if sys.stdout.isatty() else 120)
    run(suite, scale=options.scale, runs=max(1, options.runs), quick=options.quick, console=console)


if __name__ == "__main__":
    main()
