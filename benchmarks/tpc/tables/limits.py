"""Limits on scores that no rounding crosses: ways that sum in different orders select the same rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SLACK = 0.02
_MOST_SLACK = 0.4


class NoLimitError(ValueError):
    """Scores leave no gap near a quantile."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The gaps between the scores of n rows, each of which several ways compute a little differently.

    Between `below[i]` and `above[i]` lies no score of any row, and `rows_above[i]` rows score higher.
    """

    below: NDArray[np.float64]
    above: NDArray[np.float64]
    rows_above: NDArray[np.int64]
    n_rows: int

    @classmethod
    def of(cls, *scores: NDArray[np.float32]) -> Limits:
        """The gaps between the scores of rows [n], each array computed in its own way."""
        lowest, highest = functools.reduce(np.minimum, scores), functools.reduce(np.maximum, scores)
        order = np.argsort(lowest)
        below, above = np.maximum.accumulate(highest[order])[:-1], lowest[order][1:]
        gaps = np.flatnonzero(np.nextafter(below, np.float32(np.inf)) < above)  # a float32 fits between
        rows_above = len(order) - 1 - gaps
        return cls(below[gaps].astype(np.float64), above[gaps].astype(np.float64), rows_above, len(order))

    def limit(self, share: float, precision: float) -> float:
        """A number of few digits that about this share of the rows exceeds, in the widest gap near there; `precision`
        is the share of which a few percent may be missed. Raises NoLimitError where ties leave none.
        """
        wanted, slack = share * self.n_rows, _SLACK
        while slack <= _MOST_SLACK:
            off = max(2.0, slack * precision * self.n_rows)
            start, stop = np.searchsorted(-self.rows_above, [-wanted - off, -wanted + off])
            if stop > start:
                widest = start + int(np.argmax(self.above[start:stop] - self.below[start:stop]))
                return _shortest(float(self.below[widest]), float(self.above[widest]))
            slack *= 2
        raise NoLimitError(f"the scores leave no limit near the largest {share:.3%}")


def _shortest(low: float, high: float) -> float:
    """The number of fewest digits near the middle between these, as float32 too."""
    middle = float(np.float32((low + high) / 2))
    for digits in range(1, 10):
        value = float(f"{middle:.{digits}g}")
        if low + (middle - low) / 2 <= value <= high - (high - middle) / 2 and low < np.float32(value) < high:
            return value
    return middle
