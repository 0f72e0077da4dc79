"""Predicates: what they decide about blocks of rows, and how they are combined.

A predicate follows SQL's three values: a row with a NULL input has a NULL score and the predicate is not TRUE for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.branch import KEEP, SKIP, Budget, Outcome
from skipml.bounds.evidence import ScoreKey
from skipml.errors import PredicateError
from skipml.regions import Regions

if TYPE_CHECKING:
    from skipml.bounds.bounder import Bounder

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Score(Protocol):
    """A number (or several) per row: what a predicate tests."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The region columns the score reads, in the order of the model's inputs."""

    @property
    def verifier(self) -> Bounder:
        """Bounds on the score over boxes of inputs."""

    @property
    def seconds_per_row(self) -> float:
        """An estimate of what an engine spends on scoring one row."""

    @property
    def key(self) -> ScoreKey:
        """What stored scores of it are called."""

    def labels(self, inputs: Floats) -> NDArray[np.int64]:
        """The class of each row [n] as the scorer has it, for inputs [n, d]."""

    def evaluate(self, inputs: Floats) -> Floats:
        """The values tested, [n, m], for inputs [n, d], from the scorer that the engine runs."""


class Predicate(ABC):
    """A condition on rows; combine with `&`, `|` and `~`, hand to `skipml.plan` or `prune`."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The region columns the predicate reads, without repetition."""

    @property
    @abstractmethod
    def seconds_per_row(self) -> float:
        """An estimate of what testing one row costs: what verification may cost is measured by it."""

    @property
    @abstractmethod
    def scores(self) -> tuple[Score, ...]:
        """The scores it tests."""

    @abstractmethod
    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        """SKIP, EVALUATE or KEEP for every block, or for those chosen by a mask [N]: the others are EVALUATE."""

    @abstractmethod
    def matches(self, rows: pa.Table) -> Bools:
        """Whether the predicate is TRUE, per row (False where it is FALSE or NULL)."""

    @abstractmethod
    def negated(self) -> Predicate:
        """The predicate that is TRUE exactly where this one is FALSE."""

    def __and__(self, other: Predicate) -> Predicate:
        return And(self, other)

    def __or__(self, other: Predicate) -> Predicate:
        return Or(self, other)

    def __invert__(self) -> Predicate:
        return self.negated()

    def __bool__(self) -> NoReturn:
        raise PredicateError(
            "a predicate has no truth value of its own: combine predicates with & | ~ instead of and, or, not"
        )


@dataclass(frozen=True, eq=False, slots=True)
class Opaque(Predicate):
    """A condition skipml does not analyse, for example an ordinary column predicate beside a model: always EVALUATE."""

    text: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def scores(self) -> tuple[Score, ...]:
        return ()

    @property
    def seconds_per_row(self) -> float:
        return 0.0

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        return Outcome.evaluate_all(len(regions))

    def matches(self, rows: pa.Table) -> Bools:
        raise PredicateError(f"{self.text} cannot be evaluated outside the engine that understands it")

    def negated(self) -> Predicate:
        return Opaque(f"NOT ({self.text})")


@dataclass(frozen=True, eq=False, slots=True)
class _Combination(Predicate):
    left: Predicate
    right: Predicate

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.left.inputs + self.right.inputs))

    @property
    def scores(self) -> tuple[Score, ...]:
        return self.left.scores + self.right.scores

    @property
    def seconds_per_row(self) -> float:
        return self.left.seconds_per_row + self.right.seconds_per_row


@dataclass(frozen=True, eq=False, slots=True)
class And(_Combination):
    """Both: a block is SKIP if it is for either side, KEEP if it is for both."""

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        left = self.left.decide(regions, budget, chosen)
        still_open = (left.decision != SKIP) & (True if chosen is None else chosen)
        right = self.right.decide(regions, budget, still_open)
        decision = np.where(left.decision == SKIP, SKIP, np.minimum(left.decision, right.decision))
        return left.combined(right, decision)

    def matches(self, rows: pa.Table) -> Bools:
        return self.left.matches(rows) & self.right.matches(rows)

    def negated(self) -> Predicate:
        return Or(self.left.negated(), self.right.negated())


@dataclass(frozen=True, eq=False, slots=True)
class Or(_Combination):
    """Either: a block is KEEP if it is for either side, SKIP if it is for both."""

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        left = self.left.decide(regions, budget, chosen)
        useful = left.decision == SKIP if not budget.prove_keep else left.decision != KEEP
        useful &= True if chosen is None else chosen
        right = self.right.decide(regions, budget, useful)
        decision = np.where(useful, np.maximum(left.decision, right.decision), left.decision)
        return left.combined(right, decision)

    def matches(self, rows: pa.Table) -> Bools:
        return self.left.matches(rows) | self.right.matches(rows)

    def negated(self) -> Predicate:
        return And(self.left.negated(), self.right.negated())


def all_of(predicates: Sequence[Predicate]) -> Predicate:
    """The conjunction of one or more predicates."""
    return predicates[0] if len(predicates) == 1 else And(predicates[0], all_of(predicates[1:]))
