"""Measures how much more than the exact convex hull the stored hulls cover, and the published hull on a 16x16 grid.

usage: python -m benchmarks.enrichment.hulls [--row-groups 6] [--output FOLDER]

The excess of a polygon is its area beyond the exact hull over the area of the box beyond the exact hull: 0 is the exact
hull, 1 the box. Takes every column pair of the ten TPC tables of the effectiveness workload (10,000 rows per row
group). Writes results/hulls.json and results/hulls.png. Fails if a row lies outside its hull.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from scipy.spatial import ConvexHull, QhullError

from benchmarks.effectiveness.tables import sliced_table
from benchmarks.effectiveness.workload import load_workload
from benchmarks.environment import environment
from skipml.features import model_inputs
from skipml.metadata import hulls

Floats = NDArray[np.float64]
RESULTS = Path(__file__).with_name("results")
GRID = 16
GRID_NAME = f"{GRID}x{GRID} grid (13 bytes)"
NAMES = (GRID_NAME, *(f"{size} bytes" for size in hulls.SIZES))
_LEAST_FREE = 1e-6


@dataclass(frozen=True, slots=True)
class PairBlock:
    """One column pair in one row group: the excess of each kind of polygon, and the time to build each size."""

    table: str
    excess: dict[str, float]
    ns_per_row: dict[str, float]
    outside: int


def measure(table: str, points: Floats) -> PairBlock | None:
    """Hulls of points [n, 2] in every size; None where the exact hull leaves nothing of the box free."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    unit = hulls.to_unit(points, lower, upper)
    exact = _hull_area(unit)
    if (lower >= upper).any() or 1 - exact <= _LEAST_FREE:
        return None
    areas, times, outside = {GRID_NAME: _grid_area(unit)}, {}, 0
    for size in hulls.SIZES:
        started = time.process_time()
        payload = hulls.build(points, lower, upper, size)
        times[f"{size} bytes"] = 1e9 * (time.process_time() - started) / len(points)
        areas[f"{size} bytes"] = _area(hulls.vertices(payload))
        planes = hulls.decode(payload[None])
        outside += int((unit @ planes.normal[0].T > planes.offset[0]).any(axis=1).sum())
    return PairBlock(table, {name: (areas[name] - exact) / (1 - exact) for name in NAMES}, times, outside)


def _grid_area(unit: Floats) -> float:
    """The hull of the grid cells that hold a point, as published."""
    cells = np.unique(np.minimum((unit * GRID).astype(np.int64), GRID - 1), axis=0)
    corners = np.concatenate([cells + step for step in ([0, 0], [0, 1], [1, 0], [1, 1])])
    return _hull_area(corners.astype(np.float64)) / GRID**2


def _hull_area(points: Floats) -> float:
    try:
        return float(ConvexHull(np.unique(points, axis=0)).volume)
    except QhullError:  # all on a line
        return 0.0


def _area(vertices: Floats) -> float:
    x, y = vertices.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def pairs(path: Path, row_groups: int) -> Iterator[Floats]:
    """The points [n, 2] of every column pair in row groups spread over a file, without those that lack a number."""
    with pq.ParquetFile(path) as file:
        names, count = file.schema_arrow.names, file.metadata.num_row_groups
        for group in sorted({*np.linspace(0, count - 1, row_groups).astype(np.int64).tolist()}):
            values, null = model_inputs(file.read_row_group(group), names)
            number = ~(null | np.isnan(values))
            for i, j in itertools.combinations(range(len(names)), 2):
                points = values[number[:, i] & number[:, j]][:, [i, j]]
                if len(points):
                    yield points


def summary(blocks: Sequence[PairBlock]) -> dict[str, Any]:
    """Excess by kind of polygon: mean, median, 90th percentile, mean by table; and the time to build."""
    found: dict[str, Any] = {"pairs_and_row_groups": len(blocks), "rows_outside": sum(b.outside for b in blocks)}
    for name in NAMES:
        excess = np.array([block.excess[name] for block in blocks])
        times = [block.ns_per_row[name] for block in blocks if name in block.ns_per_row]
        found[name] = {
            "mean_excess": round(float(excess.mean()), 4),
            "median_excess": round(float(np.median(excess)), 4),
            "p90_excess": round(float(np.quantile(excess, 0.9)), 4),
            "mean_excess_by_table": _by_table(blocks, name),
        }
        if times:
            found[name] |= {"mean_ns_per_row": round(float(np.mean(times))), "max_ns_per_row": round(max(times))}
    return found


def _by_table(blocks: Sequence[PairBlock], name: str) -> dict[str, float]:
    tables = sorted({block.table for block in blocks})
    return {t: round(float(np.mean([b.excess[name] for b in blocks if b.table == t])), 4) for t in tables}


def print_summary(console: Console, found: dict[str, Any]) -> None:
    """Print the excess of each kind of polygon."""
    table = Table("hull", "mean excess", "median", "p90", "ns/row, mean", "max", box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in NAMES:
        f = found[name]
        shares = (f"{f[key]:.2%}" for key in ("mean_excess", "median_excess", "p90_excess"))
        table.add_row(name, *shares, *(str(f.get(key, "")) for key in ("mean_ns_per_row", "max_ns_per_row")))
    console.print(table)
    console.print(f"{found['pairs_and_row_groups']} pairs and row groups, {found['rows_outside']} rows outside")


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw the mean excess per table and kind of polygon."""
    tables = list(found[GRID_NAME]["mean_excess_by_table"])
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(NAMES)
    colors = ["#999999", *colormaps["Blues"](np.linspace(0.3, 1.0, len(NAMES) - 1)).tolist()]
    for i, (name, color) in enumerate(zip(NAMES, colors, strict=True)):
        heights = [100 * found[name]["mean_excess_by_table"][table] for table in tables]
        label = f"{name}: {100 * found[name]['mean_excess']:.1f} % over all"
        place = np.arange(len(tables)) + width * (i - (len(NAMES) - 1) / 2)
        axes.bar(place, heights, width, label=label, color=color)
    axes.set_xticks(range(len(tables)), tables, rotation=20, ha="right")
    axes.set_ylabel("% of the free area not cut off")
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure every table, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--row-groups", type=int, default=6, help="how many of each table")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 100)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    about, workload = environment(), load_workload()
    tables = {function.table: sliced_table(workload, function) for function in workload.functions}
    blocks: list[PairBlock] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name, path in progress.track(sorted(tables.items()), description="tables"):
            measured = (measure(name, points) for points in pairs(path, options.row_groups))
            blocks += [block for block in measured if block is not None]
    found = summary(blocks)
    print_summary(console, found)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "hulls.json").write_text(json.dumps({"environment": about, "summary": found}, indent=1) + "\n")
    plot(found, options.output / "hulls.png")
    console.print(f"wrote {options.output}/hulls.json and hulls.png")
    if found["rows_outside"]:
        sys.exit("a row lies outside its hull: this is a bug, please report it with the results file")


if __name__ == "__main__":
    main()
