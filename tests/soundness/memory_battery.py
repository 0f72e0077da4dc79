"""The part of the battery on what is remembered from one predicate to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.memory import Memory, key_of
from skipml.network import Affine, LeakyRelu, Network, Op
from skipml.predicates import Predicate
from skipml.regions import PairHull, Regions
from skipml.score_tests import ScoreTest
from skipml.scores import Model
from tests.soundness.battery import Battery, broken

Floats = NDArray[np.float64]

_BLOCKS, _PARTS, _ROWS = 8, 3, 12
_BUDGETS = (
    Budget.unlimited(boxes_per_block=3),
    Budget(cost_per_row=0.0, free_boxes=6),
    Budget.unlimited(boxes_per_block=24, prove_keep=True),
    Budget.unlimited(boxes_per_block=200),
)


@dataclass(frozen=True)
class _Case:
    """Blocks of several boxes over two inputs, with rows [M, R, 2] in each box."""

    regions: Regions
    rows: Floats

    @property
    def tables(self) -> list[pa.Table]:
        blocks = self.rows.reshape(_BLOCKS, -1, 2)
        return [pa.table({"a": block[:, 0], "b": block[:, 1]}) for block in blocks]


def _network(seed: int, n_outputs: int) -> Network:
    rng = np.random.default_rng(seed)
    ops: list[Op] = []
    for n_in, n_out in ((2, 6), (6, 5), (5, n_outputs)):
        weight, bias = rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)
        ops += [Affine(weight.astype(np.float32), bias.astype(np.float32)), LeakyRelu(0.0)]
    return Network(2, n_outputs, np.dtype(np.float32), tuple(ops[:-1]))


def _case(seed: int, with_hulls: bool) -> _Case:
    """Rows that follow the diagonal of their box, so that a polygon cuts much off."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.normal(size=(_BLOCKS * _PARTS, 2)), rng.random((_BLOCKS * _PARTS, 2)) * 0.7
    share = rng.random((_BLOCKS * _PARTS, _ROWS, 1)) * 2 - 1
    rows = centre[:, None] + radius[:, None] * np.clip(share + 0.1 * rng.normal(size=(*share.shape[:2], 2)), -1, 1)
    no = np.zeros((_BLOCKS, 2), np.bool_)
    blocks = np.repeat(np.arange(_BLOCKS), _PARTS)
    lower, upper = rows.min(axis=1), rows.max(axis=1)
    whole = Regions(("a", "b"), lower, upper, blocks, np.full(_BLOCKS, _PARTS * _ROWS), no, no, no, no)
    if with_hulls:
        points = rows.reshape(_BLOCKS, -1, 2)
        low, high = points.min(axis=1), points.max(axis=1)
        normal = np.array([[-1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]) / 2
        offset = np.max((points - low[:, None]) / (high - low)[:, None] @ normal.T, axis=1) + 1e-12
        whole = replace(whole, hulls=(PairHull((0, 1), low, high, np.tile(normal, (_BLOCKS, 1, 1)), offset),))
    else:  # the same boxes with other rows, on the other diagonal
        rows[:, :, 1] = np.clip((lower + upper)[:, None, 1] - rows[:, :, 1], lower[:, None, 1], upper[:, None, 1])
    return _Case(whole, rows)


def _questions(model: Model, case: _Case, seed: int) -> Iterator[Predicate]:
    """Filters that some blocks hold no row for, and combinations, which ask about some of the blocks only."""
    rng = np.random.default_rng(seed)
    scores = model.function.forward(case.rows.reshape(-1, 2)).astype(np.float64)
    for output in (0, model.n_outputs - 1):
        limits = np.quantile(scores[:, output], rng.random(4)).tolist()
        score = model.output(output)
        for low, high in zip(limits[:2], limits[2:], strict=True):
            yield score > low
            yield score <= high
            yield score.between(low, low + 1e-3)
            yield (score > low) & score.between(min(low, high), max(low, high))
            yield (score < low) | (score >= high)
    for label in range(model.n_outputs if model.n_outputs > 1 else 0):
        yield model.is_class(label)


def _contradicted(predicate: Predicate, case: _Case, memory: Memory, what: str) -> list[str]:
    """The boxes with a row whose score lies outside of the bounds that are remembered."""
    if not isinstance(predicate, ScoreTest):
        return []
    verifier = predicate.score.verifier
    key = key_of(verifier, case.regions.project(predicate.score.inputs))
    known = memory.recall(key) if key is not None else None
    if known is None:
        return [f"{what}: nothing is remembered"]
    rows = case.rows[:, :, [case.regions.columns.index(name) for name in predicate.score.inputs]]
    values = predicate.score.evaluate(rows.reshape(-1, 2)).reshape(*rows.shape[:2], -1)
    low, high = known.bounds(np.arange(len(rows)), len(rows))
    wrong = ((values < low[:, None]) | (values > high[:, None])).any(axis=(1, 2))
    found = [f"{what}: box {i} has a score outside of what is remembered" for i in np.flatnonzero(wrong)]
    covered = np.zeros(rows.shape[:2], np.bool_)
    for leaf, root in enumerate(known.root.tolist()):
        mine = rows[root].astype(np.float32)
        here = ((mine >= known.lower[leaf]) & (mine <= known.upper[leaf])).all(axis=1)
        covered[root] |= here
        if ((values[root][here] < known.low[leaf]) | (values[root][here] > known.high[leaf])).any():
            found.append(f"{what}: leaf {leaf} has a score outside of what is remembered")
    return found + [f"{what}: a row of box {i} is in no leaf" for i in np.flatnonzero(~covered.all(axis=1))]


def remembered(_: Path) -> list[str]:
    """Many models and tables ask by turns, and all share one memory."""
    found: list[str] = []
    memory = Memory()
    cases = [_case(seed, with_hulls) for seed in (0, 1) for with_hulls in (False, True)]
    models = [Model(_network(seed, 1 + 2 * (seed % 2)), ("a", "b")) for seed in range(3)]
    models.append(Model(models[1].function, ("b", "a")))
    for turn in range(2):
        for i, case in enumerate(cases):
            for j, model in enumerate(models):
                for k, predicate in enumerate(_questions(model, case, turn)):
                    budget = replace(_BUDGETS[(turn + i + j + k) % len(_BUDGETS)], memory=memory)
                    what = f"table {i}, model {j}, question {k}, turn {turn}"
                    found += broken(what, predicate, case.regions, case.tables, budget)
                    found += _contradicted(predicate, case, memory, what)
    return found


MEMORY_BATTERIES: dict[str, Battery] = {"memory": remembered}
