"""Filters rows of TPC-H lineitem by tree ensembles: which row groups of 10,000 rows are proved, and queries end to end.

usage: python -m benchmarks.trees [--runs 3] [--quick] [--output FOLDER]

The first million rows, gradient boosting of 100 trees of depth 3 (XGBoost) and a forest of 30 trees of depth 8
(scikit-learn), in generation
order and clustered by the model's columns. Makes its data first (kept under .data/). Writes trees.json into results/
beside this file. Fails where a row group is skipped that holds a match, or two ways give other rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import skipml
from benchmarks.environment import environment
from benchmarks.tpc.data import DATA, tpc_table
from benchmarks.tpc.tables.layouts import read_numbers
from benchmarks.trees.fitting import KINDS, TARGETS, Fitted, Target, fitted
from benchmarks.trees.measure import Pruned, Timed, pruned, timed

RESULTS = Path(__file__).with_name("results")
_ROWS, _ROW_GROUP_ROWS = 1_000_000, 10_000
_SELECTIVITIES = (0.001, 0.0001)
_LAYOUTS = ("generated", "clustered")


def file_of(target: Target, layout: str) -> Path:
    """The first rows of lineitem with row groups of 10,000 rows in one order, made if it is not there."""
    folder = DATA / "trees"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lineitem.parquet"
    if not path.exists():
        with duckdb.connect() as con:
            rows = con.sql(f"FROM '{tpc_table('tpch', 'lineitem')}' LIMIT {_ROWS}").to_arrow_table()
        pq.write_table(rows, path.with_suffix(".partial"), row_group_size=_ROW_GROUP_ROWS)
        path.with_suffix(".partial").replace(path)
    if layout == "generated":
        return path
    clustered = folder / f"lineitem_{'_'.join(target.columns)}.parquet"
    if not clustered.exists():
        skipml.cluster(path, clustered, target.columns, method="kdtree", row_group_rows=_ROW_GROUP_ROWS)
    return clustered


def run(runs: int, targets: tuple[Target, ...], console: Console) -> tuple[list[Pruned], list[Timed]]:
    """Measure every model on every layout."""
    proved: list[Pruned] = []
    ends: list[Timed] = []
    for target in targets:
        models: dict[str, Fitted] = {}
        for layout in _LAYOUTS:
            path = file_of(target, layout)
            with duckdb.connect() as con:
                rows = read_numbers(con, f"'{path}'", target.columns)
            for kind in KINDS:
                models.setdefault(kind, fitted(kind, target, rows))
                case = kind, layout, path
                for selectivity in _SELECTIVITIES:
                    proved += pruned(models[kind], target, case, rows, selectivity)
                found = timed(models[kind], target, case, rows, (_SELECTIVITIES[0], runs))
                ends += [found] if found is not None else []
                console.print(f"{target.name}, {kind}, {layout}: done")
    return proved, ends


def summary(proved: list[Pruned], ends: list[Timed]) -> dict[str, Any]:
    """Shares of the skippable row groups and speed-ups, by model, layout and selectivity."""
    shares: dict[str, Any] = {}
    for kind in KINDS:
        for layout in _LAYOUTS:
            for wanted in _SELECTIVITIES:
                of = [p for p in proved if (p.model, p.layout) == (kind, layout)]
                mine = [p for p in of if p.wanted == wanted]
                skippable = sum(p.skippable for p in mine)
                undecided = sum(p.undecided_by_interval for p in mine)
                shares[f"{kind}, {layout}, {wanted:g}"] = {
                    "filters": len(mine),
                    "skippable": skippable,
                    **{
                        name: round(sum(getattr(p, name) for p in mine) / max(skippable, 1), 4)
                        for name in ("by_interval", "proved", "unlimited")
                    },
                    "ms_per_undecided_row_group": round(1e3 * sum(p.seconds for p in mine) / max(undecided, 1), 3),
                }
    return {"proved": shares, "wrong": sum(p.wrong for p in proved), "queries": len(ends)}


def print_found(console: Console, found: dict[str, Any], ends: list[Timed]) -> None:
    """Both tables."""
    table = Table("model, layout, selectivity", "skippable", "interval", "proved", "unlimited", "ms per undecided")
    for name, share in found["proved"].items():
        shares = [f"{100 * share[key]:.1f} %" for key in ("by_interval", "proved", "unlimited")]
        table.add_row(name, str(share["skippable"]), *shares, str(share["ms_per_undecided_row_group"]))
    console.print(table)
    table = Table("query", "rows", "library", "scoring", "skipping", "with maps", "times", "times with maps")
    for end in ends:
        seconds = [f"{value:.3f}" for value in (end.library, end.scoring, end.skipping, end.with_maps)]
        times = [f"{value:.1f}x" for value in end.speedups]
        table.add_row(f"{end.model} {end.target} {end.layout}", str(end.rows), *seconds, *times)
    console.print(table)


def main() -> None:
    """Measure, print and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trees", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="warm runs of each query (default 3)")
    parser.add_argument("--quick", action="store_true", help="one target only; writes nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    proved, ends = run(max(1, options.runs), TARGETS[:1] if options.quick else TARGETS, console)
    found = summary(proved, ends)
    print_found(console, found, ends)
    if not options.quick:
        options.output.mkdir(parents=True, exist_ok=True)
        packages = {name: version(name) for name in ("xgboost-cpu", "scikit-learn")}
        cases = {"proved": [asdict(p) for p in proved], "queries": [asdict(end) for end in ends]}
        record = {"environment": {**environment(), **packages}, "summary": found, "cases": cases}
        (options.output / "trees.json").write_text(json.dumps(record, indent=1) + "\n")
    if found["wrong"]:
        sys.exit("a skipped row group holds a match: this is a bug, please report it with the results file")


if __name__ == "__main__":
    main()
