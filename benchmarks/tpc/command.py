"""The command line of python -m benchmarks.tpch and benchmarks.tpcds.

parts: published (the filters of the MLSkip paper on blocks of 1,000 rows), tables (filters on whole tables, end to
end), queries (whole queries, standard and with a model). Each prints tables and writes JSON and pictures to results/.
"""

from __future__ import annotations

import argparse
import sys

import torch
from rich.console import Console

from benchmarks.tpc import readme
from benchmarks.tpc.published import run as published
from benchmarks.tpc.queries import run as queries
from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables import run as tables

PARTS = ("published", "tables", "queries")


def main(suite: Suite) -> None:
    """Run the parts of a suite that the command line names, then draw the mean over both suites."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{suite.name}", description=_description())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--scale", type=float, default=1, help="scale factor of whole tables in GB (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of training (default 0)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="warm runs of each way (default 3)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="published networks at a time (default 1)")
    parser.add_argument("--quick", action="store_true", help="a part of each in about a minute; writes nothing")
    options = parser.parse_args()
    if wrong := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {wrong[0]!r}; choose from {', '.join(PARTS)}")
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 140)
    parts, runs = options.parts or PARTS, max(1, options.runs)
    if "published" in parts:
        published.run(
            suite.name,
            suite.results,
            seed=options.seed,
            jobs=max(1, options.jobs),
            quick=options.quick,
            console=console,
        )
    if "tables" in parts:
        tables.run(suite, scale=options.scale, seed=options.seed, runs=runs, quick=options.quick, console=console)
    if "queries" in parts:
        queries.run(suite, scale=options.scale, runs=runs, quick=options.quick, console=console)
    if not options.quick:
        readme.write(console, into_readme=False)


def _description() -> str:
    return (__doc__ or "").partition("parts: ")[2].replace("\n", " ")
