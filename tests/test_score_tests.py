"""Tests of scores, asked of every small range of values: what they prove is what holds for each value in it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skipml.bounds.branch import resume
from skipml.bounds.budget import Budget
from skipml.bounds.memory import Known, Memory
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Outcome, Reason
from skipml.errors import PredicateError
from skipml.metadata.contents import LabelMetadata, ScoreMetadata
from skipml.metadata.evidence import Evidence, Witnesses
from skipml.predicates import all_of
from skipml.regions import Regions
from skipml.score_tests import Between, Class, Operator, ScoreTest, Threshold, _is_finer, _with_flags
from tests.oracle import identity, linear, model
from tests.test_decisions import regions

INF, NAN = float("inf"), float("nan")
SCORE = model(identity("float64")).output(0)
CLASSES = model(linear([[1], [0], [-1]], [0, 0, 0], "float64"))
OPERATORS: tuple[Operator, ...] = (">", ">=", "<", "<=")
GRID = np.arange(-2.0, 3.5, 0.5)


def of_one_value() -> list[ScoreTest]:
    found: list[ScoreTest] = [Threshold(SCORE, operator, 1.0) for operator in OPERATORS]
    for low, high in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0)):
        found += [Between(SCORE, low, high, *strict) for strict in itertools.product([False, True], repeat=2)]
    return found


@pytest.mark.parametrize("test", of_one_value(), ids=lambda test: repr(test)[:10])
def test_a_range_is_decided_as_its_values_are(test: ScoreTest) -> None:
    for low, high in itertools.combinations_with_replacement(GRID.tolist(), 2):
        values = GRID[(low <= GRID) & (high >= GRID)]
        holds = test.holds(values[:, None])
        ends = np.array([[low]]), np.array([[high]])
        if test.holds(GRID[:, None]).any():
            assert test.never(*ends).tolist() == [not holds.any()], (low, high)
        assert test.always(*ends).tolist() == [bool(holds.all())], (low, high)


@pytest.mark.parametrize("test", of_one_value(), ids=lambda test: repr(test)[:10])
def test_nothing_follows_from_infinite_bounds(test: ScoreTest) -> None:
    for low, high in ((-INF, 5.0), (5.0, INF), (-INF, -5.0), (-5.0, INF), (-INF, INF), (INF, INF), (0.5, NAN)):
        ends = np.array([[low]]), np.array([[high]])
        assert not test.never(*ends).any()
        assert not test.always(*ends).any()


@pytest.mark.parametrize("test", of_one_value(), ids=lambda test: repr(test)[:10])
def test_the_negated_test_passes_what_fails(test: ScoreTest) -> None:
    table = pa.table({"a": [*GRID, NAN, INF, -INF]})
    assert (test.negated().matches(table) == ~test.matches(table)).all()
    assert test.matches(pa.table({"a": pa.array([None, None], pa.float64())})).tolist() == [False, False]


def test_nan_is_above_every_limit() -> None:
    nan = np.array([[NAN]])
    assert [bool(Threshold(SCORE, o, 1.0).holds(nan)[0]) for o in OPERATORS] == [True, True, False, False]
    assert [Threshold(SCORE, o, 1.0).on_nan for o in OPERATORS] == [True, True, False, False]
    assert not Between(SCORE, 0.0, 1.0).holds(nan).any()
    assert Between(SCORE, 0.0, 1.0).on_nan is False
    assert CLASSES.is_class(0).on_nan is None


@pytest.mark.parametrize(("low", "high"), [(NAN, 1.0), (1.0, NAN)])
def test_limits_are_numbers(low: float, high: float) -> None:
    with pytest.raises(PredicateError):
        Between(SCORE, low, high)
    with pytest.raises(PredicateError):
        Threshold(SCORE, ">", NAN)


@pytest.mark.parametrize("is_not", [False, True])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_class_wins_against_every_other_and_ties_go_to_the_first(label: int, is_not: bool) -> None:
    test = CLASSES.is_class(label)
    assert isinstance(test, Class)
    test = replace(test, is_not=is_not)
    margins = np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=2)))
    earlier = np.arange(2) < label
    wins = np.where(earlier, margins > 0, margins >= 0).all(axis=1)
    assert (test.holds(margins) == (wins != is_not)).all()
    for low, high in itertools.product(margins, margins):
        if (low > high).any():
            continue
        between = (margins >= low).all(axis=1) & (margins <= high).all(axis=1)
        ends = low[None], high[None]
        assert test.never(*ends).tolist() == [not (wins != is_not)[between].any()], (low, high)
        assert test.always(*ends).tolist() == [bool((wins != is_not)[between].all())], (low, high)
    some, all_ = np.full((1, 2), 3.0), np.array([[3.0, INF]])
    assert not test.never(some, all_).any()
    assert not test.always(some, all_).any()


def test_rows_are_of_the_class_that_they_have() -> None:
    rows = pa.table({"a": [2.0, 0.0, -2.0, None]})
    assert CLASSES.is_class(0).matches(rows).tolist() == [True, True, False, False]
    assert CLASSES.is_class(1).matches(rows).tolist() == [False, False, False, False]
    assert CLASSES.is_class(2).matches(rows).tolist() == [False, False, True, False]
    assert (~CLASSES.is_class(2)).matches(rows).tolist() == [True, True, False, False]


@pytest.mark.parametrize("takes_nan", [True, False])
@pytest.mark.parametrize("on_nan", [True, False, None])
def test_null_and_nan_rows_change_decisions(on_nan: bool | None, takes_nan: bool) -> None:
    """Every decision with every flag of one of two columns; the model takes NaN in both, or in none."""
    decisions = [SKIP, EVALUATE, KEEP]
    for column, (i, flag) in itertools.product(
        (0, 1), enumerate(["none", "may_be_nan", "may_be_null", "unknown", "all_null"])
    ):
        flags: dict[str, Any] = {
            name: np.zeros((3, 2), np.bool_) for name in ("may_be_nan", "may_be_null", "unknown", "all_null")
        }
        if flag in flags:
            flags[flag][:, column] = True
        seen = replace(regions((0, 1), (0, 1), (0, 1)), columns=("a", "b"), lower=np.zeros((3, 2)), **flags)
        outcome = Outcome.evaluate_all(3, 1).replace_decision(np.array(decisions, np.int8))
        found = _with_flags(outcome, seen, on_nan, takes_nan=np.full(2, takes_nan)).decision.tolist()
        of_nan = [SKIP if on_nan is False else EVALUATE, EVALUATE, KEEP if on_nan is True else EVALUATE]
        expected = [
            decisions,
            decisions if takes_nan else of_nan,
            [SKIP, EVALUATE, EVALUATE],
            [SKIP, EVALUATE, EVALUATE] if takes_nan else [EVALUATE] * 3,
            [SKIP] * 3,
        ][i]
        assert found == expected, flag
        assert outcome.decision.tolist() == decisions


def test_a_block_of_nulls_is_skipped_even_if_another_column_is_unknown() -> None:
    seen = replace(
        regions((0, 1)), columns=("a", "b"), unknown=np.array([[True, False]]), all_null=np.array([[False, True]])
    )
    found = _with_flags(Outcome.evaluate_all(1, 1), seen, True, takes_nan=np.zeros(2, np.bool_))
    assert found.decision.tolist() == [SKIP]


def test_a_nan_matters_in_the_columns_whose_nan_has_no_score() -> None:
    flags: dict[str, Any] = {name: np.zeros((2, 2), np.bool_) for name in ("may_be_null", "unknown", "all_null")}
    flags["may_be_nan"] = np.array([[True, False], [False, True]])
    seen = replace(regions((0, 1), (0, 1)), columns=("a", "b"), lower=np.zeros((2, 2)), **flags)
    outcome = Outcome.evaluate_all(2, 1).replace_decision(np.array([KEEP, KEEP], np.int8))
    found = _with_flags(outcome, seen, False, takes_nan=np.array([True, False]))
    assert found.decision.tolist() == [KEEP, EVALUATE]


def test_stored_scores_say_more_of_one_box_or_with_cells() -> None:
    seen = replace(regions((0, 1), (0, 1), (0, 1)), block=np.array([0, 1, 1]))
    seen = replace(seen, n_rows=np.full(3, 9))
    limits: dict[str, Any] = {"lower": np.array([0.0, 0.0, -INF]), "upper": np.array([1.0, 1.0, 1.0])}
    known = ScoreMetadata("", ("a",), 0, cells=np.zeros((3, 0), np.uint8), **limits)
    assert _is_finer(known, seen).tolist() == [True, False, False]
    assert _is_finer(replace(known, cells=np.zeros((3, 1), np.uint8)), seen).tolist() == [True, True, False]


def test_rows_show_that_a_block_is_neither() -> None:
    test = Threshold(SCORE, ">", 1.0)
    rows = np.array([[[0.0], [2.0]], [[0.0], [NAN]], [[NAN], [2.0]], [[2.0], [3.0]], [[NAN], [NAN]]])
    assert test._is_mixed(rows).tolist() == [True, False, False, False, False]


def two_inputs(**flags: list[list[bool]]) -> Regions:
    """Blocks of a from 0 to 1 and b from 0 to 1, with some flags [N, 2]."""
    n = len(next(iter(flags.values())))
    no = {name: np.zeros((n, 2), np.bool_) for name in ("unknown", "all_null", "may_be_null", "may_be_nan")}
    given = {name: np.array(flag) for name, flag in flags.items()}
    return Regions(("a", "b"), np.zeros((n, 2)), np.ones((n, 2)), np.arange(n), np.full(n, 9), **(no | given))


def test_no_work_is_spent_on_blocks_that_flags_decide() -> None:
    test = model(linear([[1, 1]], [0], "float64")) > 5
    of_null = two_inputs(all_null=[[False, False], [True, False], [False, True], [True, True]])
    found = test.decide(of_null, Budget.unlimited(4))
    assert found.decision.tolist() == [SKIP] * 4
    assert (found.boxes > 0).tolist() == [True, False, False, False]
    of_unknown = test.decide(two_inputs(unknown=[[False, False], [True, False], [False, True]]), Budget.unlimited(4))
    assert of_unknown.decision.tolist() == [SKIP, EVALUATE, EVALUATE]
    assert (of_unknown.boxes > 0).tolist() == [True, False, False]


def test_only_blocks_that_are_asked_for_and_open_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[bool]] = []

    def noted(*args: Any, chosen: NDArray[np.bool_]) -> Any:
        asked.append(chosen.tolist())
        return resume(*args, chosen=chosen)

    monkeypatch.setattr("skipml.score_tests.resume", noted)
    test = model(linear([[1, 1]], [0], "float64")) > 5
    seen = two_inputs(all_null=[[False, False], [False, False], [True, False], [True, False]])
    chosen = np.array([True, False, True, False])
    assert test.decide(seen, Budget.unlimited(4), chosen).decision.tolist() == [SKIP, EVALUATE, SKIP, EVALUATE]
    assert test.decide(seen, Budget.unlimited(4)).decision.tolist() == [SKIP] * 4
    assert asked == [[True, False, False, False], [True, True, False, False]]


def test_work_on_the_same_blocks_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Known] = []

    def noted(verifier: Any, blocks: Any, test: Any, budget: Any, known: Known, **more: Any) -> Any:
        begun.append(known)
        return resume(verifier, blocks, test, budget, known, **more)

    monkeypatch.setattr("skipml.score_tests.resume", noted)
    test, seen = model(linear([[1, 1]], [0], "float64")) > 1.5, two_inputs(unknown=[[False, False]])
    budget = Budget.unlimited(8)
    for _ in range(2):
        test.decide(seen, budget)
    for _ in range(2):
        test.decide(seen, replace(budget, memory=(memory := Memory())))
    budget = replace(budget, memory=memory)
    test.decide(seen, budget)
    test.decide(two_inputs(unknown=[[False, False]]), budget)
    (model(linear([[1, 2]], [0], "float64")) > 1.5).decide(seen, budget)
    assert [bool(known.bounded.any()) for known in begun] == [False] * 4 + [True, True, False]


def test_the_seconds_of_an_outcome_are_those_that_it_took() -> None:
    test = model(linear([[1, 1]], [0], "float64")) > 1.5
    start = perf_counter()
    found = test.decide(two_inputs(unknown=[[False, False]]), Budget.unlimited(8))
    assert 0 < found.seconds <= perf_counter() - start


@pytest.mark.parametrize("takes_nan", [True, False])
def test_stored_scores_say_nothing_of_blocks_with_an_unknown_input(
    takes_nan: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a model that takes NaN, for which such a block is open."""
    monkeypatch.setattr("skipml.score_tests.takes_nan_in", lambda _: np.full(2, takes_nan))
    test = model(linear([[1, 1]], [0], "float64")) > 1.5
    assert isinstance(test, Threshold)
    seen = two_inputs(unknown=[[False, False], [True, False], [False, True], [True, True]])
    seen = replace(seen, lower=np.where(seen.unknown, -INF, 0.0), upper=np.where(seen.unknown, INF, 1.0))
    limits: dict[str, Any] = {"lower": np.full(4, 0.0), "upper": np.full(4, 1.0), "cells": np.zeros((4, 0), np.uint8)}
    stored = ScoreMetadata(test.score.key.model, ("a", "b"), 0, **limits)
    seen = replace(seen, sources=("a", "b"), evidence=Evidence((stored,)))
    found = test.decide(seen, Budget.unlimited(4))
    assert found.decision.tolist() == [SKIP, EVALUATE, EVALUATE, EVALUATE]
    assert found.method[0] == Method.SCORE_MAP


def test_blocks_whose_stored_scores_say_all_that_bounds_could_are_left_alone() -> None:
    test = model(linear([[1, 1]], [0], "float64")) > 1.5
    assert isinstance(test, Threshold)
    unknown = np.zeros((5, 2), np.bool_)
    unknown[4, 0] = True
    seen = two_inputs(unknown=unknown.tolist(), all_null=[[False, False]] * 3 + [[True, False], [False, False]])
    limits: dict[str, Any] = {
        "lower": np.array([0.0, 0.0, -INF, 0.0, 0.0]),
        "upper": np.array([1.0, 2.0, INF, 2.0, 2.0]),
        "cells": np.zeros((5, 0), np.uint8),
    }
    stored = ScoreMetadata(test.score.key.model, ("a", "b"), 0, **limits)
    seen = replace(seen, sources=("a", "b"), evidence=Evidence((stored,)))
    found = test.decide(seen, Budget.unlimited(4))
    assert found.decision.tolist() == [SKIP, EVALUATE, EVALUATE, SKIP, EVALUATE]
    assert (found.boxes > 0).tolist() == [False, False, True, False, False]
    assert (found.reason == Reason.SCORES).tolist() == [False, True, False, False, False]
    only = test.decide(seen, Budget.unlimited(4), np.array([True, False, False, False, False]))
    assert only.reason.tolist() == [Reason.PROVED] + [Reason.NOT_TRIED] * 4


def test_blocks_with_rows_on_both_sides_are_left_alone_and_others_are_bounded() -> None:
    test = model(linear([[1, 1]], [0], "float64")) > 1.5
    unknown = [[False, False], [False, False], [True, False], [False, False]]
    seen = two_inputs(unknown=unknown, all_null=[[False, False]] * 3 + [[False, True]])
    seen = replace(seen, upper=np.array([[1.0, 1.0], [0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]))
    both, low = [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [NAN, 1.0]]
    rows = Witnesses(("a", "b"), np.array([both, low, both, both]), 2)
    found = test.decide(replace(seen, sources=("a", "b"), evidence=Evidence(witnesses=rows)), Budget.unlimited(4))
    assert found.decision.tolist() == [EVALUATE, SKIP, EVALUATE, SKIP]
    assert (found.boxes > 0).tolist() == [False, True, False, False]
    assert (found.reason == Reason.WITNESS).tolist() == [True, False, False, False]


def test_stored_classes_of_another_number_of_classes_say_nothing() -> None:
    test = CLASSES.is_class(0)
    assert isinstance(test, Class)
    for n_labels, decided in ((3, [SKIP]), (4, None), (2, None)):
        known = LabelMetadata(test.score.key.model, ("a",), n_labels, np.array([[2]], np.uint8))
        seen = replace(regions((0, 1)), sources=("a",), evidence=Evidence(labels=(known,)))
        stored = test.stored(seen)
        assert (None if stored is None else stored.tolist()) == decided


def test_conjunctions_are_of_all() -> None:
    rows = pa.table({"a": [0.0, 1.0, 2.0, 3.0, 4.0]})
    above, below, between = SCORE > 0.5, SCORE < 3.5, SCORE.between(2, 9)
    assert all_of([above, below, between]).matches(rows).tolist() == [False, False, True, True, False]
    assert all_of([between, above, below]).matches(rows).tolist() == [False, False, True, True, False]
    assert all_of([above]) is above
