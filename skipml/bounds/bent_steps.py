"""The elementwise functions of a graph as bounds see them: between two lines, as relaxations.py finds them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from skipml.activations import RELATIVE, Curve
from skipml.bounds.graph_steps import Bools, Floats, Form, Range, Step, dot, mass_of
from skipml.bounds.relaxations import Lines, kinked_lines, lines, span
from skipml.bounds.rounding import Arithmetic
from skipml.network import Array


class Bent(Step):
    """An elementwise function between two lines. Sound because the lines hold on the range of the input, and `loss` is
    what computing the function is off by.
    """

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        (x,) = read
        low, high = self._span(x.lower, x.upper)
        largest = np.maximum(np.abs(low), np.abs(high))
        loss = self._loss(x.magnitude, largest)
        fits = self._fits(largest + loss) & self._in_domain(x)
        return Range(low - loss, high + loss), (x, loss), fits

    def prepared(self, state: Any) -> Lines:
        """The state for forms and coefficients.

        Sound as the class says; the lines' own rounding is added.
        """
        x, loss = state
        found = self._lines(x.lower, x.upper)
        steepest = np.maximum(np.abs(found.low_slope), np.abs(found.high_slope))
        offset = np.maximum(np.abs(found.low), np.abs(found.high))
        return found.widened(loss + self.arithmetic.verifier * (steepest * x.magnitude + offset))

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound because a rising line keeps upper forms upper, and a falling one turns them."""
        ((p, q),) = read
        found: Lines = state
        high, low = found.high_slope, found.low_slope
        steep_high, steep_low = np.abs(high), np.abs(low)
        up = 0.5 * ((high + low) * p + (steep_high - steep_low) * q)
        out = 0.5 * ((high - low) * p + (steep_high + steep_low) * q)
        rounding = self.arithmetic.verifier * (np.maximum(steep_high, steep_low) * mass_of(p, q))
        up[-1] += 0.5 * (found.high + found.low)
        out[-1] += 0.5 * (found.high - found.low) + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound because a positive coefficient takes the upper line and a negative one the lower line."""
        found: Lines = state
        rising, falling = np.maximum(a, 0.0), np.minimum(a, 0.0)
        inner = rising * found.high_slope + falling * found.low_slope
        return [inner], dot(rising, found.high) + dot(falling, found.low)

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return [a * self._slope(read[0])]

    @abstractmethod
    def _span(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The range of the function."""

    @abstractmethod
    def _lines(self, lower: Floats, upper: Floats) -> Lines:
        """Lines around it."""

    @abstractmethod
    def _slope(self, x: Floats) -> Floats:
        """Its derivative."""

    @abstractmethod
    def _loss(self, magnitude: Floats, largest: Floats) -> Floats:
        """What computing it is off by, for inputs and outputs of these magnitudes."""

    def _in_domain(self, x: Range) -> Bools:
        return np.ones(len(x.lower), np.bool_)


class Kinked(Bent):
    """x where x >= 0, else slope x, slope [n]. Sound as `Bent` is; only a slope that is not 0 rounds."""

    def __init__(self, slope: Array, arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._factor = slope.astype(np.float64)

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return np.where(read[0] < 0, self._factor * read[0], read[0])

    def _span(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Sound because a slope below 0 makes 0 the least value of an interval around 0."""
        ends = self.value([lower]), self.value([upper])
        low, high = np.minimum(*ends), np.maximum(*ends)
        return np.where((lower < 0) & (upper > 0), np.minimum(low, 0.0), low), high

    def _lines(self, lower: Floats, upper: Floats) -> Lines:
        return kinked_lines(self._factor, lower, upper)

    def _slope(self, x: Floats) -> Floats:
        return np.where(x < 0, self._factor, 1.0)

    def _loss(self, magnitude: Floats, largest: Floats) -> Floats:
        rounds = self._factor != 0
        steep = np.abs(self._factor) * magnitude
        loss = self.arithmetic.relative(1) * steep + self.arithmetic.underflow(1)
        return np.where(rounds, loss, 0.0)


class Curved(Bent):
    """A function of `activations`. Sound as `Bent` is: what it is off by is said there, and doubled for what computing
    it here is off by.
    """

    def __init__(self, bent: Curve, arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._curve = bent

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return self._curve.value(read[0])

    def _span(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        return span(self._curve, lower, upper)

    def _lines(self, lower: Floats, upper: Floats) -> Lines:
        return lines(self._curve, lower, upper)

    def _slope(self, x: Floats) -> Floats:
        return self._curve.slope(x)

    def _loss(self, magnitude: Floats, largest: Floats) -> Floats:
        bent = self._curve
        last = 2 * self.arithmetic.unit + 2.0**-50
        loss = last * (RELATIVE * largest + bent.of_input * magnitude + bent.absolute)
        return loss + 2 * bent.jump + 4 * self.arithmetic.tiny * (1 + magnitude)

    def _in_domain(self, x: Range) -> Bools:
        low, high = self._curve.domain
        return np.asarray(((x.lower >= low) & (x.upper <= high)).all(axis=1), np.bool_)
