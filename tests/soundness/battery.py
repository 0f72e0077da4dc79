"""A fixed battery of cases with known answers: each part returns what it finds wrong, which must be nothing.

`test_unsound_variants.py` breaks the code on purpose and asks for the findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP, prune
from skipml.network import Affine, LeakyRelu, Network, Op, Scale, Shift
from skipml.predicates import Predicate
from skipml.regions import Regions
from skipml.scores import ModelScore
from tests.oracle import identity, linear, model, relu

Floats = NDArray[np.float64]
Battery = Callable[[Path], list[str]]

INF, NAN = float("inf"), float("nan")
_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
_SCANT = Budget.unlimited(boxes_per_block=2, prove_keep=True)


def broken(what: str, predicate: Predicate, regions: Regions, blocks: Sequence[pa.Table], budget: Budget) -> list[str]:
    """The blocks whose rows contradict the decision about them."""
    decision = predicate.decide(regions, budget).decision
    found = []
    everything = predicate.matches(pa.concat_tables(blocks))
    for i, passed in enumerate(np.split(everything, np.cumsum(regions.n_rows)[:-1])):
        if decision[i] == SKIP and passed.any():
            found.append(f"{what}: block {i} is SKIP, but the predicate is TRUE for {int(passed.sum())} rows")
        if decision[i] == KEEP and not passed.all():
            found.append(f"{what}: block {i} is KEEP, but the predicate is not TRUE for {int((~passed).sum())} rows")
    return found


def tests_of(chosen: skipml.Model, limits: Sequence[float]) -> Iterator[tuple[str, Predicate]]:
    """Every test of the first output against limits that are equal or next to a score, and of every class."""
    score = chosen.output(0)
    for limit in limits:
        for t in (limit, float(np.nextafter(chosen.function.dtype.type(limit), np.float64(INF)))):
            yield f"> {t!r}", score > t
            yield f">= {t!r}", score >= t
            yield f"< {t!r}", score < t
            yield f"<= {t!r}", score <= t
            yield f"= {t!r}", score.between(t, t)
            yield f"<> {t!r}", ~score.between(t, t)
    for label in range(chosen.n_outputs if chosen.n_outputs > 1 else 0):
        yield f"class {label}", chosen.is_class(label)
        yield f"not class {label}", ~chosen.is_class(label)


def _networks() -> Iterator[Network]:
    """Networks whose bounds go wrong where any part of the bounding does."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        dtype: np.dtype[np.floating] = np.dtype(["float32", "float64"][seed % 4 == 3])
        widths = [2, *([[], [6], [6, 5], [4, 4, 4]][seed % 4]), 3 if seed % 5 == 4 else 1]
        ops: list[Op] = []
        for n_in, n_out in pairwise(widths):
            weight, bias = rng.normal(size=(n_out, n_in)), 3 * rng.normal(size=n_out)
            ops += [Affine(weight.astype(dtype), bias.astype(dtype)), LeakyRelu([0.0, 0.2][seed % 2])]
        yield Network(2, widths[-1], dtype, tuple(ops[:-1]))
    kind = np.dtype(np.float32)
    # the cast to float32 moves inputs by more than a row is away from the offset
    yield Network(2, 1, kind, (Shift(np.full(2, -1e6, kind)), *linear([[1, 1]], [0]).ops))
    # infinity - infinity for every row
    yield Network(2, 1, kind, (Scale(np.full(2, 3e38, kind)), *linear([[30, -30]], [0]).ops))


def bounds(_: Path) -> list[str]:
    """Boxes without NULL or NaN: points, narrow and wide ones, and rows in them."""
    found = []
    for number, network in enumerate(_networks()):
        rng = np.random.default_rng(number)
        centre = 1e6 + rng.normal(size=(6, 2)) if number == 12 else rng.normal(size=(6, 2)) * 2
        radius = rng.random((6, 2)) * np.array([0, 0, 1e-6, 0.1, 1, 3])[:, None]
        lower, upper = centre - radius, centre + radius
        share = (rng.random((6, 2, 12)) * 1.4 - 0.2).clip(0, 1)  # corners are likely
        rows = np.clip(lower[:, :, None] + share * (upper - lower)[:, :, None], lower[:, :, None], upper[:, :, None])
        blocks = [pa.table({"a": box[0], "b": box[1]}) for box in rows]
        chosen = model(network)
        no = np.zeros((6, 2), np.bool_)
        regions = Regions(("a", "b"), lower, upper, np.arange(6), np.full(6, 12), no, no, no, no)
        scores = [chosen.evaluate(block)[:, 0].astype(np.float64) for block in blocks]
        for i, s in enumerate(scores):
            least, most = (float(s.min()), float(s.max())) if np.isfinite(s).all() else (-INF, INF)
            for predicate in (chosen.output(0) >= most, chosen.output(0) <= least, chosen.output(0) > most):
                found += broken(f"network {number}", predicate, regions, blocks, _SCANT if i % 2 else _THOROUGH)
        for label in range(chosen.n_outputs if chosen.n_outputs > 1 else 0):
            found += broken(f"network {number}, class", chosen.is_class(label), regions, blocks, _THOROUGH)
    return found


_BLOCKS: tuple[tuple[list[float | None], list[float | None]], ...] = (
    ([1.0, 2.0], [1.0, 1.0]),
    ([1.0, 1.0], [1.0, 1.0]),
    ([1.0, NAN], [1.0, 1.0]),
    ([NAN, NAN], [1.0, 1.0]),
    ([1.0, None], [1.0, 1.0]),
    ([None, None], [1.0, 1.0]),
    ([1.0, None, NAN], [1.0, 2.0, 3.0]),
    ([None, 1.0], [NAN, 1.0]),
    ([-INF, INF], [0.0, 1.0]),
    ([INF, INF], [INF, INF]),
    ([-0.0, 0.0], [0.0, -0.0]),
    ([5.0, 6.0], [1.0, 2.0]),
    ([1.0, 1.0], [5.0, 5.0]),
)
"""Rows of the columns a and b."""


def regions_of(blocks: Sequence[pa.Table], columns: Sequence[str]) -> Regions:
    """The tightest regions of blocks of rows."""
    values = [[np.array(block[c].to_pylist(), np.float64) for c in columns] for block in blocks]
    null = np.array([[block[c].null_count for c in columns] for block in blocks])
    rows = np.array([block.num_rows for block in blocks])
    lower, upper, nan = np.zeros(null.shape), np.zeros(null.shape), np.zeros(null.shape, np.bool_)
    for i, block in enumerate(values):
        for j, column in enumerate(block):
            numbers = column[~np.isnan(column)]
            lower[i, j], upper[i, j] = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 0.0)
            nan[i, j] = len(numbers) + null[i, j] < len(column)
    return Regions(
        columns=tuple(columns),
        lower=lower,
        upper=upper,
        block=np.arange(len(blocks)),
        n_rows=rows,
        unknown=np.zeros(null.shape, np.bool_),
        all_null=null == rows[:, None],
        may_be_null=null > 0,
        may_be_nan=nan,
    )


def predicates(_: Path) -> list[str]:
    """Every test and its combinations over blocks with NULL, NaN and infinities, on scores without rounding."""
    blocks = [pa.table({"a": pa.array(a, pa.float64()), "b": pa.array(b, pa.float64())}) for a, b in _BLOCKS]
    regions = regions_of(blocks, ("a", "b"))
    classes = model(Network(2, 2, np.dtype(np.float64), ()))
    found = []
    for chosen in (model(identity()), model(identity("float64")), model(relu(slope=0.5)), classes):
        tests = list(tests_of(chosen, [1.0, 2.0, 0.0]))
        for name, predicate in tests:
            found += broken(name, predicate, regions, blocks, _THOROUGH)
        for (name, predicate), (other_name, other) in zip(tests[::5], tests[3::5], strict=False):
            for text, combined in (
                (f"({name}) and ({other_name})", predicate & other),
                (f"({name}) or ({other_name})", predicate | other),
                (f"not (({name}) and ({other_name}))", ~(predicate & other)),
            ):
                found += broken(text, combined, regions, blocks, _SCANT)
    score = model(identity("float64")).output(0)
    for low, high in ((1.0, 2.0), (0.0, 1.0), (2.0, 3.0), (-INF, INF)):
        between = score.between(low, high)
        found += broken(f"between {low} and {high}", between, regions, blocks, _THOROUGH)
        found += broken(f"not between {low} and {high}", ~between, regions, blocks, _THOROUGH)
    return found + _either(score, regions, blocks)


def _either(score: ModelScore, regions: Regions, blocks: Sequence[pa.Table]) -> list[str]:
    """A row group that two scans read is skipped only if neither needs it."""
    tests = (score > 2, score < 1)
    either = prune(tests[0], regions, _THOROUGH).either(prune(tests[1], regions, _THOROUGH))
    passed = [any(test.matches(rows).any() for test in tests) for rows in blocks]
    lost = np.flatnonzero((either.decision == SKIP) & np.array(passed))
    return [f"block {i} is SKIP, but one of the scans needs it" for i in lost]


BATTERIES: Mapping[str, Battery] = {"bounds": bounds, "predicates": predicates}
