"""Decisions about blocks.

Contract: a block is SKIP only if it is proved that the predicate is TRUE for none of its rows, and KEEP only if it is
proved TRUE for every one, for the scorer that evaluates the score. Whatever is missing, inexact, stale or not
understood is EVALUATE. An error while pruning never fails a query: every block becomes EVALUATE, and the error is
reported.

Related work: DataFusion's PruningPredicate, PyIceberg's metrics evaluators, MLSkip (arXiv:2606.03946).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.branch import EVALUATE, KEEP, SKIP, Budget, Method, Outcome, Reason
from skipml.bounds.outcome import Narrowed
from skipml.estimates import selectivity
from skipml.predicates import Predicate
from skipml.regions import Regions

__all__ = ["DECISION_NAMES", "EVALUATE", "KEEP", "SKIP", "Decisions", "decide", "prune"]

_FEWER, _FEW, _ALIKE = 8, (1 / 8, 1.0), (1.0, 1 / 3)
"""What part of a budget coarser and finer blocks get: coarser ones little if they are fewer by that factor, as they
rarely decide, and else all of it, so that finer metadata never makes less be skipped.
"""

DECISION_NAMES = ("SKIP", "EVALUATE", "KEEP")


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """The decision for each of N blocks, with the bounds of the score (NaN where several values are tested) and the
    method that decided.
    """

    decision: NDArray[np.int8]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    method: NDArray[np.int8]
    reason: NDArray[np.int8]
    seconds: float
    error: str = ""
    """Why pruning failed, where it did; every block is EVALUATE then."""
    selectivity: float | None = None
    """The share of the rows that pass, estimated from stored rows; None where there are none."""
    narrowed: tuple[Narrowed, ...] = ()
    """The networks that smaller ones stood for."""

    @classmethod
    def of(cls, outcome: Outcome, error: str = "") -> Decisions:
        """Decisions from what bounding found."""
        single = outcome.lower.shape[1] == 1
        none = np.full(len(outcome.decision), np.nan)
        lower, upper = (outcome.lower[:, 0], outcome.upper[:, 0]) if single else (none, none)
        how = outcome.method, outcome.reason
        return cls(outcome.decision, lower, upper, *how, outcome.seconds, error, narrowed=outcome.narrowed)

    @property
    def method_names(self) -> list[str]:
        """The last method that worked on each block: none, interval, crown or branch."""
        return [Method(m).name.lower() for m in self.method.tolist()]

    def merged(self, group: NDArray[np.int64]) -> Decisions:
        """Those of runs of blocks, `group` [N] ascending: SKIP (KEEP) if all blocks are; the reason is one of
        those of the blocks that are EVALUATE.
        """
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        lowest, highest = np.minimum.reduceat(self.decision, starts), np.maximum.reduceat(self.decision, starts)
        reason = np.where(self.decision == EVALUATE, self.reason, np.iinfo(np.int8).max)
        first = np.minimum.reduceat(reason, starts)
        return replace(
            self,
            decision=np.where(lowest == highest, lowest, EVALUATE).astype(np.int8),
            lower=np.minimum.reduceat(self.lower, starts),
            upper=np.maximum.reduceat(self.upper, starts),
            method=np.maximum.reduceat(self.method, starts),
            reason=np.where(first == np.iinfo(np.int8).max, Reason.PROVED, first).astype(np.int8),
        )

    def either(self, other: Decisions) -> Decisions:
        """What two scans of the same blocks need together: a block is SKIP only if it is for both."""
        both = (self.decision == SKIP) & (other.decision == SKIP)
        return replace(
            self,
            decision=np.where(both, SKIP, EVALUATE).astype(np.int8),
            lower=np.fmin(self.lower, other.lower),
            upper=np.fmax(self.upper, other.upper),
            seconds=self.seconds + other.seconds,
            error=self.error or other.error,
            selectivity=None,
            narrowed=self.narrowed_with(other),
        )

    def narrowed_with(self, other: Decisions) -> tuple[Narrowed, ...]:
        """The networks that smaller ones stood for in either."""
        return tuple(dict.fromkeys(self.narrowed + other.narrowed))


def prune(predicate: Predicate, regions: Regions, budget: Budget, chosen: NDArray[np.bool_] | None = None) -> Decisions:
    """Decide every block of the regions, or those chosen by a mask [N], within the budget; never raises."""
    try:
        found = Decisions.of(decide(predicate, regions, budget, chosen))
        return replace(found, selectivity=selectivity(predicate, regions))
    except Exception as error:
        return Decisions.of(Outcome.evaluate_all(len(regions)), f"{type(error).__name__}: {error}")


def prove_keep(predicate: Predicate, regions: Regions, budget: Budget, found: Decisions) -> Decisions:
    """Try once more to decide the blocks that `prune` has left open, where KEEP is worth some work; never raises."""
    budget = replace(budget, prove_keep=True)
    try:
        outcome = decide(predicate, regions, budget, found.decision == EVALUATE)
    except Exception as error:
        return replace(found, error=f"{type(error).__name__}: {error}")
    more = Decisions.of(outcome)
    now = more.decision != EVALUATE
    arrays: dict[str, Any] = {
        name: np.where(now, getattr(more, name), getattr(found, name))
        for name in ("decision", "lower", "upper", "method", "reason")
    }
    return replace(found, **arrays, seconds=found.seconds + more.seconds)


def decide(predicate: Predicate, regions: Regions, budget: Budget, chosen: NDArray[np.bool_] | None = None) -> Outcome:
    """Decide coarser blocks first, and of these blocks those that they leave open; only those chosen by a mask [N], if
    there is one: the others are EVALUATE.

    Sound because a coarser block holds every row of the blocks it covers.
    """
    if regions.coarser is None or regions.parent is None:
        return predicate.decide(regions, budget, chosen)
    coarse_share, fine_share = _FEW if len(regions) >= _FEWER * len(regions.coarser) else _ALIKE
    above = None if chosen is None else np.bincount(regions.parent[chosen], minlength=len(regions.coarser)) > 0
    coarse = decide(predicate, regions.coarser, budget.part(coarse_share), above)
    is_open = (coarse.decision == EVALUATE)[regions.parent]
    wanted = is_open if chosen is None else is_open & chosen
    fine = predicate.decide(regions, budget.part(fine_share), wanted)
    found = fine.settled(coarse.take(regions.parent), ~is_open)
    return found if chosen is None else found.only(chosen)
