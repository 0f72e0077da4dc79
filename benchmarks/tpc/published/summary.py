"""Means over the networks of a run, or of the runs of both suites: what each method skips, stores and costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.tpc.published.endtoend import BASELINE, NAMES, Timing
from benchmarks.tpc.published.filters import BINS
from benchmarks.tpc.published.measure import CEILING, Figure
from benchmarks.tpc.published.methods import METHODS
from benchmarks.tpc.published.workload import HIDDEN

ROWS = (*(method.name for method in METHODS), CEILING)
BUDGETS = {"complete": "complete", "half": "half of scoring", "plan": "as plans do"}


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one or both suites, regressors and classifiers."""

    figures: tuple[Figure, ...]
    timings: tuple[Timing, ...]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Results:
        """Those of the files that exist."""
        figures: list[Figure] = []
        timings: list[Timing] = []
        for path in paths:
            if path.exists():
                record: dict[str, Any] = json.loads(path.read_text())
                figures += [Figure(**figure) for figure in record["figures"]]
                timings += [Timing(**timing) for timing in record["timings"]]
        return cls(tuple(figures), tuple(timings))

    def mean(
        self, field: str, method: str, budget: str, end: float, depth: str = "", *, classes: bool = False
    ) -> float:
        """The mean of a field over the networks of a depth, or of both; NaN where there is none."""
        mine = [
            getattr(f, field)
            for f in self.figures
            if (f.method, f.budget, f.bin) == (method, budget, end)
            and f.depth == (depth or f.depth)
            and f.is_class == classes
        ]
        return float(np.mean(mine)) if mine else float("nan")

    @property
    def networks(self) -> int:
        """How many regressors there are, shallow and deep ones apart."""
        return len({(f.suite, f.function, f.depth) for f in self.figures if not f.is_class})

    def ratio(self, system: str, depth: str = "") -> float:
        """How many times faster than PyTorch a system is: the geometric mean over the networks."""
        by_network = {(t.suite, t.function, t.depth, t.system): t.seconds for t in self.timings}
        mine = [
            seconds / by_network[key, function, deep, system]
            for (key, function, deep, name), seconds in by_network.items()
            if name == BASELINE and deep == (depth or deep)
        ]
        return float(np.exp(np.mean(np.log(mine)))) if mine else float("nan")

    def timing(self, field: str, system: str) -> float:
        """The mean per filter of a field of a system's timings."""
        mine = [
            getattr(t, field) / (1 if field == "blocks_left" else t.n_filters)
            for t in self.timings
            if t.system == system
        ]
        return float(np.mean(mine)) if mine else float("nan")


def effectiveness_table(found: Results, end: float) -> Table:
    """What the methods skip of the skippable blocks in one bin, by budget."""
    table = Table(box=SIMPLE, padding=(0, 1), title=f"selectivity up to {end:g} %: % of the skippable blocks skipped")
    table.add_column("method", no_wrap=True)
    names = ["bytes", *(f"{d}, {b}" for b in ("complete", "half") for d in HIDDEN), "plan", "us", "p99", "undecided"]
    for name in names:
        table.add_column(name, justify="right")
    for method in ROWS:
        budget = "half" if not np.isnan(found.mean("us", method, "half", end)) else "complete"
        shares = [found.mean("effectiveness", method, b, end, d) for b in ("complete", "half") for d in HIDDEN]
        table.add_row(
            method,
            number(found.mean("bytes_per_block", method, budget, end), 0),
            *(number(share, 1) for share in shares),
            number(found.mean("effectiveness", method, "plan", end), 1),
            number(found.mean("us", method, budget, end), 0),
            number(found.mean("us_p99", method, budget, end), 0),
            number(100 * found.mean("undecided", method, budget, end), 1),
        )
    return table


def number(value: float, digits: int) -> str:
    """Empty where there is none."""
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def print_summary(console: Console, found: Results) -> None:
    """The tables of a run."""
    for end in BINS[:3]:
        console.print(effectiveness_table(found, end))
    console.print(
        "complete: as much verification as the method wants; half: half of what scoring costs (0.3 us per row) and\n"
        "what it saves; plan: as skipml.plan does it. us: per block and filter, of half, or of complete where there\n"
        "is no other; p99: over the filters; undecided: % of the blocks. Classifiers, all selectivities:"
    )
    console.print(_classes_table(found))
    console.print(timing_table(found))


def _classes_table(found: Results) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column("class filters", no_wrap=True)
    for end in BINS:
        table.add_column(f"up to {end:g} %", justify="right")
    for method in ROWS:
        budget = "half" if any(not np.isnan(_classes(found, method, "half", end)) for end in BINS) else "complete"
        cells = [number(_classes(found, method, budget, end), 1) for end in BINS]
        if any(cells):
            table.add_row(method, *cells)
    return table


def _classes(found: Results, method: str, budget: str, end: float) -> float:
    return found.mean("effectiveness", method, budget, end, classes=True)


def timing_table(found: Results, names: Sequence[str] = (BASELINE, *NAMES)) -> Table:
    """End to end against PyTorch."""
    table = Table(
        box=SIMPLE, padding=(0, 1), title="end to end, selectivity up to 0.1 %, loading and verification counted"
    )
    table.add_column("system", no_wrap=True)
    for name in ("ms per filter", "of which planning", "blocks left", "shallow", "deep", "against PyTorch"):
        table.add_column(name, justify="right")
    for name in names:
        table.add_row(
            name,
            number(1e3 * found.timing("seconds", name), 1),
            number(1e3 * found.timing("planning", name), 1),
            number(100 * found.timing("blocks_left", name), 0) + " %",
            *(number(found.ratio(name, depth), 2) + "x" for depth in HIDDEN),
            number(found.ratio(name), 2) + "x",
        )
    return table
