"""The benchmark of whole queries over one suite."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environment import environment
from benchmarks.tpc.queries.model_queries import model_queries
from benchmarks.tpc.queries.output import print_figures, record
from benchmarks.tpc.queries.predicates import measure_predicates
from benchmarks.tpc.queries.standard import measure_standard
from benchmarks.tpc.queries.texts import standard_queries
from benchmarks.tpc.suite import Suite

_QUICK_MODEL_QUERIES, _QUICK_EVERY = 2, 8


def run(suite: Suite, *, scale: float, runs: int, quick: bool, console: Console) -> dict[str, Any]:
    """Run the suite's standard queries and those with a model, print the figures and write results/queries.json; with
    `quick` some of them once, and nothing is written. Raises ResultsDifferError where a query gives other rows.
    """
    texts, with_model = standard_queries(suite.name), model_queries(suite)
    if quick:
        texts, with_model, runs = dict(list(texts.items())[::_QUICK_EVERY]), with_model[:_QUICK_MODEL_QUERIES], 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{suite.name} queries", total=len(texts) * (runs + 1))
        standard = measure_standard(suite, texts, scale, runs, lambda: progress.advance(task))
        other = progress.add_task(f"{suite.name} queries with a model", total=len(with_model) * (2 * runs + 1))
        predicates = measure_predicates(suite, with_model, scale, runs, lambda: progress.advance(other))
    found = {"environment": environment(), "scale": scale, "runs": runs, **record(standard, predicates)}
    print_figures(console, found)
    if not quick:
        suite.results.mkdir(exist_ok=True)
        (suite.results / "queries.json").write_text(json.dumps(found, indent=1) + "\n")
        console.print(f"wrote {suite.results.relative_to(suite.folder.parent.parent)}/queries.json")
    return found
