"""Decisions about blocks whose scores are known: how they are made, merged and passed down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Narrowed, Outcome, Reason
from skipml.decisions import Decisions, decide, prove_keep, prune
from skipml.network import Affine, LeakyRelu, Network
from skipml.regions import Regions
from tests.oracle import identity, linear, model

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
SCORE = model(identity("float64"))


def regions(*limits: tuple[float, float], **more: Any) -> Regions:
    """A block for each range of the column a."""
    lower, upper = np.array(limits, np.float64).T[:, :, None]
    n = len(limits)
    no = np.zeros((n, 1), np.bool_)
    return Regions(("a",), lower, upper, np.arange(n), np.full(n, 10), no, no, no, no, **more)


def made(decision: list[int], **more: Any) -> Decisions:
    n = len(decision)
    known: dict[str, Any] = {
        "decision": np.array(decision, np.int8),
        "lower": np.arange(n, dtype=np.float64),
        "upper": np.arange(n) + 10.0,
        "method": np.full(n, Method.CROWN, np.int8),
        "reason": np.full(n, Reason.PROVED, np.int8),
        "seconds": 1.0,
    }
    return Decisions(**(known | more))


def test_blocks_that_are_below_at_and_above_a_limit() -> None:
    found = prune(SCORE > 2, regions((0, 1), (1, 1.99), (1, 3), (3, 4)), _THOROUGH)
    assert found.decision.tolist() == [SKIP, SKIP, EVALUATE, KEEP]
    assert not found.error
    assert (found.lower <= [0, 1, 1, 3]).all()
    assert (found.upper >= [1, 1.99, 3, 4]).all()
    np.testing.assert_allclose(found.lower, [0, 1, 1, 3], atol=1e-6)
    np.testing.assert_allclose(found.upper, [1, 1.99, 3, 4], atol=1e-6)


def test_an_error_is_noted_and_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Outcome:
        raise RuntimeError("broken")

    monkeypatch.setattr("skipml.decisions.decide", fail)
    found = prune(SCORE > 2, regions((0, 1), (3, 4)), _THOROUGH)
    assert found.decision.tolist() == [EVALUATE, EVALUATE]
    assert found.error == "RuntimeError: broken"
    assert np.isnan([found.lower, found.upper]).all()
    before = made([SKIP, EVALUATE])
    after = prove_keep(SCORE > 2, regions((0, 1), (3, 4)), _THOROUGH, before)
    assert after.decision.tolist() == [SKIP, EVALUATE]
    assert after.error == "RuntimeError: broken"


def test_what_is_open_is_tried_once_more_for_keep() -> None:
    blocks = regions((0, 1), (3, 4), (1, 3))
    budget = replace(_THOROUGH, prove_keep=False)
    before = made([SKIP, EVALUATE, EVALUATE], seconds=100.0)
    after = prove_keep(SCORE > 2, blocks, budget, before)
    assert after.decision.tolist() == [SKIP, KEEP, EVALUATE]
    assert after.seconds >= 100.0
    assert after.lower[1] == pytest.approx(3)
    assert (after.lower[[0, 2]] == before.lower[[0, 2]]).all()


def test_keep_that_takes_work_is_proved_only_where_it_is_worth_it() -> None:
    """relu(a) + relu(1 - a) is at least 1, which only the halves of the box show."""
    first = Affine(np.array([[1.0], [-1.0]]), np.array([0.0, 1.0]))
    network = Network(1, 1, np.dtype(np.float64), (first, LeakyRelu(0.0), Affine(np.ones((1, 2)), np.zeros(1))))
    at_least = model(network) > 0.9
    blocks, budget = regions((-3, 1)), replace(_THOROUGH, prove_keep=False)
    before = prune(at_least, blocks, budget)
    assert before.decision.tolist() == [EVALUATE]
    assert prove_keep(at_least, blocks, budget, before).decision.tolist() == [KEEP]


def test_runs_of_blocks_are_decided_as_all_of_them_are() -> None:
    reason = np.array([Reason.PROVED, Reason.PROVED, Reason.PROVED, Reason.BUDGET, Reason.FALSIFIED, Reason.PROVED])
    found = made([SKIP, SKIP, KEEP, EVALUATE, EVALUATE, KEEP], reason=reason.astype(np.int8))
    merged = found.merged(np.array([0, 0, 1, 1, 2, 3]))
    assert merged.decision.tolist() == [SKIP, EVALUATE, EVALUATE, KEEP]
    assert merged.lower.tolist() == [0, 2, 4, 5]
    assert merged.upper.tolist() == [11, 13, 14, 15]
    assert merged.reason.tolist() == [Reason.PROVED, Reason.BUDGET, Reason.FALSIFIED, Reason.PROVED]
    mixed = made([SKIP, KEEP]).merged(np.array([0, 0]))
    assert mixed.decision.tolist() == [EVALUATE]
    method = np.array([Method.CROWN, Method.BRANCH], np.int8)
    assert made([SKIP, SKIP], method=method).merged(np.array([0, 0])).method_names == ["branch"]
    assert made([SKIP, KEEP, KEEP]).merged(np.array([1, 2, 2])).decision.tolist() == [SKIP, KEEP]


def test_two_scans_keep_what_either_needs() -> None:
    one, other = made([SKIP, SKIP, KEEP, EVALUATE]), made([SKIP, KEEP, KEEP, SKIP], lower=np.full(4, 1.5), error="e")
    both = one.either(other)
    assert both.decision.tolist() == [SKIP, EVALUATE, EVALUATE, EVALUATE]
    assert both.lower.tolist() == [0, 1, 1.5, 1.5]
    assert both.upper.tolist() == [10, 11, 12, 13]
    assert both.seconds == 2.0
    assert both.error == "e"
    assert other.either(one).error == "e"
    assert one.either(made([SKIP] * 4, lower=np.full(4, np.nan))).lower.tolist() == [0, 1, 2, 3]
    small, large = Narrowed((2, 1), (1, 1), 2, 1), Narrowed((4, 1), (3, 1), 4, 3)
    narrowed = made([SKIP], narrowed=(small, large)).either(made([SKIP], narrowed=(large,))).narrowed
    assert narrowed == (small, large), "each is named once"


def test_bounds_of_several_scores_are_of_none() -> None:
    outcome = Outcome.evaluate_all(2)
    assert Decisions.of(outcome).decision.tolist() == [EVALUATE, EVALUATE]
    several = replace(outcome, lower=np.zeros((2, 3)), upper=np.ones((2, 3)))
    assert np.isnan(Decisions.of(several).lower).all()
    assert np.isnan(Decisions.of(several).upper).all()


@pytest.mark.parametrize("chosen", [None, [True, True, False, True, False, True]])
def test_coarser_blocks_decide_finer_ones(chosen: list[bool] | None) -> None:
    coarser = regions((0, 1), (0, 9), (7, 9))
    fine = regions((0, 1), (0, 1), (0, 1), (8, 9), (1, 3), (7, 8), coarser=coarser, parent=np.array([0, 0, 1, 1, 1, 2]))
    mask = None if chosen is None else np.array(chosen)
    found = decide(SCORE > 2, fine, _THOROUGH, mask)
    expected = np.array([SKIP, SKIP, SKIP, KEEP, EVALUATE, KEEP])
    assert found.decision.tolist() == np.where(True if mask is None else mask, expected, EVALUATE).tolist()


def test_a_class_is_decided_by_the_outputs() -> None:
    chosen = model(linear([[1], [-1]], [0, 0], "float64"))
    found = prune(chosen.is_class(0), regions((1, 2), (-2, -1), (-1, 1)), _THOROUGH)
    assert found.decision.tolist() == [KEEP, SKIP, EVALUATE]
