"""Runs the benchmark over TPC-H: see benchmarks.tpc.command for what it takes and writes."""

from __future__ import annotations

from benchmarks.tpc.command import main
from benchmarks.tpch.models import SUITE


def run() -> None:
    """Run the parts that the command line names."""
    main(SUITE)


if __name__ == "__main__":
    run()
