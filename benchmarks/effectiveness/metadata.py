"""Measures what each kind of enrichment adds: the share of the row groups without a qualifying row that is skipped.

usage: python -m benchmarks.effectiveness.metadata [--only NAME] [--output FOLDER]

The workload is that of benchmarks.effectiveness.run. Every variant is `skipml.plan` with its cost guard, once as it is
and once without (at most 256 boxes per row group). Clustered tables have an oracle of their own: fewer of their row
groups hold a qualifying row. Writes results/metadata.json and metadata.png; fails if a skipped row group holds a
qualifying row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import skipml
from benchmarks.effectiveness.oracle import matches_per_block, threshold
from benchmarks.effectiveness.run import RESULTS
from benchmarks.effectiveness.tables import read_inputs, sliced_table
from benchmarks.effectiveness.training import score, trained
from benchmarks.effectiveness.workload import Function, Workload, load_workload
from benchmarks.environment import environment
from skipml.bounds.budget import Budget
from skipml.bounds.memory import SHARED
from skipml.layout import Method

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of metadata: bytes of each hull (0: none), boxes per row group, a layout, bytes of the model's score map
    (None: none) and of rows, and rows per block.
    """

    name: str
    hull_bytes: int = 0
    boxes: int = 0
    layout: Method | None = None
    score_bytes: int | None = None
    witness_bytes: int = 0
    block_rows: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is stored."""
        return not (self.hull_bytes or self.boxes or self.witness_bytes or self.block_rows) and self.score_bytes is None


VARIANTS = (
    Variant("min-max"),
    Variant("diagonals 4 B", 4),
    Variant("hull 8 B", 8),
    Variant("hull 13 B", 13),
    Variant("hull 45 B", 45),
    Variant("4 boxes", 0, 4),
    Variant("16 boxes", 0, 16),
    Variant("64 boxes", 0, 64),
    Variant("hull 45 B, 16 boxes", 45, 16),
    Variant("4 blocks", block_rows=2500),
    Variant("4 blocks, hull 45 B", 45, block_rows=2500),
    Variant("rows 96 B", witness_bytes=96),
    Variant("hull 45 B, rows 96 B", 45, witness_bytes=96),
    Variant("score limits 16 B", score_bytes=0),
    Variant("score map 16 + 32 B", score_bytes=32),
    Variant("Z-order", layout="zorder"),
    Variant("k-d tree", layout="kdtree"),
    Variant("k-d tree, hull 45 B", 45, layout="kdtree"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One filter on one variant: row groups in all, without a qualifying row, and of these skipped."""

    function: str
    table: str
    selectivity: float
    variant: str
    row_groups: int
    skippable: int
    skipped: int
    unguarded: int
    rows: int
    rows_skipped: int
    unsound: int
    seconds: float
    unguarded_seconds: float
    bytes_per_row_group: float


def measure(workload: Workload, function: Function, folder: Path) -> Iterator[Case]:
    """The cases of one function, in every variant."""
    source = sliced_table(workload, function)
    inputs, has_inputs = read_inputs(source, function.columns)
    module = trained(workload, function, inputs, has_inputs)
    scores = score(module, inputs)
    model = skipml.Model.from_torch(module, columns=function.columns)
    limits = [(s, limit) for s in workload.selectivities if (limit := threshold(scores, s)) is not None]
    for variant in VARIANTS:
        path, found = source, scores
        if variant.layout is not None:
            path = folder / f"{variant.layout}.parquet"
            if not path.exists():
                skipml.cluster(
                    source, path, function.columns, method=variant.layout, row_group_rows=workload.row_group_rows
                )
            found = score(module, read_inputs(path, function.columns)[0])
        root = folder / variant.name
        n_bytes = enriched(path, model, variant, root)
        for selectivity, limit in limits:
            matches = matches_per_block(found, limit, workload.row_group_rows)
            SHARED.forget()  # each filter is the first on its model
            plan = skipml.plan(path, model > limit, root=root)
            free = skipml.plan(path, model > limit, root=root, budget=Budget.unlimited(boxes_per_block=256))
            yield Case(
                function=function.name,
                table=function.table,
                selectivity=selectivity,
                variant=variant.name,
                row_groups=len(matches),
                skippable=int((matches == 0).sum()),
                skipped=int((row_groups_skipped(plan) & (matches == 0)).sum()),
                unguarded=int((row_groups_skipped(free) & (matches == 0)).sum()),
                rows=int(plan.footers.n_rows.sum()),
                rows_skipped=int(plan.footers.n_rows[plan.decisions == skipml.SKIP].sum()),
                unsound=unsound(plan, found > limit) + unsound(free, found > limit),
                seconds=plan.result.seconds,
                unguarded_seconds=free.result.seconds,
                bytes_per_row_group=n_bytes,
            )


def row_groups_skipped(plan: skipml.Plan) -> NDArray[np.bool_]:
    """Which row groups are skipped as a whole."""
    return np.asarray(plan.result.merged(plan.footers.row_group).decision == skipml.SKIP, np.bool_)


def unsound(plan: skipml.Plan, passed: NDArray[np.bool_]) -> int:
    """Blocks skipped although a row passes, or kept although one does not."""
    starts, sizes = plan.footers.first_row, plan.footers.n_rows
    matches = np.add.reduceat(passed.astype(np.int64), starts)
    skipped, kept = plan.decisions == skipml.SKIP, plan.decisions == skipml.KEEP
    return int((skipped & (matches > 0)).sum() + (kept & (matches < sizes)).sum())


def enriched(path: Path, model: skipml.Model, variant: Variant, root: Path) -> float:
    """Store what the variant asks for; its bytes per row group, beside the limits of row groups."""
    if variant.is_plain:
        return 0.0
    pairs: Any = "all" if variant.hull_bytes else []
    limits = skipml.enrich(path, model.columns, pairs=[], root=root).files[0]
    report = skipml.enrich(
        path,
        model.columns,
        pairs=pairs,
        hull_bytes=variant.hull_bytes or 45,
        boxes=variant.boxes,
        models=[model] if variant.score_bytes is not None else [],
        score_bytes=variant.score_bytes or 0,
        witness_bytes=variant.witness_bytes,
        block_rows=variant.block_rows,
        root=root,
    )
    file = report.files[0]
    return (file.n_bytes - limits.n_bytes) / file.n_row_groups


def summary(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Per variant, means over the filters in which an oracle could skip something; costs over all, in us."""
    found = {}
    for variant in dict.fromkeys(case.variant for case in cases):
        mine = [case for case in cases if case.variant == variant]
        counted = [case for case in mine if case.skippable]
        row_groups = sum(case.row_groups for case in mine)
        found[variant] = {
            "bytes_per_row_group": round(float(np.mean([case.bytes_per_row_group for case in mine])), 1),
            "skippable_share": round(sum(case.skippable for case in mine) / row_groups, 4),
            "effectiveness": round(float(np.mean([case.skipped / case.skippable for case in counted])), 4),
            "unguarded": round(float(np.mean([case.unguarded / case.skippable for case in counted])), 4),
            "rows_skipped": round(sum(case.rows_skipped for case in mine) / sum(case.rows for case in mine), 4),
            "us_per_row_group": round(1e6 * sum(case.seconds for case in mine) / row_groups, 1),
            "unguarded_us": round(1e6 * sum(case.unguarded_seconds for case in mine) / row_groups, 1),
            "unsound_row_groups": sum(case.unsound for case in mine),
        }
    return found


def print_summary(console: Console, found: dict[str, dict[str, float]]) -> None:
    """The table of the variants."""
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column("metadata", no_wrap=True)
    for name in ("bytes", "skippable", "skipped", "rows", "us", "unguarded", "us"):
        table.add_column(name, justify="right", no_wrap=True)
    for variant, figures in found.items():
        table.add_row(
            variant,
            f"{figures['bytes_per_row_group']:.0f}",
            f"{figures['skippable_share']:.0%}",
            f"{figures['effectiveness']:.1%}",
            f"{figures['rows_skipped']:.1%}",
            f"{figures['us_per_row_group']:.0f}",
            f"{figures['unguarded']:.1%}",
            f"{figures['unguarded_us']:.0f}",
        )
    console.print(table)
    console.print("bytes: per row group, beside the limits of its columns; skipped: of the skippable, mean of filters;")
    console.print("rows: not scored, of all; us: verification per row group, with the cost guard and without")


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of what is skipped per variant, with the cost guard and without."""
    names = list(reversed(found))
    figure = Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for key, color, label in (("unguarded", "#c6dbef", "without cost guard"), ("effectiveness", "#0072b2", "as it is")):
        axes.barh(names, [100 * found[name][key] for name in names], color=color, label=label)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the row groups without a qualifying row that is skipped")
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the workload in every variant, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", metavar="NAME", default="", help="functions whose name contains this; writes nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload = load_workload()
    functions = [function for function in workload.functions if options.only in function.name]
    console = Console(width=None if sys.stdout.isatty() else 100)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    cases: list[Case] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(functions))
        for function in functions:
            progress.update(task, description=function.name)
            with tempfile.TemporaryDirectory() as folder:
                cases += measure(workload, function, Path(folder))
            progress.advance(task)
    found = summary(cases)
    print_summary(console, found)
    if not options.only:
        record = {"environment": environment(), "summary": found, "cases": [asdict(case) for case in cases]}
        (options.output / "metadata.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(found, options.output / "metadata.png")
        console.print(f"wrote {options.output}/metadata.json and metadata.png")
    if any(case.unsound for case in cases):
        sys.exit("a skipped row group holds a qualifying row: this is a bug, please report it with the results file")


if __name__ == "__main__":
    main()
