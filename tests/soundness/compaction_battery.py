"""Networks that are bounded without what gives nothing over the blocks: rows at the ends of the domain, where a neuron
is just dead, just linear or nearly constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import skipml
from skipml.bounds.budget import Budget
from skipml.graph import Add, Graph, Node
from skipml.links import Link
from skipml.network import Affine, LeakyRelu, Network, Op, Scale, Shift
from skipml.predicates import Predicate
from skipml.preparation import Feature
from skipml.prepared import Prepared
from skipml.scores import ModelScore
from tests.soundness.battery import INF, NAN, Battery, broken, regions_of

_F32 = np.dtype(np.float32)
_THOROUGH = Budget.unlimited(boxes_per_block=4, prove_keep=True)
_SPREAD = np.linspace(-1.0, 1.0, 9)


def _layer(weight: Sequence[Sequence[float]], bias: Sequence[float]) -> Affine:
    return Affine(np.array(weight, np.float32), np.array(bias, np.float32))


def _chain(*ops: Op) -> Network:
    last = [op for op in ops if isinstance(op, Affine)][-1]
    return Network(1, len(last.weight), _F32, ops)


def _networks() -> dict[str, Network | Graph]:
    """Networks of one input between -1 and 1; the last neurons of each are the ones in question."""
    relu, padding = LeakyRelu(0.0), [[0.0]] * 6
    ones = [[1.0] * 8]
    constants = [0.1, 0.7, 1e6, 0.3, 0.1, 0.9]
    found: dict[str, Network | Graph] = {
        "constants that cancel": _chain(
            _layer([[1.0], [-1.0], *padding], [0.0, 0.0, *constants]), relu, _layer(ones, [-1e6])
        ),
        "dead but for the end": _chain(
            _layer([[1.0], [1.0], [-1.0], *padding[:5]], [1.5, -1 + 2.0**-20, -2.0, *[-1.0] * 5]),
            relu,
            _layer([[0.0, 2.0**20, *[1.0] * 6]], [0.0]),
        ),
        "linear but for the end": _chain(
            _layer([[1.0], [1.0]], [1 - 2.0**-20, 2.0]), relu, _layer([[2.0**20, 0.0]], [0.0])
        ),
        "dead before a shift": _chain(
            _layer([[1.0], *padding, [0.0]], [2.0, *[-1.0] * 7]), relu, Shift(np.full(8, 3, _F32)), _layer(ones, [0.0])
        ),
        "overflow that nothing reads": _chain(
            Scale(np.full(1, 3e38, _F32)),
            _layer([[1e-38], *[[30.0]] * 7], [0.0] * 8),
            relu,
            _layer([[1.0, *[0.0] * 7]], [0.0]),
        ),
    }
    hidden = _layer([[1.0], [1.0], [0.0], [0.0]], [-2.0, 2.0, 0.5, 1e6]), relu
    nodes = [Node(hidden[0], (0,)), Node(relu, (1,)), Node(_layer([[1.0] * 4], [-1e6]), (2,)), Node(Add(), (0, 3))]
    return found | {"residual block": Graph(1, _F32, tuple(nodes))}


def _prepared() -> Prepared:
    """A network whose input is 5 where the column lacks a number, and is dead below 2 otherwise."""
    layer = Affine(np.array([[1.0], [1.0], *[[0.0]] * 6]), np.array([-2.0, 1.5, *[-1.0] * 6]))
    last = Affine(np.ones((1, 8)), np.zeros(1))
    network = Network(1, 1, np.dtype(np.float64), (layer, LeakyRelu(0.0), last))
    return Prepared(1, (Feature(0, (), 5.0),), network, Link())


def _blocks() -> list[pa.Table]:
    """Single rows, pairs, and all of the domain; rows that lack a number, or have none."""
    values: list[list[float | None]] = [[x] for x in _SPREAD.tolist()]
    values += [[a, b] for a, b in zip(_SPREAD[:-1].tolist(), _SPREAD[1:].tolist(), strict=True)]
    values += [[-1.0, 0.0, 1.0], [0.5, INF], [0.5, None], [NAN, 0.25], [None, None]]
    return [pa.table({"a": pa.array(block, pa.float64())}) for block in values]


def cases() -> Iterator[tuple[str, skipml.Model, list[pa.Table]]]:
    """Models by name, and blocks of rows."""
    for name, network in _networks().items():
        yield name, skipml.Model(network, ("a",)), _blocks()
    yield "prepared", skipml.Model(_prepared(), ("a",)), _blocks()


def _asked(score: ModelScore, known: NDArray[np.floating]) -> Iterator[Predicate]:
    """Limits at scores, where a decision just holds or just fails, and beyond all of them, where only NaN passes."""
    numbers = np.unique(known[np.isfinite(known)])
    for limit in (float(numbers[0]), float(np.quantile(numbers, 0.7, method="nearest")), float(numbers[-1])):
        yield from (score >= limit, score > limit, score <= limit, score < limit)
    yield score > float(numbers[-1]) + 100.0


def compaction(_: Path) -> list[str]:
    """Decisions of many tests, with a block of which nothing is known beside those that make the domain."""
    found = []
    for name, model, blocks in cases():
        regions = regions_of(blocks, ("a",))
        unknown = np.zeros_like(regions.unknown)
        unknown[4] = True
        lower, upper = np.where(unknown, -INF, regions.lower), np.where(unknown, INF, regions.upper)
        regions = replace(regions, unknown=unknown, lower=lower, upper=upper)
        for predicate in _asked(model.output(0), model.evaluate(pa.concat_tables(blocks))[:, 0]):
            found += broken(f"{name}, {predicate}", predicate, regions, blocks, _THOROUGH)
    return found


COMPACTION_BATTERIES: dict[str, Battery] = {"compaction": compaction}
