"""What bounding found out about N blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_ARRAYS = ("decision", "lower", "upper", "boxes", "method", "reason")

SKIP = 0
"""Proved TRUE for no row."""
EVALUATE = 1
"""Not proved either way."""
KEEP = 2
"""Proved TRUE for every row."""


class Method(IntEnum):
    """The last rung of the ladder that worked on a block."""

    NONE = 0
    INTERVAL = 1
    CROWN = 2
    BRANCH = 3
    SCORE_MAP = 4
    """What is stored of the scores themselves."""
    BALL = 5
    """The ball around the vectors."""


class Reason(IntEnum):
    """Why a block has its decision."""

    PROVED = 0
    FALSIFIED = 1
    """A point of the region passes the test (and, where KEEP is wanted, another one does not)."""
    BUDGET = 2
    """The work was worth no more."""
    DEGENERATE = 3
    """A single point that the margin does not decide."""
    OVERFLOW = 4
    """Unbounded inputs, or values that may pass the largest float."""
    NOT_TRIED = 5
    NULL_OR_NAN = 6
    """The bounds decide the rows that have a score, but NULL, NaN or unknown inputs forbid the conclusion."""
    WITNESS = 7
    """One stored row passes the test and another does not."""
    SCORES = 8
    """By what is stored of the scores themselves some row may pass, and bounds say no more."""
    SAMPLE = 9
    """None of a sample of the blocks can be decided."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A network that was bounded without what gives nothing over the blocks: the numbers behind each of its layers,
    inputs first, and its weights, before and after.
    """

    widths_before: tuple[int, ...]
    widths: tuple[int, ...]
    weights_before: int
    weights: int


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Per block: `decision` int8 [N]; `lower`, `upper` float64 [N, m], the best bounds known of the tested values;
    `boxes` int64 [N], how many were bounded; `method` and `reason` int8 [N]. `seconds` is the time spent on all of
    them; `narrowed` the networks that smaller ones stood for.
    """

    decision: NDArray[np.int8]
    lower: Floats
    upper: Floats
    boxes: NDArray[np.int64]
    method: NDArray[np.int8]
    reason: NDArray[np.int8]
    seconds: float
    narrowed: tuple[Narrowed, ...] = ()

    @classmethod
    def evaluate_all(cls, n: int, m: int = 0) -> Outcome:
        """Nothing was tried on n blocks and m values. Sound because nothing is concluded."""
        return cls(
            decision=np.full(n, EVALUATE, np.int8),
            lower=np.full((n, m), -np.inf),
            upper=np.full((n, m), np.inf),
            boxes=np.zeros(n, np.int64),
            method=np.full(n, Method.NONE, np.int8),
            reason=np.full(n, Reason.NOT_TRIED, np.int8),
            seconds=0.0,
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many blocks have which reason, by its name in lower case."""
        return {reason.name.lower(): int((self.reason == reason).sum()) for reason in Reason}

    def only(self, chosen: Bools) -> Outcome:
        """The same with nothing said of the blocks that are not `chosen` [N]. Sound because they are EVALUATE."""
        nothing = Outcome.evaluate_all(len(chosen), self.lower.shape[1])
        return replace(self.settled(nothing, ~chosen), seconds=self.seconds)

    def take(self, blocks: NDArray[np.int64]) -> Outcome:
        """That of some blocks [M], any of them more than once; none of the work is theirs."""
        taken = replace(self, **{name: getattr(self, name)[blocks] for name in _ARRAYS})
        return replace(taken, boxes=np.zeros(len(blocks), np.int64))

    def settled(self, other: Outcome, chosen: Bools) -> Outcome:
        """The same with another outcome of the same blocks in place of the `chosen` [N] ones; the time of both."""
        arrays = {}
        for name in _ARRAYS:
            arrays[name] = getattr(self, name).copy()
            arrays[name][chosen] = getattr(other, name)[chosen]
        return replace(self, **arrays, seconds=self.seconds + other.seconds, narrowed=self._narrowed_with(other))

    def _narrowed_with(self, other: Outcome) -> tuple[Narrowed, ...]:
        return tuple(dict.fromkeys(self.narrowed + other.narrowed))

    def replace_decision(self, decision: NDArray[np.int8]) -> Outcome:
        """The same bounds with other decisions, which the caller answers for."""
        reason = np.where((self.reason == Reason.PROVED) & (decision == EVALUATE), Reason.NULL_OR_NAN, self.reason)
        reason = np.where(decision == EVALUATE, reason, Reason.PROVED)
        return replace(self, decision=decision.astype(np.int8), reason=reason.astype(np.int8))

    def combined(self, other: Outcome, decision: NDArray[np.int8]) -> Outcome:
        """Two outcomes on the same blocks with the decision the caller takes from both; the values are those of the
        one, then those of the other.
        """
        reason = np.where(self.reason == Reason.PROVED, other.reason, self.reason)
        both = Outcome(
            decision=self.decision,
            lower=np.hstack([self.lower, other.lower]),
            upper=np.hstack([self.upper, other.upper]),
            boxes=self.boxes + other.boxes,
            method=np.maximum(self.method, other.method),
            reason=reason,
            seconds=self.seconds + other.seconds,
            narrowed=self._narrowed_with(other),
        )
        return both.replace_decision(decision)
