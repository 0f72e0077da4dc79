from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.bounds.branch import (
    _MANY_BLOCKS,
    EVALUATE,
    KEEP,
    SKIP,
    Budget,
    Method,
    Reason,
    branch_and_bound,
)
from skipml.bounds.budget import Ledger, Meter
from skipml.bounds.polygons import Hull
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Scale, Shift
from tests.bounds.executions import f32
from tests.strategies import Boxes, boxes, networks
from tests.test_network import mlp

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


class Unlucky(Verifier):
    """Never finds a passing point, so that only bounds decide."""

    def values(self, x: Floats) -> Floats:
        return np.full((len(x), len(self.functionals)), -1e9)


@dataclass(frozen=True)
class Above:
    limit: float

    def never(self, lower: Floats, upper: Floats) -> Bools:
        return upper[:, 0] <= self.limit

    def always(self, lower: Floats, upper: Floats) -> Bools:
        return lower[:, 0] > self.limit

    def holds(self, values: Floats) -> Bools:
        return values[:, 0] > self.limit


@dataclass(frozen=True)
class Below:
    limit: float

    def never(self, lower: Floats, upper: Floats) -> Bools:
        return lower[:, 0] >= self.limit

    def always(self, lower: Floats, upper: Floats) -> Bools:
        return upper[:, 0] < self.limit

    def holds(self, values: Floats) -> Bools:
        return values[:, 0] < self.limit


@dataclass(frozen=True)
class Inside:
    low: float
    high: float

    def never(self, lower: Floats, upper: Floats) -> Bools:
        return (upper[:, 0] < self.low) | (lower[:, 0] > self.high)

    def always(self, lower: Floats, upper: Floats) -> Bools:
        return (lower[:, 0] >= self.low) & (upper[:, 0] <= self.high)

    def holds(self, values: Floats) -> Bools:
        return (values[:, 0] >= self.low) & (values[:, 0] <= self.high)


@dataclass(frozen=True)
class AllPositive:
    def never(self, lower: Floats, upper: Floats) -> Bools:
        return np.asarray((upper <= 0).any(axis=1))

    def always(self, lower: Floats, upper: Floats) -> Bools:
        return np.asarray((lower > 0).all(axis=1))

    def holds(self, values: Floats) -> Bools:
        return np.asarray((values > 0).all(axis=1))


AnyTest = Above | Below | Inside | AllPositive


@dataclass(frozen=True, eq=False)
class Parts:
    lower: Floats
    upper: Floats
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    hulls: tuple[Hull, ...] = ()


def one_box_each(lower: Floats, upper: Floats, rows: int = 1000) -> Parts:
    return Parts(lower, upper, np.arange(len(lower)), np.full(len(lower), rows))


def wave(network_inputs: int = 1) -> Network:
    """y = |x1| - |x2| ..., in float64: a function whose interval bounds never suffice."""
    weight = np.concatenate([np.eye(network_inputs), -np.eye(network_inputs)])
    sign = np.array([[(-1.0) ** i for i in range(network_inputs)] * 2])
    ops = (Affine(weight, np.zeros(2 * network_inputs)), LeakyRelu(0.0), Affine(sign, np.zeros(1)))
    return Network(network_inputs, 1, F64, ops)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Network, Floats, AnyTest, Boxes]:
    """A network, functionals, a test whose limits are around its scores, and boxes."""
    network = draw(networks(n_inputs=st.integers(1, 2), hidden=st.lists(st.integers(1, 6), max_size=3)))
    box = draw(boxes(network.n_inputs))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = np.sort(network.forward(box.points(rng).reshape(-1, network.n_inputs))[:, 0].astype(np.float64))
    low, high = scores[sorted(rng.integers(len(scores), size=2))]
    beyond = draw(st.sampled_from([0.0, 0.0, 0.01, 1.0])) * max(1e-3, float(scores[-1] - scores[0]))
    first = np.eye(network.n_outputs)[:1]
    if network.n_outputs > 1 and draw(st.booleans()):
        functionals = np.eye(network.n_outputs)[:1] - np.eye(network.n_outputs)[1:]
        return network, functionals, AllPositive(), box
    tests: list[AnyTest] = [
        Above(float(high + beyond)),
        Below(float(low - beyond)),
        Inside(float(low), float(high)),
        Inside(float(scores[-1] + beyond), float(scores[-1] + 2 * beyond + 1)),
    ]
    return network, first, draw(st.sampled_from(tests)), box


def grid(box: Boxes, per_side: int = 41) -> Floats:
    """A dense grid over each box [K, M, d], corners included."""
    side = np.linspace(0, 1, per_side if box.lower.shape[1] == 2 else per_side**2)
    share = np.array(list(product(side, repeat=box.lower.shape[1])))[:, None, :]
    return np.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)


@settings(max_examples=150, deadline=None)
@given(questions(), st.booleans(), st.integers(0, 400))
def test_decisions_agree_with_a_dense_grid(
    question: tuple[Network, Floats, AnyTest, Boxes], prove_keep: bool, cap: int
) -> None:
    network, functionals, test, box = question
    outcome = branch_and_bound(
        Verifier(network, functionals),
        one_box_each(box.lower, box.upper),
        test,
        Budget.unlimited(boxes_per_block=cap, prove_keep=prove_keep),
    )
    points = grid(box)
    values = network.forward(points.reshape(-1, network.n_inputs)).astype(np.float64) @ functionals.T
    holds = test.holds(values).reshape(points.shape[:2])
    assert not (holds.any(axis=0) & (outcome.decision == SKIP)).any()
    assert not (~holds.all(axis=0) & (outcome.decision == KEEP)).any()
    found = values.reshape(*points.shape[:2], -1)
    assert (outcome.lower <= found.min(axis=0)).all()
    assert (outcome.upper >= found.max(axis=0)).all()
    assert ((outcome.reason == Reason.PROVED) == (outcome.decision != EVALUATE)).all()
    assert (outcome.boxes <= cap + 1).all()


def exact_maximum(network: Network, lower: Floats, upper: Floats) -> float:
    """The maximum of a network of two inputs and one hidden layer: it lies where two of the lines that bend it meet."""
    first = network.ops[0]
    assert isinstance(first, Affine)
    lines = [(w, -b) for w, b in zip(first.weight, first.bias, strict=True)]
    lines += [(side, edge) for i, side in enumerate(np.eye(2)) for edge in (lower[i], upper[i])]
    vertices = []
    for (a, p), (b, q) in combinations(lines, 2):
        matrix = np.array([a, b])
        if abs(np.linalg.det(matrix)) > 1e-12:
            vertices.append(np.linalg.solve(matrix, [p, q]))
    slack = 1e-12
    inside = [v for v in vertices if (v >= lower - slack).all() and (v <= upper + slack).all()]
    return float(network.forward(np.array(inside)).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_branch_and_bound_is_complete(seed: int) -> None:
    network = mlp((2, 6, 1), F64, seed)
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=(5, 2))
    upper = lower + rng.random((5, 2)) * 3
    verifier = Verifier(network)
    for i in range(len(lower)):
        best = exact_maximum(network, lower[i], upper[i])
        gap = 1e-4 * max(1.0, abs(best))
        part = one_box_each(lower[i : i + 1], upper[i : i + 1])
        budget = Budget.unlimited(boxes_per_block=200_000)
        assert branch_and_bound(verifier, part, Above(best + gap), budget).decision[0] == SKIP
        below = branch_and_bound(verifier, part, Above(best - gap), budget)
        assert below.decision[0] == EVALUATE
        assert below.reason[0] == Reason.FALSIFIED
        keep = Budget.unlimited(boxes_per_block=200_000, prove_keep=True)
        assert branch_and_bound(verifier, part, Below(best + gap), keep).decision[0] == KEEP
        assert branch_and_bound(verifier, part, Below(best - gap), keep).decision[0] == EVALUATE


def test_the_ladder_stops_at_the_first_rung_that_decides() -> None:
    verifier = Verifier(wave(2))
    lower, upper = np.array([[-1.0, -1.0]] * 3), np.array([[1.0, 1.0]] * 3)
    parts = one_box_each(lower, upper)
    easy = branch_and_bound(verifier, parts, Above(5.0), Budget.unlimited())
    assert (easy.method == Method.INTERVAL).all()
    assert (easy.boxes == 1).all()
    # interval bounds say 2, CROWN says 1, which is the maximum
    line = branch_and_bound(verifier, parts, Above(1.5), Budget.unlimited())
    assert (line.method == Method.CROWN).all()
    assert (line.decision == SKIP).all()
    assert (line.boxes == 1).all()
    deep = Verifier(mlp((2, 8, 8, 1), F64, 3))
    highest = float(deep.values(grid(Boxes(lower[:1], upper[:1])).reshape(-1, 2)).max())
    hard = branch_and_bound(deep, parts, Above(highest + 0.01), Budget.unlimited())
    assert (hard.method == Method.BRANCH).all()
    assert (hard.decision == SKIP).all()
    assert (hard.boxes > 1).all()


def test_a_block_is_the_union_of_its_boxes() -> None:
    verifier = Verifier(wave())  # |x|
    parts = Parts(
        lower=np.array([[-1.0], [0.5], [-2.0], [3.0], [3.0], [5.0], [-1.0]]),
        upper=np.array([[0.5], [1.0], [1.0], [4.0], [4.0], [6.0], [5.0]]),
        block=np.array([0, 0, 1, 1, 3, 3, 4]),
        n_rows=np.full(5, 100),
    )
    outcome = branch_and_bound(verifier, parts, Above(2.5), Budget.unlimited(prove_keep=True))
    assert outcome.decision.tolist() == [SKIP, EVALUATE, EVALUATE, KEEP, EVALUATE]
    assert outcome.reason[2] == Reason.NOT_TRIED  # a block without a box
    np.testing.assert_allclose(outcome.upper[[0, 1, 3, 4], 0], [1.5, 4.0, 6.0, 5.0])
    assert outcome.lower[3, 0] == pytest.approx(3.0)
    assert np.isinf(outcome.lower[2, 0])
    shuffled = np.array([6, 3, 1, 5, 0, 2, 4])
    again = Parts(parts.lower[shuffled], parts.upper[shuffled], parts.block[shuffled], parts.n_rows)
    mixed = branch_and_bound(verifier, again, Above(2.5), Budget.unlimited(prove_keep=True))
    assert mixed.decision.tolist() == outcome.decision.tolist()


def test_a_corner_that_passes_ends_the_work() -> None:
    verifier = Verifier(wave(2))
    parts = one_box_each(np.array([[0.0, 0.5]]), np.array([[1.0, 0.6]]))  # x1 - x2: highest at one corner
    outcome = branch_and_bound(verifier, parts, Above(0.49), Budget.unlimited())
    assert outcome.reason[0] == Reason.FALSIFIED
    assert outcome.boxes[0] == 1


def test_one_passing_point_ends_the_work_unless_keep_is_wanted() -> None:
    verifier = Verifier(mlp((2, 16, 16, 1), F32, 1))
    parts = one_box_each(np.full((1, 2), -3.0), np.full((1, 2), 3.0))
    low, _ = verifier.interval(parts.lower, parts.upper)
    span = branch_and_bound(verifier, parts, Above(float(low[0, 0])), Budget.unlimited())
    assert span.reason[0] in (Reason.PROVED, Reason.FALSIFIED)
    assert span.boxes[0] <= 1
    rng = np.random.default_rng(0)
    scores = verifier.values(rng.uniform(-3, 3, size=(100_000, 2)))[:, 0]
    almost = float(scores.min()) - 0.2
    assert branch_and_bound(verifier, parts, Above(almost), Budget.unlimited()).decision[0] == EVALUATE
    kept = branch_and_bound(verifier, parts, Above(almost), Budget.unlimited(prove_keep=True))
    assert kept.decision[0] == KEEP
    assert kept.boxes[0] > 1
    neither = branch_and_bound(verifier, parts, Above(float(np.median(scores))), Budget.unlimited(prove_keep=True))
    assert neither.reason[0] == Reason.FALSIFIED


def test_a_point_that_the_margin_does_not_decide_is_evaluated() -> None:
    network = mlp((2, 8, 1), F32, 2)
    x = f32([[0.3, 0.7]]).astype(np.float64)
    score = float(network.forward(x)[0, 0])
    outcome = branch_and_bound(Verifier(network), one_box_each(x, x), Above(score + 1e-9), Budget.unlimited())
    assert outcome.decision[0] == EVALUATE
    assert outcome.reason[0] == Reason.DEGENERATE
    # a box of a few floats: every leaf becomes a point, and the search ends
    upper = np.nextafter(np.nextafter(np.float32(x), np.float32(2)), np.float32(2)).astype(np.float64)
    small = branch_and_bound(Verifier(network), one_box_each(x, upper), Above(score + 1e-6), Budget.unlimited())
    assert small.decision[0] == EVALUATE
    assert small.boxes[0] < 40


def test_halves_leave_no_float_out() -> None:
    """y = 1 at one float32 input and at most 0 at every other: the leaf that holds it must not be lost."""
    ulp = np.float32(2.0**-23)
    lower, upper = np.array([[1.0]]), np.array([[float(1 + 11 * ulp)]])
    for k in range(12):
        target = 1 + np.float32(k) * ulp
        ops = (
            Shift(f32([-target])),
            Scale(f32([1 / ulp])),
            Affine(f32([[1.0], [-1.0]]), np.zeros(2, "f")),
            LeakyRelu(0.0),
            Affine(f32([[-1.0, -1.0]]), f32([1.0])),
        )
        network = Network(1, 1, F32, ops)
        assert network.forward(np.array([[target]]))[0, 0] == 1.0
        verifier = Verifier(network)
        part = one_box_each(lower, upper)
        assert branch_and_bound(Unlucky(network), part, Above(0.9), Budget.unlimited()).decision[0] == EVALUATE
        assert branch_and_bound(verifier, part, Above(1.01), Budget.unlimited()).decision[0] == SKIP
        halved = branch_and_bound(Unlucky(network), part, Inside(0.1, 0.9), Budget.unlimited())
        assert halved.decision[0] == SKIP  # only by going down to single floats
        assert halved.boxes[0] >= 7


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_boxes_without_end_are_evaluated(dtype: np.dtype[Any]) -> None:
    network = mlp((2, 8, 8, 1), dtype)
    lower = np.array([[-np.inf, 0.0], [0.0, 0.0], [0.0, 0.0], [np.nan, 0.0]])
    upper = np.array([[np.inf, 1.0], [1e308, 1.0], [0.1, 0.1], [1.0, 1.0]])
    outcome = branch_and_bound(Verifier(network), one_box_each(lower, upper), Above(1e5), Budget.unlimited())
    assert outcome.decision.tolist() == [EVALUATE, EVALUATE, SKIP, EVALUATE]
    assert (outcome.reason[[0, 1, 3]] == Reason.OVERFLOW).all()
    assert np.isinf(outcome.upper[[0, 1, 3]]).all()


def test_no_blocks_have_no_decisions() -> None:
    none = one_box_each(np.zeros((0, 2)), np.zeros((0, 2)))
    outcome = branch_and_bound(Verifier(mlp((2, 3, 1))), none, Above(0), Budget(cost_per_row=1e-7))
    assert outcome.decision.shape == (0,)
    assert outcome.lower.shape == (0, 1)


def test_waves_of_one_box_end_and_a_run_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf takes two boxes to split, so a wave of one that meets only leaves is the last."""
    deep = Verifier(mlp((2, 8, 8, 1), F64, 3))
    lower, upper = np.array([[-1.0, -1.0]] * 3), np.array([[1.0, 1.0]] * 3)
    highest = float(deep.values(grid(Boxes(lower[:1], upper[:1])).reshape(-1, 2)).max())
    ledger = Ledger()
    budget = replace(Budget.unlimited(), ledger=ledger)
    monkeypatch.setattr(Meter, "next_wave", lambda meter, deep: 1)
    outcome = branch_and_bound(deep, one_box_each(lower, upper), Above(highest + 0.01), budget)
    assert outcome.decision.tolist() == [EVALUATE] * 3
    assert outcome.boxes.sum() == 1
    assert ledger.estimated > 0
    assert ledger.spent > 0


@pytest.mark.parametrize("limit", [0.5, -0.5])
def test_many_blocks_are_left_alone_where_a_sample_of_them_needs_every_row(limit: float) -> None:
    """Half of the blocks hold a row that passes and one that does not, in a sample all do; or none can be skipped."""
    n = 4 * _MANY_BLOCKS
    lower, upper = np.full((n, 1), -1.0), np.full((n, 1), 1.0)
    mixed = branch_and_bound(Verifier(wave()), one_box_each(lower, upper), Above(0.5), Budget(cost_per_row=1.0))
    assert mixed.decision.tolist() == [EVALUATE] * n
    upper[::2] = -0.9 if limit < 0 else 1.0
    some = branch_and_bound(Verifier(linear_network()), one_box_each(lower, upper), Above(limit), Budget.unlimited())
    assert some.decision.tolist() == ([SKIP, EVALUATE] if limit < 0 else [EVALUATE, EVALUATE]) * (n // 2)


def linear_network() -> Network:
    """x."""
    return Network(1, 1, F64, (Affine(np.ones((1, 1)), np.zeros(1)),))
