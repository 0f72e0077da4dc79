"""Whether a promise of recall still holds: searches that were served are compared with exact ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skipml.ann.calibration import Calibration, Misses, broken, lower_bound


class DriftWarning(UserWarning):
    """A promise of recall looks broken."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What a comparison of `n` searches with exact ones says of a promise.

    `mean` is their recall, `bound` the recall that they confirm with the confidence of the promise. `is_broken`: they
    refute the promise; without drift that happens at most once in twenty checks.
    """

    promise: Calibration
    n: int
    mean: float
    bound: float
    is_broken: bool

    def __str__(self) -> str:
        what = f"recall {self.mean:.3f} over {self.n} searches (promised: {self.promise.target:g})"
        if self.is_broken:
            return f"The promise looks broken: {what}; calibrate the index again with queries like these"
        return f"No sign that the promise is broken: {what}"


def compare(promise: Calibration, miss: Misses) -> Drift:
    """Test a promise on the share of its true neighbours that each search missed (n,), searches in random order."""
    allowed = 1 - promise.target
    mean = float(1 - np.mean(miss)) if len(miss) else float("nan")
    bound = lower_bound(miss, promise.confidence)
    return Drift(promise, len(miss), mean, bound, broken(miss, allowed, promise.confidence))
