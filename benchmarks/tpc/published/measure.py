"""Runs the methods over all filters of a network and checks every decision."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import skipml
from benchmarks.tpc.networks import torch_outputs
from benchmarks.tpc.published.blocks import evaluated_file, read_rows
from benchmarks.tpc.published.filters import BINS, Filter, class_filters, range_filters
from benchmarks.tpc.published.methods import METHODS, Method, budgets, regions
from benchmarks.tpc.published.training import trained
from benchmarks.tpc.published.workload import BLOCK_ROWS, Function
from skipml.bounds.branch import Reason
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP, prune
from skipml.predicates import Predicate
from skipml.regions import Regions

Floats = NDArray[np.float64]

CEILING = "any connected region"
_BUDGETED = ("half", "plan")
_OF_CLASSES = ("min-max", "hull 13 B", "16 boxes", "hull 13 B, 44 boxes", "score limits")


@dataclass(frozen=True, slots=True)
class Figure:
    """What a method made of the filters of one bin of selectivity, in percent its upper end.

    `effectiveness` is the mean over the filters with a skippable block, in percent; `skippable` the share of such
    blocks; `us` and `us_p99` the mean and the 99th percentile over the filters of the time per block; `undecided` the
    share of blocks that the budget left open.
    """

    suite: str
    function: str
    depth: str
    is_class: bool
    method: str
    budget: str
    bin: float
    n_filters: int
    effectiveness: float
    skippable: float
    bytes_per_block: float
    us: float
    us_p99: float
    undecided: float


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A trained network on its evaluated rows, with the filters and what an oracle knows of them."""

    function: Function
    depth: str
    model: skipml.Model
    path: Path
    inputs: Floats
    scores: Floats
    filters: Sequence[Filter]

    def predicate(self, f: Filter) -> Predicate:
        """The filter as skipml has it."""
        return self.model.is_class(f.label) if f.label >= 0 else self.model.between(f.lower, f.upper)


def network(function: Function, depth: str, seed: int) -> Network | None:
    """None for a table that is too small to have a block after the rows to train on."""
    train, rows = read_rows(function)
    if len(rows.inputs) < BLOCK_ROWS:
        return None
    module = trained(function, depth, train, seed)
    found = torch_outputs(module, rows.inputs).astype(np.float64)
    model = skipml.Model.from_torch(module, columns=list(function.columns))
    if function.classes:
        classes = np.where(np.isnan(found).any(axis=1), -1, found.argmax(axis=1))
        filters = class_filters(classes, function.classes)
    else:
        filters = range_filters(found[:, 0], rows.targets)
    return Network(function, depth, model, evaluated_file(function), rows.inputs, found, filters)


def figures(net: Network) -> Iterator[Figure]:
    """Every method on every filter; filters beyond the first bin are not verified completely, which takes long."""
    if not net.function.classes:
        yield from _summaries(net, CEILING, "complete", net.filters, _ceiling(net), 0.0)
    for method in _methods(net):
        with tempfile.TemporaryDirectory() as root:
            seen, n_bytes = regions(method, net.path, net.model, net.inputs, Path(root))
            for name, budget in budgets(method, net.predicate(net.filters[0])).items():
                chosen = [f for f in net.filters if name in _BUDGETED or f.bin == BINS[0]]
                results = [_run(net, f, seen, budget) for f in chosen]
                yield from _summaries(net, method.name, name, chosen, results, n_bytes)


def _methods(net: Network) -> list[Method]:
    """Hulls need two inputs; of classes there is a bitmap, whatever the bytes, and complete verification of many takes
    hours.
    """
    if net.function.classes:
        chosen = [m for m in METHODS if m.name in _OF_CLASSES]
        return [replace(m, every_budget=False) for m in chosen if len(net.model.columns) > 1 or not m.hull]
    return list(METHODS)


@dataclass(frozen=True, slots=True)
class _Result:
    effectiveness: float
    us: float
    undecided: float


def _run(net: Network, f: Filter, seen: Regions, budget: Budget) -> _Result:
    started = time.perf_counter()
    found = prune(net.predicate(f), seen, budget)
    seconds = time.perf_counter() - started
    skipped, kept = found.decision == SKIP, found.decision == KEEP
    sizes = np.minimum(BLOCK_ROWS, len(net.inputs) - np.arange(len(f.matches)) * BLOCK_ROWS)
    if found.error or (skipped & (f.matches > 0)).any() or (kept & (f.matches < sizes)).any():
        raise AssertionError(f"{net.function.name}, {net.depth}: wrong decision for {f}: {found.error}")
    n = len(f.matches)
    return _Result(_share(skipped, f), 1e6 * seconds / n, float((found.reason == Reason.BUDGET).mean()))


def _ceiling(net: Network) -> list[_Result]:
    """What the smallest and the largest score of each block decide: every connected region holds all between them."""
    blocks = np.split(net.scores[:, 0], np.arange(BLOCK_ROWS, len(net.scores), BLOCK_ROWS))
    low = np.array([np.nanmin(block) for block in blocks])
    high = np.array([np.nanmax(block) for block in blocks])
    return [_Result(_share((high < f.lower) | (low > f.upper), f), 0.0, 0.0) for f in net.filters]


def _share(skipped: NDArray[np.bool_], f: Filter) -> float:
    return 100.0 * int((skipped & f.skippable).sum()) / int(f.skippable.sum()) if f.skippable.any() else np.nan


def _summaries(  # noqa: PLR0917
    net: Network, method: str, budget: str, filters: Sequence[Filter], results: Sequence[_Result], n_bytes: float
) -> Iterator[Figure]:
    for end in BINS:
        mine = [(f, r) for f, r in zip(filters, results, strict=True) if f.bin == end]
        counted = [r.effectiveness for f, r in mine if f.skippable.any()]
        if counted:
            yield Figure(
                suite=net.function.suite,
                function=net.function.name,
                depth=net.depth,
                is_class=net.function.classes > 0,
                method=method,
                budget=budget,
                bin=end,
                n_filters=len(counted),
                effectiveness=round(float(np.mean(counted)), 3),
                skippable=round(float(np.mean([f.skippable.mean() for f, _ in mine])), 4),
                bytes_per_block=round(n_bytes, 1),
                us=round(float(np.mean([r.us for _, r in mine])), 1),
                us_p99=round(float(np.quantile([r.us for _, r in mine], 0.99)), 1),
                undecided=round(float(np.mean([r.undecided for _, r in mine])), 4),
            )
