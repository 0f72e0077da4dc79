"""Recall as a promise: how far a stop rule must read so that its mean recall reaches a target, with 95 % confidence.

*Learn then test*: the settings of a rule are tested from the one that reads most to the one that reads least, on
queries whose true neighbours are known, and the last one before the first failure serves. Each test bets against "the
mean recall is below the target": its capital grows with every query that misses less than the target allows, and where
it ends twentyfold the claim is refuted. That holds for any number of queries and any distribution of the misses
(Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*), and testing in a fixed order needs
no correction for the number of settings. What it assumes is that later queries are drawn as the calibration queries
were: `skipml.ann.drift` watches that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.rules import Family
from skipml.ann.stopping import IntVector
from skipml.ann.traces import Trace

CONFIDENCE = 0.95
_BOLDEST = 0.75
"""The share of the capital that a bet risks at most."""

Misses = NDArray[np.float32]
"""(n,) or (settings, n): the share of its k true neighbours that each query does not find."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A promise and what it rests on: mean recall at least `target` for `k` rows, tested on `n` queries.

    `bound` is the recall that the test would just have confirmed, `mean` the recall that was measured, `share` the
    share of the queries that reach the target themselves, `lists` how many lists they read on average.
    """

    k: int
    target: float
    rule: str
    setting: float
    n: int
    mean: float
    bound: float
    share: float
    lists: float
    confidence: float
    queries: str
    date: str

    @property
    def guarantee(self) -> str:
        """The promise in words."""
        return (
            f"mean recall of at least {self.target:g} with {self.confidence:.0%} confidence, "
            f"calibrated on {self.n} {self.queries} on {self.date[:10]} ({self.rule})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Calibration:
        """What to_dict made."""
        return Calibration(**stored)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What each of s settings does for each of q queries, `lists` and `miss` (s, q); what reads most comes first."""

    settings: NDArray[np.float64]
    lists: NDArray[np.int64]
    miss: Misses


def curve(family: Family, trace: Trace) -> Curve:
    """What every setting of a rule would have done in recorded searches."""
    stops = family.stops(trace)
    miss = 1 - np.take_along_axis(trace.recall, stops.T, 1).T
    return Curve(family.settings, trace.looks[stops], miss)


def refuted(miss: Misses, allowed: float, confidence: float = CONFIDENCE) -> NDArray[np.bool_]:
    """Whether "the mean miss is more than `allowed`" is refuted, for each row of misses (settings, n)."""
    capital = _capital(np.atleast_2d(miss), allowed, confidence, 1)
    return np.asarray(capital >= np.log(1 / (1 - confidence)))


def broken(miss: Misses, allowed: float, confidence: float = CONFIDENCE) -> bool:
    """Whether "the mean miss is at most `allowed`" is refuted by the misses (n,)."""
    return bool(_capital(miss[None], allowed, confidence, -1)[0] >= np.log(1 / (1 - confidence)))


def choose(
    miss: Misses, target: float, confidence: float = CONFIDENCE, groups: Sequence[IntVector] | None = None
) -> int | None:
    """The setting, from most to least reading, whose misses (settings, n) promise the target; None where none does.

    With `groups` of queries each of them must reach it. The queries must be in random order.
    """
    passed = np.ones(len(miss), np.bool_)
    for group in groups if groups is not None else [np.arange(miss.shape[1])]:
        mine = miss[:, group]
        passed &= mine.mean(1) <= 1 - target if len(group) else False  # others are not worth a test
        passed[passed] = refuted(mine[passed], 1 - target, confidence)
    return None if not passed[0] else int(np.append(passed, False).argmin()) - 1


def lower_bound(miss: Misses, confidence: float = CONFIDENCE) -> float:
    """The largest mean recall that the misses (n,) confirm."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(miss, 1 - middle, confidence)[0] else (low, middle)
    return low


def record(
    curve_: Curve, setting: int, *, k: int, target: float, rule: str, queries: str, confidence: float = CONFIDENCE
) -> Calibration:
    """The promise that a setting of a curve makes."""
    miss = curve_.miss[setting]
    return Calibration(
        k=k,
        target=target,
        rule=rule,
        setting=float(curve_.settings[setting]),
        n=len(miss),
        mean=round(float(1 - miss.mean()), 5),
        bound=round(lower_bound(miss, confidence), 5),
        share=round(float(np.mean(miss <= 1 - target + 1e-6)), 4),
        lists=round(float(curve_.lists[setting].mean()), 2),
        confidence=confidence,
        queries=queries,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _capital(miss: Misses, allowed: float, confidence: float, side: int) -> NDArray[np.float64]:
    """The largest logarithm of the capital of a bet that the mean of each row is below (1) or above (-1) `allowed`.

    The stake on a query depends on the queries before it alone: the variance that they showed.
    """
    x = np.asarray(miss, np.float64)
    n = x.shape[1]
    if n == 0:
        return np.full(len(x), -np.inf)
    count = np.arange(1, n + 1)
    mean = (allowed + np.cumsum(x, 1)) / (count + 1)
    spread = allowed * (1 - allowed) + np.cumsum((x - mean) ** 2, 1)
    variance = np.concatenate([np.full((len(x), 1), allowed * (1 - allowed)), spread[:, :-1] / count[1:]], 1)
    worst = max(1 - allowed if side > 0 else allowed, 1e-12)
    stake = np.minimum(np.sqrt(2 * np.log(1 / (1 - confidence)) / (n * np.maximum(variance, 1e-12))), _BOLDEST / worst)
    return np.asarray(np.cumsum(np.log1p(stake * side * (allowed - x)), 1).max(1))
