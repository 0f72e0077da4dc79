"""What the README shows of both suites: the mean over the ten published regressors, a picture and a table.

usage: python -m benchmarks.tpc.readme, after the part `published` of both suites; they draw the picture, too.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.readme import replace_section
from benchmarks.tpc.data import ROOT
from benchmarks.tpc.published.endtoend import BASELINE
from benchmarks.tpc.published.filters import BINS
from benchmarks.tpc.published.plots import plot
from benchmarks.tpc.published.summary import Results, number, print_summary
from benchmarks.tpc.published.workload import HIDDEN, published

SUITES = ("tpch", "tpcds")
RESULTS = Path(__file__).with_name("results")
BEGIN, END = "<!-- published: written by python -m benchmarks.tpc.readme -->", "<!-- end of published -->"
_NETWORKS = 20
_ROWS = {
    "min-max, complete": "min-max",
    "grid hull, complete": "",
    "hull 13 B": "hull 13 B",
    "hull 45 B": "",
    "hull 13 B, 44 boxes": "hull 13 B, 44 boxes",
    "score map 32 B": "score map 32 B",
    "score map 256 B": "score map 256 B",
}


def write(console: Console, *, into_readme: bool) -> None:
    """Print and draw the mean over both suites, once both have run; then, if told to, write README's table."""
    found = Results.read(ROOT / "benchmarks" / suite / "results" / "published.json" for suite in SUITES)
    if found.networks != _NETWORKS:
        console.print(
            "the mean over both suites is drawn when both python -m benchmarks.tpch and benchmarks.tpcds have run"
        )
        return
    console.rule("both suites")
    print_summary(console, found)
    RESULTS.mkdir(exist_ok=True)
    plot(found, RESULTS / "published.png")
    if into_readme:
        replace_section(ROOT / "README.md", BEGIN, END, _table(found))


def _table(found: Results) -> str:
    lines = [
        "| stored per block of 1,000 rows | bytes | shallow | deep | us per block | end to end |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for method, system in _ROWS.items():
        budget = "complete" if method.endswith("complete") else "half"
        shares = [found.mean("effectiveness", method, budget, BINS[0], depth) for depth in HIDDEN]
        ratio = found.ratio(system) if system else float("nan")
        cells = [
            f"{method.removesuffix(', complete')}, as published" if budget == "complete" else method,
            number(found.mean("bytes_per_block", method, budget, BINS[0]), 0),
            *(f"{number(share, 1)} %" for share in shares),
            number(found.mean("us", method, budget, BINS[0]), 0),
            f"{number(ratio, 2)}x" if system else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    paper, pytorch = published(), found.timing("seconds", BASELINE)
    lines += [
        "",
        f"Share of the skippable blocks that is skipped, filters of selectivity up to 0.1 %, mean over ten regressors;"
        f" the paper has {paper['min_max_pct']} and {paper['bounded_hull_pct']} % for the first two rows, and 1.07x end"
        f" to end. Bytes beside min-max. End to end is against PyTorch in a DuckDB function, which takes"
        f" {1e3 * pytorch:.0f} ms for 100 blocks, loading and verification counted.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    write(Console(width=140), into_readme=True)
