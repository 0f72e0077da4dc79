"""Tests on model scores: thresholds, ranges and classes, decided from stored scores and rows, then from bounds.

NaN is greater than every number, as DuckDB orders it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.branch import EVALUATE, KEEP, SKIP, Budget, Method, Outcome, Reason, resume
from skipml.bounds.compaction import narrowed, reduced
from skipml.bounds.evidence import by_labels, by_scores, label_map, score_map, witness_rows
from skipml.bounds.memory import Known, key_of
from skipml.bounds.reading import as_read
from skipml.errors import PredicateError
from skipml.features import function_inputs
from skipml.metadata.contents import ScoreMetadata
from skipml.pipelines import Pipeline, takes_nan_in
from skipml.predicates import Predicate, Score
from skipml.regions import Regions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Operator = Literal[">", ">=", "<", "<="]
_SHARE_OF_PARTS = 1 / 3
"""Of the budget, for blocks that are left open as they are and have more boxes by the texts that occur."""
_NEGATED: dict[Operator, Operator] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}


class ScoreTest(Predicate):
    """A predicate on one score, decided by bounding the score."""

    score: Score

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.score.inputs))

    @property
    def scores(self) -> tuple[Score, ...]:
        return (self.score,)

    @property
    def seconds_per_row(self) -> float:
        return self.score.seconds_per_row

    @abstractmethod
    def never(self, lower: Floats, upper: Floats) -> Bools:
        """Whether no value between the bounds [M, m] passes."""

    @abstractmethod
    def always(self, lower: Floats, upper: Floats) -> Bools:
        """Whether every value between the bounds [M, m] passes."""

    @abstractmethod
    def holds(self, values: Floats) -> Bools:
        """Whether the values [n, m] pass, NaN as DuckDB has it."""

    @property
    @abstractmethod
    def on_nan(self) -> bool | None:
        """What the test says of a NaN score; None where that depends on the row."""

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        seen = as_read(regions.project(self.score.inputs), self.score.function)
        undivided = seen.coarser if isinstance(self.score.function, Pipeline) else None
        if undivided is None:
            return self._decided(seen, budget, chosen)
        # as they were first: many boxes take long, and finer metadata must not make less be skipped
        whole = self._decided(undivided, budget, chosen)
        left = (whole.decision == EVALUATE) & (_n_boxes(seen) > _n_boxes(undivided))
        left = left if chosen is None else left & chosen
        return self._decided(seen, budget.part(_SHARE_OF_PARTS), left).settled(whole, ~left)

    def _decided(self, seen: Regions, budget: Budget, chosen: Bools | None) -> Outcome:
        """Decide blocks as the function reads them."""
        takes_nan, is_unknown = takes_nan_in(self.score.function), seen.unknown.any(axis=1)
        is_open: Bools = np.logical_not(seen.all_null.any(axis=1) | (seen.unknown & ~takes_nan).any(axis=1))
        if chosen is not None:
            is_open &= chosen
        known = self._from_evidence(seen, is_open & ~is_unknown)
        left = is_open & (known.reason == Reason.NOT_TRIED)
        found = self._bounded(seen, left, budget)
        decided = _with_flags(found.settled(known, ~left), seen, self.on_nan, takes_nan=takes_nan)
        return decided if chosen is None else decided.only(chosen)

    def _bounded(self, seen: Regions, left: Bools, budget: Budget) -> Outcome:
        """What branch and bound makes of some of the blocks, beginning with what is remembered of all of them."""
        start = perf_counter()
        whole, memory = self.score.verifier, budget.memory
        if not left.any():
            return Outcome.evaluate_all(len(left), len(whole.functionals))
        blocks = whole.blocks(seen)
        verifier = reduced(whole, blocks)
        key = key_of(verifier, blocks) if memory is not None else None
        known = memory.recall(key) if memory is not None and key is not None else None
        known = known or Known.nothing(blocks.lower, blocks.upper, verifier.n_values)
        found, after = resume(verifier, blocks, self, budget, known, chosen=left)
        if memory is not None and key is not None:
            memory.learn(key, after)
        return replace(found, seconds=perf_counter() - start, narrowed=narrowed(whole, verifier))

    def _from_evidence(self, seen: Regions, is_open: Bools) -> Outcome:
        """What stored scores and rows say of the open blocks. Sound because scores are those of the same columns, which
        are known where a block is open; rows prove nothing.
        """
        start = perf_counter()
        found = Outcome.evaluate_all(len(seen), len(self.score.verifier.functionals))
        stored = self.stored(seen)
        if stored is not None:
            settled = is_open & (stored != EVALUATE)
            found.decision[settled] = stored[settled]
            found.method[settled], found.reason[settled] = Method.SCORE_MAP, Reason.PROVED
            known = score_map(seen.evidence, self.score.key, seen.sources)
            if known is not None:
                found.lower[settled, 0], found.upper[settled, 0] = known.lower[settled], known.upper[settled]
                found.reason[is_open & (stored == EVALUATE) & _is_finer(known, seen)] = Reason.SCORES
        rows = witness_rows(seen.evidence, seen.sources)
        if rows is not None:
            found.reason[is_open & (found.decision == EVALUATE) & self._is_mixed(rows)] = Reason.WITNESS
        return replace(found, seconds=perf_counter() - start)

    def _is_mixed(self, rows: Floats) -> Bools:
        """Whether rows [N, K, d] show that a block can be neither SKIP nor KEEP."""
        is_row = ~np.isnan(rows).any(axis=2)
        holds = self.passes(rows.reshape(-1, rows.shape[2])).reshape(is_row.shape)
        return np.asarray((is_row & holds).any(axis=1) & (is_row & ~holds).any(axis=1), np.bool_)

    def stored(self, seen: Regions) -> NDArray[np.int8] | None:
        """What a stored map of the score says of each block, None if there is none. Sound as `by_scores` is."""
        known = score_map(seen.evidence, self.score.key, seen.sources)
        return None if known is None else by_scores(known, self)

    def passes(self, inputs: Floats) -> Bools:
        """Whether rows of inputs [n, d] without a NULL pass."""
        return self.holds(self.score.evaluate(inputs))

    def matches(self, rows: pa.Table) -> Bools:
        inputs, is_null = function_inputs(rows, self.score.inputs, self.score.function)
        return np.asarray(self.passes(inputs) & ~is_null.any(axis=1), dtype=np.bool_)


def _is_finer(known: ScoreMetadata, seen: Regions) -> Bools:
    """Whether stored scores say more of a block than bounds could [N]: their limits do if the block is one box, as a
    continuous score takes every value between them there.
    """
    n_boxes = _n_boxes(seen)
    is_known = np.isfinite(known.lower) & np.isfinite(known.upper)
    return np.asarray(is_known & ((n_boxes == 1) | (known.cells.shape[1] > 0)), np.bool_)


def _n_boxes(seen: Regions) -> NDArray[np.int64]:
    """Of each block [N]."""
    return np.bincount(seen.block, minlength=len(seen))


def _with_flags(outcome: Outcome, seen: Regions, on_nan: bool | None, *, takes_nan: Bools) -> Outcome:
    """Take NULL and NaN rows into account: bounds speak only of rows whose inputs are numbers, or NaN where the model
    takes NaN in them [d], what is unknown being any number or NaN there.
    """
    decision, is_unknown = outcome.decision.copy(), seen.unknown.any(axis=1)
    may_be_nan = (seen.may_be_nan & ~takes_nan).any(axis=1)
    decision[may_be_nan & (decision == SKIP) & (on_nan is not False)] = EVALUATE
    decision[may_be_nan & (decision == KEEP) & (on_nan is not True)] = EVALUATE
    decision[(seen.may_be_null.any(axis=1) | is_unknown) & (decision == KEEP)] = EVALUATE
    decision[(seen.unknown & ~takes_nan).any(axis=1)] = EVALUATE
    decision[seen.all_null.any(axis=1)] = SKIP
    return outcome.replace_decision(decision)


@dataclass(frozen=True, eq=False, slots=True)
class Threshold(ScoreTest):
    """`score > limit`, or `>=`, `<`, `<=`; the limit is compared exactly as given (a float32 literal must be rounded
    by the caller).
    """

    score: Score
    operator: Operator
    limit: float

    def __post_init__(self) -> None:
        if math.isnan(self.limit):
            raise PredicateError("a threshold cannot be NaN: compare with a number")

    @property
    def on_nan(self) -> bool:
        return self.operator in (">", ">=")

    def never(self, lower: Floats, upper: Floats) -> Bools:
        value = upper[:, 0] if self.on_nan else lower[:, 0]
        return _compare(_NEGATED[self.operator], value, self.limit) & _bounded(lower, upper)

    def always(self, lower: Floats, upper: Floats) -> Bools:
        value = lower[:, 0] if self.on_nan else upper[:, 0]
        return _compare(self.operator, value, self.limit) & _bounded(lower, upper)

    def holds(self, values: Floats) -> Bools:
        value = values[:, 0]
        return _compare(self.operator, value, self.limit) | (np.isnan(value) & self.on_nan)

    def negated(self) -> Predicate:
        return Threshold(self.score, _NEGATED[self.operator], self.limit)


def _bounded(lower: Floats, upper: Floats) -> Bools:
    """Whether the bounds say anything: behind infinite ones a computation may have overflowed, even to NaN."""
    return np.asarray((np.isfinite(lower) & np.isfinite(upper)).all(axis=1), dtype=np.bool_)


def _compare(operator: Operator, value: Floats, limit: float) -> Bools:
    compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[operator]
    return np.asarray(compare(value, limit), dtype=np.bool_)


@dataclass(frozen=True, eq=False, slots=True)
class Between(ScoreTest):
    """`low <= score <= high`, with either side made strict by `strict_low`, `strict_high`."""

    score: Score
    low: float
    high: float
    strict_low: bool = False
    strict_high: bool = False

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high):
            raise PredicateError("the limits of between cannot be NaN: compare with numbers")

    @property
    def on_nan(self) -> bool:
        return False

    def _above(self, value: Floats) -> Bools:
        return _compare(">" if self.strict_low else ">=", value, self.low)

    def _below(self, value: Floats) -> Bools:
        return _compare("<" if self.strict_high else "<=", value, self.high)

    def never(self, lower: Floats, upper: Floats) -> Bools:
        return (~self._above(upper[:, 0]) | ~self._below(lower[:, 0])) & _bounded(lower, upper)

    def always(self, lower: Floats, upper: Floats) -> Bools:
        return self._above(lower[:, 0]) & self._below(upper[:, 0]) & _bounded(lower, upper)

    def holds(self, values: Floats) -> Bools:
        return self._above(values[:, 0]) & self._below(values[:, 0])

    def negated(self) -> Predicate:
        below = Threshold(self.score, "<=" if self.strict_low else "<", self.low)
        return below | Threshold(self.score, ">=" if self.strict_high else ">", self.high)


@dataclass(frozen=True, eq=False, slots=True)
class Class(ScoreTest):
    """The class with the largest output is (or, negated, is not) `label`; ties go to the first.

    The score's values are the differences `output[label] - output[j]` for every other j, in order.
    """

    score: Score
    label: int
    is_not: bool = False

    @property
    def on_nan(self) -> None:
        return None

    def _beaten(self, margin: Floats) -> Bools:
        """Whether another class wins, if the differences are `margin` [n, m]: an earlier class wins a tie."""
        earlier = np.arange(margin.shape[1]) < self.label
        return np.asarray(np.where(earlier, margin <= 0, margin < 0).any(axis=1), dtype=np.bool_)

    def never(self, lower: Floats, upper: Floats) -> Bools:
        proved = ~self._beaten(lower) if self.is_not else self._beaten(upper)
        return proved & _bounded(lower, upper)

    def always(self, lower: Floats, upper: Floats) -> Bools:
        proved = self._beaten(upper) if self.is_not else ~self._beaten(lower)
        return proved & _bounded(lower, upper)

    def holds(self, values: Floats) -> Bools:
        return self._beaten(values) if self.is_not else ~self._beaten(values)

    def stored(self, seen: Regions) -> NDArray[np.int8] | None:
        known = label_map(seen.evidence, self.score.key, seen.sources)
        n_labels = len(self.score.verifier.functionals) + 1
        return by_labels(known, self.label, self.is_not) if known is not None and known.n_labels == n_labels else None

    def passes(self, inputs: Floats) -> Bools:
        return np.asarray((self.score.labels(inputs) == self.label) != self.is_not, np.bool_)

    def negated(self) -> Predicate:
        return Class(self.score, self.label, not self.is_not)
