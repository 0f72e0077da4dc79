"""Variants of the code that are unsound on purpose: each drops one thing that soundness rests on.

A variant is a small patch of the real code; the battery it names must find something wrong with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml import decisions, features, footers, score_tests, scores
from skipml.bounds import branch, crown, interval, rounding, verifier
from skipml.bounds.leaves import Leaves
from skipml.bounds.outcome import KEEP, SKIP, Method, Outcome, Reason
from skipml.engines import conditions, inputs, parameters, planner, pushdown, virtual
from skipml.engines.dialect import expression
from skipml.identity import identity
from skipml.parquet import footer, types
from skipml.predicates import And, Opaque, Or, Predicate
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

    def bound(self: Any, leaves: Leaves, method: Method) -> None:
        half = len(leaves) // 2 if method is Method.BRANCH else len(leaves)
        np.subtract.at(self._open, leaves.block[half:], 1)
        real(self, leaves.take(slice(half)), method)

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
        lambda outcome, seen, on_nan: real(outcome, replace(seen, **{name: np.zeros_like(seen.may_be_nan)}), on_nan),
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
        lambda outcome, seen, on_nan: real(outcome, replace(seen, all_null=seen.may_be_null), on_nan),
    )


@variant("predicates", "AND needs both sides")
def _and_is_or(patch: Patch) -> None:
    patch.setattr(And, "decide", Or.decide)


@variant("predicates", "OR needs one side")
def _or_is_and(patch: Patch) -> None:
    patch.setattr(Or, "decide", And.decide)


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


# Files


@variant("files", "only some writers are known to record NaN")
def _every_writer_is_trusted(patch: Patch) -> None:
    patch.setattr(footer, "_NAN_FREE_WRITERS", re.compile(b""))


def _columns(patch: Patch, change: Callable[[Any], dict[str, Any]]) -> None:
    """Change what footers say of each column."""
    real = footers.read_footers

    def read(files: Sequence[str], columns: Sequence[str], **options: Any) -> Any:
        found = real(files, columns, **options)
        return replace(found, columns={k: replace(v, **change(v)) for k, v in found.columns.items()})

    for module in (decisions, planner):
        patch.setattr(module, "read_footers", read)


@variant("files", "the minimum is the lower bound")
def _swapped_statistics(patch: Patch) -> None:
    _columns(patch, lambda column: {"lower": -column.upper, "upper": -column.lower})


@variant("files", "a missing NULL count is not zero, and a NULL count is no detail")
def _no_null_counts(patch: Patch) -> None:
    _columns(patch, lambda column: {"null_count": np.zeros_like(column.null_count)})


@variant("files", "NULL rows beside others do not make a row group NULL")
def _nulls_everywhere(patch: Patch) -> None:
    _columns(patch, lambda column: {"all_null": column.null_count != 0})


@variant("files", "DuckDB, Arrow and numpy round a decimal differently")
def _decimals_are_exact(patch: Patch) -> None:
    def nearest(values: Any, factor: int = 1, divisor: int = 1, slack: float = 0.0) -> tuple[Floats, Floats]:
        exact = (values.astype(object) * factor / divisor).astype(np.float64)
        inward = np.nextafter(exact, 0.0)
        return inward, inward

    for module in (features, types):
        patch.setattr(module, "outward", nearest)


@variant("files", "a plan is of the files as they were")
def _stale_files(patch: Patch) -> None:
    patch.setattr(decisions.Plan, "_check", lambda self, file: None)


@variant("files", "a remembered footer is of the file as it was")
def _stale_footers(patch: Patch) -> None:
    def as_it_was(file: str) -> Any:
        held = footers._cache.get(os.path.abspath(file))
        return identity(file) if held is None else held.identity

    patch.setattr(footers, "identity", as_it_was)
    patch.setattr(decisions.Plan, "_check", lambda self, file: None)


@variant("files", "a virtual file lists the row groups that are kept")
def _neighbouring_row_groups(patch: Patch) -> None:
    real = virtual.FooterLayout.keep
    patch.setattr(
        virtual.FooterLayout, "keep", lambda self, kept: real(self, [(i + 1) % len(self.groups) for i in kept])
    )


# Queries


@variant("queries", "columns are positions below a projection, not names")
def _projection_ignored(patch: Patch) -> None:
    patch.setattr(pushdown, "_substitute", lambda wanted, outputs: wanted)


def _passes(patch: Patch, *kinds: str) -> None:
    """Let filters through operators that change which rows there are."""
    real = pushdown._through
    patch.setattr(pushdown, "_through", lambda node, wanted: wanted if node["type"] in kinds else real(node, wanted))


@variant("queries", "a filter above LIMIT does not choose the rows below it")
def _below_limit(patch: Patch) -> None:
    _passes(patch, "LOGICAL_LIMIT", "LOGICAL_TOP_N", "LOGICAL_ORDER_BY")


@variant("queries", "a filter above a window does not choose its rows")
def _below_window(patch: Patch) -> None:
    _passes(patch, "LOGICAL_WINDOW")


@variant("queries", "a filter above DISTINCT ON does not choose which row is the first")
def _below_distinct_on(patch: Patch) -> None:
    _passes(patch, "LOGICAL_DISTINCT")


@variant("queries", "a filter on an aggregate does not choose the rows of a group")
def _below_aggregate(patch: Patch) -> None:
    patch.setattr(pushdown, "_through_groups", _to_inputs)


def _to_inputs(node: Any, wanted: list[Any]) -> list[Any]:
    """Conjuncts over groups and aggregates, over what the aggregates read."""
    groups = [expression(e) for e in node.get("groups", [])]
    read = [expression(e["children"][0]) if e.get("children") else None for e in node.get("expressions", [])]
    mapped = [c.map_refs(lambda i: [*groups, *read][i]) for c in wanted]
    return [c for c in mapped if c is not None]


def _joins(patch: Patch, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    real = pushdown.Pushdown._join
    patch.setattr(pushdown.Pushdown, "_join", lambda self, node, wanted: real(self, {**node, **change(node)}, wanted))


@variant("queries", "a row without a partner is in an outer join's result")
def _outer_joins_are_inner(patch: Patch) -> None:
    _joins(patch, lambda node: {"join_type": "INNER" if node.get("join_type") in _OUTER else node.get("join_type")})


_OUTER = ("LEFT", "RIGHT", "FULL", "OUTER")


@variant("queries", "an anti join keeps the rows that its condition does not name")
def _anti_joins_are_semi(patch: Patch) -> None:
    _joins(patch, lambda node: {"join_type": "SEMI" if node.get("join_type") == "ANTI" else node.get("join_type")})


@variant("queries", "the nearest row of an ASOF join is the nearest of all rows")
def _asof_is_a_join(patch: Patch) -> None:
    _joins(patch, lambda node: {"type": "LOGICAL_COMPARISON_JOIN", "conditions": []})


@variant("queries", "a CTE holds the rows that any of its references needs")
def _cte_of_the_first_reference(patch: Patch) -> None:
    patch.setattr(pushdown, "_any_of", lambda references: next((r for r in references if r), []))


@variant("predicates", "two scans of a reference keep what either needs")
def _scans_skip_for_each_other(patch: Patch) -> None:
    patch.setattr(
        decisions.Decisions,
        "either",
        lambda self, other: replace(self, decision=np.minimum(self.decision, other.decision)),
    )


@variant("queries", "OR with a condition that is not understood decides nothing")
def _other_conditions_forgotten(patch: Patch) -> None:
    real = conditions._any
    patch.setattr(conditions, "_any", lambda parts: real([p for p in parts if not isinstance(p, Opaque)] or parts))


@variant("queries", "an expression that is not understood may be anything")
def _unknown_is_zero(patch: Patch) -> None:
    patch.setattr(inputs.Values, "nothing", classmethod(lambda cls, n_blocks: cls.constant(0.0, n_blocks)))


@variant("queries", "a FLOAT score is compared with the constant as a FLOAT")
def _uncast_constant(patch: Patch) -> None:
    def constant_sql(expr: Any) -> str | None:
        return str(expr.name) if expr.op == "const" else constant_sql(expr.args[0]) if expr.op == "cast" else None

    patch.setattr(conditions, "_constant_sql", constant_sql)


@variant("queries", "a bound Python float is compared as a DOUBLE")
def _parameter_as_float(patch: Patch) -> None:
    real = parameters._literal
    patch.setattr(
        parameters, "_literal", lambda value: f"'{value}'::FLOAT" if isinstance(value, float) else real(value)
    )


@variant("queries", "outputs are counted from 1 in SQL")
def _outputs_from_zero(patch: Patch) -> None:
    patch.setattr(conditions, "_output_index", lambda model, element: (element or 0) % model.n_outputs)


@variant("queries", "a comparison with the constant on the left is mirrored")
def _not_mirrored(patch: Patch) -> None:
    patch.setattr(conditions, "_MIRRORED", {symbol: symbol for symbol in conditions._MIRRORED})


@variant("queries", "a file's row groups are counted from its own first")
def _one_row_group_too_few(patch: Patch) -> None:
    real = planner._kept

    def kept(*given: Any) -> Any:
        found = real(*given)
        return replace(found, row_groups=tuple(g if g is None else g[1:] for g in found.row_groups))

    patch.setattr(planner, "_kept", kept)
