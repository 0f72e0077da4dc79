"""The ops of a graph as bounds see them: what each makes of ranges, of linear forms in the inputs, and of coefficients.

Bounds speak of computed values: an op's output, computed from values within its ranges, lies within what the exact op
makes of them and `loss`, which counts the rounding of the execution and that of the float64 arithmetic here (with unit
roundoff u, a sum of n products in any order loses gamma(n) |W| |h|, see rounding.py). So `loss` goes into every range,
form and bound at the op where it arises.

A form holds the linear bounds of n values as P + Q (upper) and P - Q (lower), [d + 1, M, n]: coefficients per unit of
the box's radius, then the constant. Through a matrix they are P W and Q |W|.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.activations import RELATIVE, Curve
from skipml.bounds.product import product
from skipml.bounds.relaxations import Lines, kinked_lines, lines, span
from skipml.bounds.rounding import Arithmetic
from skipml.network import Array

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Form = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """Computed values lie between `lower` and `upper` [M, n]."""

    lower: Floats
    upper: Floats

    @property
    def magnitude(self) -> Floats:
        """The largest absolute value [M, n]."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    def within(self, other: Range) -> Range:
        """What two ranges have in common; of ranges that have nothing, as rounding may leave them, the first."""
        lower, upper = np.maximum(self.lower, other.lower), np.minimum(self.upper, other.upper)
        bad = ~(lower <= upper)
        return Range(np.where(bad, self.lower, lower), np.where(bad, self.upper, upper))


class Step(ABC):
    """One op; `state` is what a box [M] made of it, and is handed back for its forms and coefficients."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic

    def _fits(self, magnitude: Floats) -> Bools:
        """Where no magnitude [M, n] may overflow [M]."""
        return np.asarray((magnitude <= self.arithmetic.limit).all(axis=1), np.bool_)

    @abstractmethod
    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """The range of the output, the state, and where nothing overflows [M]. Sound as the class says."""

    @abstractmethod
    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """The form of the output. Sound as the class says."""

    @abstractmethod
    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Coefficients [F, M, n] of an upper bound in the output as those in what is read, and the constant [F, M] that
        is added. Sound as the class says.
        """

    @abstractmethod
    def value(self, read: Sequence[Floats]) -> Floats:
        """The output at points, without a margin."""

    @abstractmethod
    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """Gradients [K, n] in the output as those in what is read."""


class Dense(Step):
    """x @ weight.T + bias. Sound because a linear map takes centres to centres and radii through absolute weights."""

    def __init__(self, weight: Array, bias: Array, arithmetic: Arithmetic, *, executed: bool = True) -> None:
        super().__init__(arithmetic)
        n = weight.shape[1] + 1
        self._weight, self._bias = np.ascontiguousarray(weight, np.float64), bias.astype(np.float64)
        self._across = np.ascontiguousarray(self._weight.T)
        self._absolute = np.abs(self._across)
        self._relative = arithmetic.relative(n if executed else 0)
        self._underflow = arithmetic.underflow(n if executed else 0)

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        (x,) = read
        mass = product(x.magnitude, self._absolute) + np.abs(self._bias)
        loss = self._relative * mass + self._underflow
        centre = product((x.lower + x.upper) * 0.5, self._across) + self._bias
        radius = product((x.upper - x.lower) * 0.5, self._absolute) + loss
        return Range(centre - radius, centre + radius), loss, self._fits(mass + loss)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        ((p, q),) = read
        rounding = self.arithmetic.verifier * (product(_mass(p, q), self._absolute) + np.abs(self._bias))
        shape = (*p.shape[:2], len(self._bias))
        up = product(np.ascontiguousarray(p).reshape(-1, p.shape[2]), self._across).reshape(shape)
        out = product(np.ascontiguousarray(q).reshape(-1, q.shape[2]), self._absolute).reshape(shape)
        up[-1] += self._bias
        out[-1] += state + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says: what is lost counts for the worse, whatever the sign."""
        flat = np.ascontiguousarray(a).reshape(-1, a.shape[2])
        inner = product(flat, self._weight).reshape(*a.shape[:2], -1)
        return [inner], a @ self._bias + _dot(np.abs(a), state)

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return product(np.ascontiguousarray(read[0]), self._across) + self._bias

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return [product(np.ascontiguousarray(a), self._weight)]


class Diagonal(Step):
    """x * factor + offset, one of them neutral. Sound as `Dense` is, with one product per value; an offset rounds the
    result only.
    """

    def __init__(self, factor: Array, offset: Array, arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._factor, self._offset = factor.astype(np.float64), offset.astype(np.float64)
        self._absolute = np.abs(self._factor)

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        (x,) = read
        scaled = x.magnitude * self._absolute
        ends = x.lower * self._factor + self._offset, x.upper * self._factor + self._offset
        low, high = np.minimum(*ends), np.maximum(*ends)
        loss = self.arithmetic.relative(0) * (scaled + np.abs(self._offset)) + self.arithmetic.underflow(1)
        loss = loss + self.arithmetic.relative(1) * (np.maximum(np.abs(low), np.abs(high)) + loss)
        return Range(low - loss, high + loss), loss, self._fits(scaled + np.abs(self._offset) + loss)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        ((p, q),) = read
        rounding = self.arithmetic.verifier * (_mass(p, q) * self._absolute + np.abs(self._offset))
        up, out = p * self._factor, q * self._absolute
        up[-1] += self._offset
        out[-1] += state + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says."""
        return [a * self._factor], a @ self._offset + _dot(np.abs(a), state)

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return read[0] * self._factor + self._offset

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return [a * self._factor]


class Sum(Step):
    """a + b, or a - b. Sound because both are bounded and only the result is rounded."""

    def __init__(self, sign: float, arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._sign = sign

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        one, other = read
        second = (other.lower, other.upper) if self._sign > 0 else (-other.upper, -other.lower)
        low, high = one.lower + second[0], one.upper + second[1]
        mass = one.magnitude + other.magnitude
        loss = self.arithmetic.relative(0) * mass + self.arithmetic.underflow(1)
        loss = loss + self.arithmetic.relative(1) * (np.maximum(np.abs(low), np.abs(high)) + loss)
        return Range(low - loss, high + loss), loss, self._fits(mass + loss)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        (p, q), (other_p, other_q) = read
        up, out = p + self._sign * other_p, q + other_q
        out[-1] += state + self.arithmetic.verifier * (_mass(p, q) + _mass(other_p, other_q))
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says."""
        return [a, self._sign * a], _dot(np.abs(a), state)

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return read[0] + self._sign * read[1]

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return [a, self._sign * a]


class Product(Step):
    """a * b. Sound because (a - ca) (b - cb) lies within the product of the radii around 0 (McCormick, Mathematical
    Programming 10, 1976), so a b does so around cb a + ca b - ca cb.
    """

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound because a product takes its extremes at corners."""
        one, other = read
        corners = [x * y for x in (one.lower, one.upper) for y in (other.lower, other.upper)]
        low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
        mass = one.magnitude * other.magnitude
        loss = 4 * self.arithmetic.relative(1) * mass + self.arithmetic.underflow(1)
        centres = [(r.lower + r.upper) * 0.5 for r in read]
        radii = [(r.upper - r.lower) * 0.5 for r in read]
        room = radii[0] * radii[1] * (1 + 2.0**-40) + 4 * loss
        return Range(low - loss, high + loss), (*centres, room), self._fits(mass + loss)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        (p, q), (other_p, other_q) = read
        one, other, room = state
        up, out = p * other + other_p * one, q * np.abs(other) + other_q * np.abs(one)
        mass = _mass(p, q) * np.abs(other) + _mass(other_p, other_q) * np.abs(one) + np.abs(one * other)
        up[-1] -= one * other
        out[-1] += room + self.arithmetic.verifier * mass
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says; the rounding of a centre times the other value is in `room`."""
        one, other, room = state
        return [a * other, a * one], _dot(np.abs(a), room) - _dot(a, one * other)

    def value(self, read: Sequence[Floats]) -> Floats:
        """Approximately."""
        return read[0] * read[1]

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return [a * read[1], a * read[0]]


class Chosen(Step):
    """Numbers of what is read, one behind the other, at `positions`. Sound because nothing is computed."""

    def __init__(self, positions: NDArray[np.int64], widths: Sequence[int], arithmetic: Arithmetic) -> None:
        super().__init__(arithmetic)
        self._positions, self._edges = positions, np.cumsum([0, *widths])
        self._back = np.zeros((len(positions), self._edges[-1]))
        self._back[np.arange(len(positions)), positions] = 1.0
        self._repeats = len(set(positions.tolist())) < len(positions)

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        lower, upper = (self.value([getattr(r, side) for r in read]) for side in ("lower", "upper"))
        return Range(lower, upper), None, np.ones(len(lower), np.bool_)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        p, q = (np.concatenate([form[i] for form in read], axis=2)[:, :, self._positions] for i in (0, 1))
        return p, q

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says: coefficients of a number that is taken twice add up."""
        return self._spread(a), np.zeros(a.shape[:2])

    def value(self, read: Sequence[Floats]) -> Floats:
        """Exactly."""
        return np.concatenate(read, axis=1)[:, self._positions]

    def pull(self, read: Sequence[Floats], a: Floats) -> list[Floats]:
        """By the chain rule."""
        return self._spread(a)

    def _spread(self, a: Floats) -> list[Floats]:
        if self._repeats:
            whole = a @ self._back
        else:
            whole = np.zeros((*a.shape[:-1], self._edges[-1]))
            whole[..., self._positions] = a
        return [whole[..., start:stop] for start, stop in zip(self._edges[:-1], self._edges[1:], strict=True)]


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
        rounding = self.arithmetic.verifier * (np.maximum(steep_high, steep_low) * _mass(p, q))
        up[-1] += 0.5 * (found.high + found.low)
        out[-1] += 0.5 * (found.high - found.low) + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound because a positive coefficient takes the upper line and a negative one the lower line."""
        found: Lines = state
        rising, falling = np.maximum(a, 0.0), np.minimum(a, 0.0)
        inner = rising * found.high_slope + falling * found.low_slope
        return [inner], _dot(rising, found.high) + _dot(falling, found.low)

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


def _mass(p: Floats, q: Floats) -> Floats:
    """The magnitudes of forms [M, n], all coefficients together."""
    mass: Floats = np.abs(p).sum(axis=0)
    mass += np.abs(q).sum(axis=0)
    return mass


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("fmn,mn->fm", a, b), np.float64)
