from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds import budget as budget_module
from skipml.bounds.branch import EVALUATE, KEEP, SKIP, Budget, Method, Reason, branch_and_bound, resume
from skipml.bounds.crown import LinearBounds
from skipml.bounds.memory import Known
from skipml.bounds.verifier import Verifier
from tests.bounds.test_branch import F32, Above, Inside, Parts, one_box_each
from tests.test_network import mlp

Floats = NDArray[np.float64]


class CountingVerifier(Verifier):
    """Bounding a box by CROWN is taken to cost one second, and counted."""

    now = 0.0

    @property
    def seconds_per_box(self) -> float:
        return 1.0

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        self.now += len(lower)
        return super().crown(lower, upper)


@pytest.fixture
def clocked() -> CountingVerifier:
    return CountingVerifier(mlp((3, 32, 32, 1), F32, 5))


def hard_blocks(n: int, rows: int) -> Parts:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(n, 3))
    return one_box_each(centre - 0.8, centre + 0.8, rows)


def closest_limits(verifier: Verifier, parts: Parts) -> float:
    share = np.random.default_rng(1).random((400, *parts.lower.shape))
    points = parts.lower + share * (parts.upper - parts.lower)
    return float(verifier.values(points.reshape(-1, 3)).max())


def test_without_success_only_the_share_is_spent(clocked: CountingVerifier) -> None:
    parts = hard_blocks(400, 1000)
    limit = closest_limits(Verifier(clocked.network), parts)
    _, high = clocked.interval(parts.lower, parts.upper)
    hopeless = Inside(limit * 0.999, limit)  # nothing can be proved of the blocks that come near
    assert (high > limit).all()
    # scoring takes 1 s per row in a block of 1,000: 400 blocks grant 3 % of 400,000 s
    budget = Budget(cost_per_row=0.01, boxes_per_block=10_000, gain_share=0.0, free_boxes=0)
    outcome = branch_and_bound(clocked, parts, hopeless, budget)
    granted = 0.03 * 0.01 * 400 * 1000
    assert granted - 2 <= outcome.boxes.sum() <= granted
    assert clocked.now <= granted
    assert (outcome.reason == Reason.BUDGET).any()


def test_success_feeds_further_work(clocked: CountingVerifier) -> None:
    parts = hard_blocks(400, 1000)
    limit = closest_limits(Verifier(clocked.network), parts) * 1.05
    everything = branch_and_bound(clocked, parts, Above(limit), Budget.unlimited())
    needed = clocked.now
    clocked.now = 0.0
    stingy = Budget(cost_per_row=0.001, share=0.02, gain_share=0.0, free_boxes=0)
    poor = branch_and_bound(clocked, parts, Above(limit), stingy)
    assert clocked.now <= 0.02 * 400
    clocked.now = 0.0
    fed = branch_and_bound(clocked, parts, Above(limit), Budget(cost_per_row=0.1, share=1e-9, free_boxes=32))
    assert clocked.now <= 0.5 * 0.1 * 1000 * (fed.decision == SKIP).sum() + 32
    assert (poor.decision == SKIP).sum() < (fed.decision == SKIP).sum()
    assert (fed.decision == SKIP).sum() == (everything.decision == SKIP).sum()
    assert needed >= 400


def test_the_first_pass_is_a_sample_if_it_would_cost_too_much(clocked: CountingVerifier) -> None:
    parts = hard_blocks(1000, 10)
    hopeless = Above(-1e6)
    poor = Budget(cost_per_row=0.1, gain_share=0.0, free_boxes=0)
    outcome = branch_and_bound(clocked, parts, Inside(-1e-9, 1e-9), poor)
    assert clocked.now <= 0.03 * 0.1 * 10_000
    untouched = outcome.method == Method.NONE
    assert untouched.sum() > 500
    assert (outcome.decision[untouched] == EVALUATE).all()
    assert (outcome.reason[untouched] == Reason.BUDGET).all()
    assert np.isinf(outcome.upper[untouched]).all()
    clocked.now = 0.0
    assert (branch_and_bound(clocked, parts, hopeless, Budget(cost_per_row=0.1)).decision == KEEP).sum() > 0


def test_where_every_block_of_a_sample_holds_a_passing_point_the_others_are_left_alone(
    clocked: CountingVerifier,
) -> None:
    parts = hard_blocks(1000, 10)
    centres = Verifier(clocked.network).values((parts.lower + parts.upper) / 2)
    passed_by_all, rich = Inside(float(centres.min()), float(centres.max())), Budget(cost_per_row=1.0)
    outcome = branch_and_bound(clocked, parts, passed_by_all, rich)
    assert clocked.now <= 64
    assert not (outcome.decision == SKIP).any()
    assert (~np.isin(outcome.reason, (Reason.BUDGET, Reason.SAMPLE))).sum() == 64
    everything = branch_and_bound(clocked, parts, passed_by_all, Budget.unlimited(8))
    assert (everything.reason != Reason.BUDGET).all()
    clocked.now = 0.0
    keeping = branch_and_bound(clocked, parts, passed_by_all, Budget(cost_per_row=1.0, prove_keep=True))
    assert clocked.now > 64
    assert (keeping.decision == KEEP).sum() > (outcome.decision == KEEP).sum()
    clocked.now = 0.0
    passed_by_half = float(np.quantile(clocked.interval(parts.lower, parts.upper)[1], 0.5))
    several = branch_and_bound(clocked, parts, Above(passed_by_half), rich)
    assert clocked.now > 64
    assert (several.decision == SKIP).sum() > 10


def test_points_alone_end_a_run_in_which_nothing_can_be_decided(clocked: CountingVerifier) -> None:
    jitter = np.random.default_rng(0).random((400, 3)) * 0.1
    parts = one_box_each(jitter - 0.5, jitter + 0.5, 10)
    middle = float(np.median(Verifier(clocked.network).values(jitter)))
    for budget in (Budget(cost_per_row=1.0), Budget(cost_per_row=1.0, prove_keep=True)):
        outcome = branch_and_bound(clocked, parts, Above(middle), budget)
        assert clocked.now == 0
        assert (outcome.decision == EVALUATE).all()
        assert (outcome.reason == Reason.FALSIFIED).sum() == 64
        assert (outcome.reason == Reason.SAMPLE).sum() == 400 - 64
    always_passed = branch_and_bound(clocked, parts, Above(-1e6), Budget(cost_per_row=1.0))
    assert (always_passed.decision == KEEP).sum() == 64
    assert (always_passed.reason[always_passed.decision == EVALUATE] == Reason.BUDGET).all()
    known = Known.nothing(parts.lower, parts.upper, 1)
    _, seen = resume(clocked, parts, Above(middle), Budget(cost_per_row=1.0), known)
    again, after = resume(clocked, parts, Above(middle), Budget(cost_per_row=1.0, prove_keep=True), seen)
    assert (again.reason == Reason.FALSIFIED).sum() == 64
    assert np.array_equal(after.lowest, seen.lowest)


def test_the_blocks_nearest_to_a_proof_come_first(clocked: CountingVerifier) -> None:
    parts = hard_blocks(400, 1000)
    limit = closest_limits(Verifier(clocked.network), parts) * 0.8
    budget = Budget(cost_per_row=0.06, boxes_per_block=4000, gain_share=0.0, free_boxes=0)
    outcome = branch_and_bound(clocked, parts, Above(limit), budget)
    clocked.now = 0.0
    bounds = clocked.crown(parts.lower, parts.upper).upper[:, 0]
    split = outcome.method == Method.BRANCH
    left = (outcome.method == Method.CROWN) & (outcome.reason == Reason.BUDGET)
    assert left.any()
    assert np.median(bounds[split]) < np.median(bounds[left])


def test_a_cap_on_boxes_is_kept(clocked: CountingVerifier) -> None:
    parts = hard_blocks(50, 1000)
    limit = closest_limits(Verifier(clocked.network), parts)
    for cap in (0, 2, 20):
        outcome = branch_and_bound(clocked, parts, Inside(limit - 1e-7, limit), Budget.unlimited(boxes_per_block=cap))
        assert outcome.boxes.max() <= 1 + cap
        assert set(outcome.reason.tolist()) <= {Reason.PROVED, Reason.FALSIFIED, Reason.BUDGET}


def test_the_clock_stops_a_run_far_beyond_its_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(mlp((3, 32, 32, 1), F32, 5))
    parts = hard_blocks(50, 1000)
    ticks = iter(range(0, 10**8, 100))
    monkeypatch.setattr(budget_module, "perf_counter", lambda: float(next(ticks)))
    outcome = branch_and_bound(verifier, parts, Above(-1e6), Budget(cost_per_row=1e-6))
    assert (outcome.decision == EVALUATE).all()
    assert (outcome.reason == Reason.BUDGET).all()


def test_decisions_do_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(mlp((3, 32, 32, 1), F32, 5))
    parts = hard_blocks(300, 1000)
    limit = closest_limits(verifier, parts)
    test = Inside(limit * 0.999, limit)
    budget = Budget(cost_per_row=1e-7, gain_share=0.0)
    first = branch_and_bound(verifier, parts, test, budget)
    monkeypatch.setattr(budget_module, "perf_counter", lambda: 0.0)
    second = branch_and_bound(verifier, parts, test, budget)
    assert (first.decision == second.decision).all()
    assert (first.boxes == second.boxes).all()
    assert (first.reason == Reason.BUDGET).any(), "the budget must matter for this test to say something"
