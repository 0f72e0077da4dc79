"""Measures what enriching TPC-H lineitem costs: rows per second and core, time per hull and box, memory, bytes.

usage: python -m benchmarks.enrichment [--repeat 3] [--output FOLDER]

Makes its data first (TPC-H SF1, kept under .data/). Writes results/enrichment.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.demo.tables import ROW_GROUP_ROWS
from benchmarks.enrichment.case import Case, Measured, measure
from benchmarks.environment import environment
from benchmarks.tpc.data import tpc_table, write_parquet
from skipml.metadata import hulls

RESULTS = Path(__file__).with_name("results")
DECIMALS = ["l_quantity", "l_extendedprice", "l_discount"]
LIMITS = {
    "3 DECIMAL columns": DECIMALS,
    "3 DOUBLE columns": DECIMALS,
    "3 BIGINT columns": ["l_orderkey", "l_partkey", "l_suppkey"],
    "3 DATE columns": ["l_shipdate", "l_commitdate", "l_receiptdate"],
    "all columns": None,
}
DECIMAL, DOUBLE = list(LIMITS)[:2]
HULLS = {size: f"with 3 hulls of {size} bytes" for size in hulls.SIZES}
BOXES, AUTO, AGAIN = "with 16 boxes", "all columns, pairs chosen", "the same again, up to date"
TWO = ", 2 threads"
ROWS_PER_SECOND, NS_PER_ROW_AND_PAIR = 5e6, 200.0
"""The targets: rows per second and core for limits and NaN counts, time of a hull."""


def cases(path: Path, doubles: Path, root: str, repeat: int) -> dict[str, Case]:
    """What is measured, by name, hulls and boxes for the DECIMAL columns; the last one finds what the one before it
    wrote. `doubles` is a file of the DECIMAL columns as DOUBLE.
    """

    def case(columns: list[str] | None = DECIMALS, pairs: Any = (), **settings: Any) -> Case:
        return Case(os.fspath(path), root, {"columns": columns, "pairs": pairs, **settings}, repeat=repeat)

    limits = {name: case(columns) for name, columns in LIMITS.items()}
    shapes = {name: case(pairs="all", hull_bytes=size) for size, name in HULLS.items()}
    best, auto = HULLS[max(HULLS)], replace(case(None, "auto"), repeat=1)
    return {
        **limits,
        DOUBLE: replace(limits[DOUBLE], path=os.fspath(doubles)),
        DECIMAL + TWO: replace(limits[DECIMAL], threads=2),
        **shapes,
        best + TWO: replace(shapes[best], threads=2),
        BOXES: case(boxes=16),
        AUTO: auto,
        AGAIN: replace(auto, enriched=True),
    }


def summary(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """The figures that have targets, and those of hulls and boxes without the limits that every run computes."""
    limits, boxes = measured[DECIMAL], measured[BOXES]
    pairs = {size: measured[name] for size, name in HULLS.items()}
    ns = {size: 1e9 * (m.cpu - limits.cpu) / (m.rows * m.pairs) for size, m in pairs.items()}
    threads = {name: measured[name].wall / measured[name + TWO].wall for name in _on_two(measured)}
    return {
        "rows_per_second_and_core": {name: round(measured[name].rows / measured[name].cpu) for name in LIMITS},
        "decoding_alone": {name: round(measured[name].rows / measured[name].decode_seconds) for name in LIMITS},
        "ns_per_row_and_pair": {str(size): round(value, 1) for size, value in ns.items()},
        "us_per_row_for_16_boxes": round(1e6 * (boxes.cpu - limits.cpu) / boxes.rows, 3),
        "times_as_fast_on_2_threads": {name: round(share, 2) for name, share in threads.items()},
        "seconds_when_up_to_date": round(measured[AGAIN].wall, 4),
        "targets_met": limits.rows / limits.cpu >= ROWS_PER_SECOND and max(ns.values()) <= NS_PER_ROW_AND_PAIR,
    }


def _on_two(measured: Mapping[str, Measured]) -> list[str]:
    return [name.removesuffix(TWO) for name in measured if name.endswith(TWO)]


def print_figures(console: Console, measured: Mapping[str, Measured], found: Mapping[str, Any]) -> None:
    """Print one line per case, then the summary."""
    headers = ("", "wall s", "CPU s", "M rows/s", "and core", "decoding", "bytes/group", "peak MB", "load ms")
    table = Table(*headers, box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, m in measured.items():
        times = (f"{m.wall:.2f}", f"{m.cpu:.2f}")
        rates = (f"{m.rows / seconds / 1e6:.2f}" for seconds in (m.wall, m.cpu, m.decode_seconds))
        rest = (*rates, f"{m.sidecar_bytes / m.row_groups:,.0f}") if name != AGAIN else ("",) * 4
        memory = f"{m.peak_growth_bytes / 1e6:.0f}"
        table.add_row(name, *times, *rest, memory, f"{1000 * m.load_seconds:.1f}")
    console.print(table)
    for name, figure in found.items():
        console.print(f"{name.replace('_', ' ')}: {figure}", highlight=False)


def main() -> None:
    """Measure every case, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case; the best counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    path = tpc_table("tpch", "lineitem", scale=1, row_group_rows=ROW_GROUP_ROWS)
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    about = environment()
    measured: dict[str, Measured] = {}
    with (
        tempfile.TemporaryDirectory() as root,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        doubles = Path(root) / "doubles.parquet"
        write_parquet(
            f"SELECT {', '.join(f'{name}::DOUBLE AS {name}' for name in DECIMALS)} FROM '{path}'",
            doubles,
            ROW_GROUP_ROWS,
        )
        planned = cases(path, doubles, root, options.repeat)
        task = progress.add_task("", total=len(planned))
        for name, case in planned.items():
            progress.update(task, description=name)
            measured[name] = measure(case)
            progress.advance(task)
    found = summary(measured)
    print_figures(console, measured, found)
    console.print(f"load average {about['load_average']} on {about['cores']} cores when it began")
    options.output.mkdir(parents=True, exist_ok=True)
    record = {"environment": about, "summary": found, "cases": {name: asdict(m) for name, m in measured.items()}}
    (options.output / "enrichment.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"wrote {options.output}/enrichment.json")


if __name__ == "__main__":
    main()
