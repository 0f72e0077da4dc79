"""Which blocks each level and each side of a condition is asked about, and with what share of the budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Bools, Outcome
from skipml.decisions import decide
from skipml.predicates import And, Or, Predicate, Score
from skipml.regions import Regions
from tests.test_decisions import regions

_BUDGET = Budget(1.0, share=0.24, free_boxes=240)


@dataclass(frozen=True, eq=False, slots=True)
class Recorded(Predicate):
    """Answers `decisions`, by how many blocks there are, for what is chosen, and notes what it was asked."""

    decisions: dict[int, list[int]]
    asked: list[tuple[int, list[bool] | None, float]] = field(default_factory=list)
    cost: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("a",)

    @property
    def scores(self) -> tuple[Score, ...]:
        return ()

    @property
    def seconds_per_row(self) -> float:
        return self.cost

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        self.asked.append((len(regions), None if chosen is None else chosen.tolist(), budget.share))
        found = Outcome.evaluate_all(len(regions)).replace_decision(np.array(self.decisions[len(regions)], np.int8))
        return found if chosen is None else found.only(chosen)

    def matches(self, rows: pa.Table) -> Bools:
        raise NotImplementedError

    def negated(self) -> Predicate:
        raise NotImplementedError


def levels(parent: list[int]) -> Regions:
    """Blocks below coarser ones."""
    coarser = regions(*[(0, 1)] * (max(parent) + 1))
    return regions(*[(0, 1)] * len(parent), coarser=coarser, parent=np.array(parent))


@pytest.mark.parametrize("missing", [{"coarser": None}, {"parent": None}])
def test_blocks_without_a_level_above_are_asked_about_alone(missing: dict[str, Any]) -> None:
    asked = Recorded({4: [SKIP, KEEP, EVALUATE, SKIP]})
    found = decide(asked, replace(levels([0, 0, 1, 1]), **missing), _BUDGET)
    assert found.decision.tolist() == [SKIP, KEEP, EVALUATE, SKIP]
    assert asked.asked == [(4, None, _BUDGET.share)]


def test_blocks_that_the_level_above_decides_are_not_asked_about() -> None:
    asked = Recorded({3: [SKIP, EVALUATE, KEEP], 6: [KEEP] * 6})
    found = decide(asked, levels([0, 0, 1, 1, 2, 2]), _BUDGET)
    assert found.decision.tolist() == [SKIP, SKIP, KEEP, KEEP, KEEP, KEEP]
    assert [a[1] for a in asked.asked] == [None, [False, False, True, True, False, False]]


def test_above_those_that_are_chosen_only_their_parents_are_asked_about() -> None:
    asked = Recorded({3: [EVALUATE, SKIP, EVALUATE], 6: [KEEP] * 6})
    chosen = np.array([True, False, False, False, True, True])
    found = decide(asked, levels([0, 0, 1, 1, 2, 2]), _BUDGET, chosen)
    assert [a[1] for a in asked.asked] == [[True, False, True], chosen.tolist()]
    assert found.decision.tolist() == [KEEP, EVALUATE, EVALUATE, EVALUATE, KEEP, KEEP]


@pytest.mark.parametrize(("children", "shares"), [(4, (1.0, 1 / 3)), (8, (1 / 8, 1.0)), (9, (1 / 8, 1.0))])
def test_few_coarser_blocks_get_a_little_and_many_get_all(children: int, shares: tuple[float, float]) -> None:
    parent = np.repeat(np.arange(3), children).tolist()
    asked = Recorded({3: [EVALUATE] * 3, len(parent): [EVALUATE] * len(parent)})
    decide(asked, levels(parent), _BUDGET)
    assert [a[2] for a in asked.asked] == pytest.approx([0.24 * share for share in shares])


@pytest.mark.parametrize("chosen", [None, [True, False, True, True]])
def test_the_right_side_of_and_is_asked_where_the_left_is_not_skip(chosen: list[bool] | None) -> None:
    left, right = Recorded({4: [SKIP, EVALUATE, EVALUATE, KEEP]}), Recorded({4: [KEEP, SKIP, SKIP, KEEP]})
    found = And(left, right).decide(regions(*[(0, 1)] * 4), _BUDGET, None if chosen is None else np.array(chosen))
    wanted = [False, True, True, True] if chosen is None else [False, False, True, True]
    assert right.asked[0][1] == wanted
    assert found.decision.tolist() == [SKIP, SKIP if chosen is None else EVALUATE, SKIP, KEEP]


@pytest.mark.parametrize("chosen", [None, [True, True, False, True]])
@pytest.mark.parametrize("prove_keep", [False, True])
def test_the_right_side_of_or_is_asked_where_it_can_change_something(
    chosen: list[bool] | None, prove_keep: bool
) -> None:
    left, right = Recorded({4: [SKIP, EVALUATE, SKIP, KEEP]}), Recorded({4: [SKIP, KEEP, KEEP, SKIP]})
    budget = Budget.unlimited(prove_keep=prove_keep)
    found = Or(left, right).decide(regions(*[(0, 1)] * 4), budget, None if chosen is None else np.array(chosen))
    wanted = [True, prove_keep, chosen is None, False]
    assert right.asked[0][1] == wanted
    expected = [SKIP, KEEP if prove_keep else EVALUATE, KEEP if chosen is None else EVALUATE, KEEP]
    assert found.decision.tolist() == expected


def test_a_condition_of_two_sides_costs_what_both_do() -> None:
    assert And(Recorded({}, cost=2.0), Recorded({}, cost=3.0)).seconds_per_row == 5.0
    assert Or(Recorded({}, cost=3.0), Recorded({}, cost=2.0)).seconds_per_row == 5.0
