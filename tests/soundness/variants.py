"""Variants of the code that are unsound on purpose: each drops one thing that soundness rests on.

A variant is a small patch of the real code; the battery it names must find something wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml import decisions, score_tests, scores
from skipml.bounds import branch, crown, interval, rounding, verifier
from skipml.bounds.leaves import Leaves
from skipml.bounds.outcome import KEEP, SKIP, Method, Outcome, Reason
from skipml.predicates import And, Or, Predicate
from skipml.score_tests import Between, Threshold

Floats = NDArray[np.float64]
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Variant:
    """A broken rule, the patch that breaks it, and the battery that must notice."""

    rule: str
    battery: str
    apply: Callable[[Patch], None]


VARIANTS: list[Variant] = []


def marked(variant: Any, is_quick: bool, name: str) -> Any:
    """A variant as a parameter of a test; those that are not quick wait for `make mutants`."""
    return pytest.param(variant, id=name, marks=() if is_quick else pytest.mark.exhaustive)


def name_of(variant: Variant) -> str:
    """What the test of a variant is called."""
    return variant.apply.__name__.strip("_")


def variant(battery: str, rule: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a variant to the list; `rule` is what it breaks."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        VARIANTS.append(Variant(rule, battery, apply))
        return apply

    return add


# Bounds


@variant("bounds", "a computed score is off from the exact one by rounding")
def _no_margin(patch: Patch) -> None:
    patch.setattr(rounding.Arithmetic, "relative", lambda self, n: 0.0)
    patch.setattr(rounding.Arithmetic, "underflow", lambda self, n: 0.0)


@variant("bounds", "float32 networks round in float32")
def _margin_of_float64(patch: Patch) -> None:
    real = rounding.arithmetic
    patch.setattr(verifier, "arithmetic", lambda *given: replace(real(*given), unit=2.0**-53))


@variant("bounds", "values beyond the largest float overflow, and inf - inf is NaN")
def _no_overflow(patch: Patch) -> None:
    real = rounding.arithmetic
    patch.setattr(verifier, "arithmetic", lambda *given: replace(real(*given), limit=np.inf))
    patch.setattr(score_tests, "_bounded", lambda lower, upper: np.ones(len(lower), np.bool_))


@variant("bounds", "inputs are cast to the network's type first")
def _no_cast(patch: Patch) -> None:
    patch.setattr(verifier.Verifier, "_cast", lambda self, x: x)
    patch.setattr(branch._Search, "_cast", lambda self, x: x)


def _linear_steps(patch: Patch, change: Callable[[Any], Any]) -> None:
    real = interval._linear
    patch.setattr(interval, "_linear", lambda *given: change(real(*given)))


@variant("bounds", "a negative weight turns lower into upper bounds")
def _signed_radius(patch: Patch) -> None:
    _linear_steps(patch, lambda step: replace(step, absolute=step.weight))


@variant("bounds", "a layer adds its bias")
def _no_bias(patch: Patch) -> None:
    _linear_steps(patch, lambda step: replace(step, bias=np.zeros_like(step.bias)))


def _relaxations(patch: Patch, change: Callable[[Any], Any]) -> None:
    real = crown._relax
    patch.setattr(crown, "_relax", lambda *given: change(real(*given)))


@variant("bounds", "the upper line of a ReLU has an intercept")
def _no_intercept(patch: Patch) -> None:
    _relaxations(patch, lambda lines: replace(lines, intercept=np.zeros_like(lines.intercept)))


@variant("bounds", "a positive coefficient takes the upper line, a negative one the lower")
def _swapped_lines(patch: Patch) -> None:
    _relaxations(patch, lambda lines: replace(lines, dev=-lines.dev))


@variant("bounds", "the slope of a lower line is at most 1")
def _steep_lower_line(patch: Patch) -> None:
    _relaxations(patch, lambda lines: replace(lines, mid=lines.mid * 1.5, dev=lines.dev - lines.mid * 0.5))


@variant("bounds", "both halves of a box must be proved")
def _dropped_leaf(patch: Patch) -> None:
    real = branch._Search._bound

    def bound(self: Any, leaves: Leaves, method: Method, *, first: bool) -> None:
        half = len(leaves) if first else len(leaves) // 2
        self._verdicts.divided(leaves.block[half:], leaves.block[:0])
        real(self, leaves.take(slice(half)), method, first=first)

    patch.setattr(branch._Search, "_bound", bound)


@variant("bounds", "a block whose budget is used up is not proved")
def _budget_is_proof(patch: Patch) -> None:
    real = branch._Search.outcome

    def outcome(self: Any) -> Outcome:
        found = real(self)
        return replace(found, decision=np.where(found.reason == Reason.BUDGET, SKIP, found.decision).astype(np.int8))

    patch.setattr(branch._Search, "outcome", outcome)


# Predicates


@variant("predicates", "a score may equal the limit of >=")
def _strict_never(patch: Patch) -> None:
    patch.setitem(score_tests._NEGATED, ">=", "<=")


@variant("predicates", "a score that equals the limit does not pass >")
def _lenient_greater(patch: Patch) -> None:
    real = score_tests._compare
    patch.setattr(score_tests, "_compare", lambda operator, *rest: real(">=" if operator == ">" else operator, *rest))
    patch.setattr(Threshold, "holds", _exact_holds)


def _exact_holds(self: Threshold, values: Floats) -> NDArray[np.bool_]:
    """What rows pass, from before anything was patched."""
    value = values[:, 0]
    compared = {">": value > self.limit, ">=": value >= self.limit, "<": value < self.limit, "<=": value <= self.limit}
    return np.asarray(compared[self.operator] | (np.isnan(value) & (self.operator in (">", ">="))), np.bool_)


@variant("predicates", "BETWEEN includes its limits")
def _strict_between(patch: Patch) -> None:
    patch.setattr(Between, "never", lambda self, low, high: (high[:, 0] <= self.low) | (low[:, 0] >= self.high))


@variant("predicates", "the first of equal outputs is the class")
def _last_of_equals(patch: Patch) -> None:
    def beaten(self: Any, margin: Floats) -> NDArray[np.bool_]:
        later = np.arange(margin.shape[1]) >= self.label
        return np.asarray(np.where(later, margin <= 0, margin < 0).any(axis=1), np.bool_)

    patch.setattr(score_tests.Class, "_beaten", beaten)


@variant("predicates", "the bounds of the other classes count with their own sign")
def _class_of_the_least(patch: Patch) -> None:
    real = scores.Model._score
    patch.setattr(
        scores.Model,
        "_score",
        lambda self, kind, names, rows: real(self, kind, names, -rows if kind[0] == "class" else rows),
    )


def _flags(patch: Patch, name: str) -> None:
    """Forget a flag of the regions when decisions are made from bounds."""
    real = score_tests._with_flags
    patch.setattr(
        score_tests,
        "_with_flags",
        lambda outcome, seen, *given, **named: real(
            outcome, replace(seen, **{name: np.zeros_like(seen.may_be_nan)}), *given, **named
        ),
    )


@variant("predicates", "NaN inputs are not within the bounds")
def _nan_ignored(patch: Patch) -> None:
    _flags(patch, "may_be_nan")


@variant("predicates", "NaN is greater than every limit")
def _nan_is_small(patch: Patch) -> None:
    patch.setattr(Threshold, "on_nan", False)
    patch.setattr(Threshold, "never", _exact_never)
    patch.setattr(Threshold, "always", _exact_always)
    patch.setattr(Threshold, "holds", _exact_holds)


def _exact_never(self: Threshold, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    below = {">": upper[:, 0] <= self.limit, ">=": upper[:, 0] < self.limit}
    above = {"<": lower[:, 0] >= self.limit, "<=": lower[:, 0] > self.limit}
    return np.asarray((below | above)[self.operator] & score_tests._bounded(lower, upper), np.bool_)


def _exact_always(self: Threshold, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    above = {">": lower[:, 0] > self.limit, ">=": lower[:, 0] >= self.limit}
    below = {"<": upper[:, 0] < self.limit, "<=": upper[:, 0] <= self.limit}
    return np.asarray((below | above)[self.operator] & score_tests._bounded(lower, upper), np.bool_)


@variant("predicates", "a row with a NULL input has no score, so it does not pass")
def _null_is_kept(patch: Patch) -> None:
    _flags(patch, "may_be_null")


@variant("predicates", "some NULL rows are not all rows")
def _some_null_is_all_null(patch: Patch) -> None:
    real = score_tests._with_flags
    patch.setattr(
        score_tests,
        "_with_flags",
        lambda outcome, seen, *given, **named: real(outcome, replace(seen, all_null=seen.may_be_null), *given, **named),
    )


@variant("predicates", "AND needs both sides")
def _and_is_or(patch: Patch) -> None:
    patch.setattr(And, "decide", Or.decide)


@variant("predicates", "OR needs one side")
def _or_is_and(patch: Patch) -> None:
    patch.setattr(Or, "decide", And.decide)


@variant("predicates", "two scans of a reference keep what either needs")
def _scans_skip_for_each_other(patch: Patch) -> None:
    patch.setattr(
        decisions.Decisions,
        "either",
        lambda self, other: replace(self, decision=np.minimum(self.decision, other.decision)),
    )


@dataclass(frozen=True, eq=False)
class _Opposite(Predicate):
    """NOT of a decision instead of a test."""

    inner: Predicate

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.inner.inputs

    @property
    def scores(self) -> Any:
        return self.inner.scores

    @property
    def seconds_per_row(self) -> float:
        return self.inner.seconds_per_row

    def decide(self, regions: Any, budget: Any, chosen: Any = None) -> Outcome:
        outcome = self.inner.decide(regions, budget, chosen)
        return replace(outcome, decision=(KEEP - outcome.decision).astype(np.int8))

    def matches(self, rows: Any) -> NDArray[np.bool_]:
        return _negated_between(self.inner).matches(rows)  # type: ignore[arg-type]

    def negated(self) -> Predicate:
        return self.inner


_negated_between = Between.negated


@variant("predicates", "NOT never passes a NULL, so it negates the test and not the decision")
def _not_of_a_decision(patch: Patch) -> None:
    patch.setattr(Between, "negated", lambda self: _Opposite(inner=self))
