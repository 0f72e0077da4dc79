"""The normalisation of a layer as bounds see it: values less their mean, and by their deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skipml.activations import RELATIVE
from skipml.bounds.bent_steps import Bent
from skipml.bounds.graph_steps import Bools, Dense, Floats, Range
from skipml.bounds.relaxations import Lines
from skipml.bounds.rounding import Arithmetic


class Centred(Dense):
    """x less its mean, executed in float64. Sound as `Dense` is: sums and differences round n + 1 times."""

    def __init__(self, n: int, arithmetic: Arithmetic) -> None:
        super().__init__(np.eye(n) - 1.0 / n, np.zeros(n), arithmetic, executed=False)
        self._relative += (n + 16) * 2.0**-50


class Normalised(Bent):
    """c / sqrt(mean(c^2) + epsilon) between two lines in c, executed in float64 and rounded. Sound because the divisor
    lies between its values for the least and the largest squares, c times a number from there is bounded by chords of
    the two extremes, and sums of squares lose no more than n roundings relative to themselves.
    """

    def __init__(self, n: int, epsilon: float, arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._n, self._epsilon = n, epsilon
        self._exact = (n + 16) * 2.0**-48

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return read[0] * self._factor(read[0])

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        c, factor = read[0], self._factor(read[0])
        along = (a * c).mean(axis=1, keepdims=True)
        return [factor * (a - c * factor * factor * along)]

    def _factor(self, c: Floats) -> Floats:
        return np.asarray(1 / np.sqrt((c * c).mean(axis=1, keepdims=True) + self._epsilon))

    def _factors(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The least and the largest factor [M, 1], with what computing it rounds."""
        nearest = np.maximum(np.maximum(lower, -upper), 0.0)
        farthest = np.maximum(np.abs(lower), np.abs(upper))
        return self._factor(farthest) * (1 - self._exact), self._factor(nearest) * (1 + self._exact)

    def _span(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Sound because c times a factor takes its extremes at ends of both, and no number is above sqrt(n)."""
        low, high = self._factors(lower, upper)
        most = np.sqrt(self._n) * (1 + 2 * self._exact)
        ends = np.minimum(lower * low, lower * high), np.maximum(upper * low, upper * high)
        return np.clip(ends[0], -most, most), np.clip(ends[1], -most, most)

    def _lines(self, lower: Floats, upper: Floats) -> Lines:
        """Sound because max(c low, c high) is convex and below its chord, and min(c low, c high) concave and above."""
        low, high = self._factors(lower, upper)
        wide = np.maximum(upper - lower, 2.0**-1022)
        tops = [np.maximum(end * low, end * high) for end in (lower, upper)]
        bottoms = [np.minimum(end * low, end * high) for end in (lower, upper)]
        above, below = (np.clip((ends[1] - ends[0]) / wide, low, high) for ends in (tops, bottoms))
        top = np.maximum(tops[0] - above * lower, tops[1] - above * upper)
        bottom = np.minimum(bottoms[0] - below * lower, bottoms[1] - below * upper)
        return Lines(below, bottom, above, top)

    def _slope(self, x: Floats) -> Floats:
        raise NotImplementedError("a row's numbers depend on each other: see pull")

    def _loss(self, magnitude: Floats, largest: Floats) -> Floats:
        unit = 2 * RELATIVE * self.arithmetic.unit + self._exact
        return unit * largest + 4 * self.arithmetic.tiny

    def _in_domain(self, x: Range) -> Bools:
        """Whether squares do not overflow."""
        return np.asarray((x.magnitude <= 1e120).all(axis=1), np.bool_)
