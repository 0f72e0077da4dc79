"""Makes the tables of a suite and all their layouts, and prints paths and sizes."""

from __future__ import annotations

import argparse
import sys

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.layouts import ORDERS, ROW_GROUP_ROWS, Layout


def generate(suite: Suite) -> None:
    """Do so as the command line says: `--scale 1`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{suite.name}.generate", description=__doc__)
    parser.add_argument("--scale", type=float, default=1, help="scale factor in GB (default 1)")
    scale = parser.parse_args().scale
    console = Console(width=None if sys.stdout.isatty() else 130)
    layouts = [Layout(suite, t.name, o, n, scale) for t in suite.tables for n in ROW_GROUP_ROWS for o in ORDERS]
    table = Table(box=SIMPLE)
    for heading in ("table", "order", "rows per group", "row groups", "MB", "path"):
        table.add_column(heading, justify="right" if heading in ("rows per group", "row groups", "MB") else "left")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(suite.name, total=len(layouts))
        for layout in layouts:
            progress.update(task, description=f"{layout.table}, {layout.order}")
            size, groups = f"{layout.path.stat().st_size / 1e6:,.0f}", f"{len(layout.starts):,}"
            table.add_row(layout.table, layout.order, f"{layout.row_group_rows:,}", groups, size, str(layout.path))
            progress.advance(task)
    console.print(table)
