"""The ops of a graph as bounds see them: what each makes of ranges, of linear forms in the inputs, and of coefficients.

Here are the linear ones and products; functions are in bent_steps.py, normalisation in normalised_steps.py.

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

from skipml.bounds.product import product
from skipml.bounds.rounding import Arithmetic, Folded
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
    """x @ weight.T + bias. Sound because a linear map takes centres to centres and radii through absolute weights, and
    what was folded into the bias counts with its own magnitude and loss.
    """

    def __init__(
        self,
        weight: Array,
        bias: Array,
        arithmetic: Arithmetic,
        folded: Folded | None = None,
        *,
        executed: bool = True,
    ) -> None:
        super().__init__(arithmetic)
        n = weight.shape[1] + 1 + (folded.n_terms if folded else 0)
        self._weight, self._bias = np.ascontiguousarray(weight, np.float64), bias.astype(np.float64)
        self._across = np.ascontiguousarray(self._weight.T)
        self._absolute = np.abs(self._across)
        self._relative = arithmetic.relative(n if executed else 0)
        self._mass = folded.mass if folded else np.abs(self._bias)
        self._lost = arithmetic.underflow(n if executed else 0) + (folded.loss if folded else 0.0)

    def reach(self, read: Sequence[Range]) -> tuple[Range, Any, Bools]:
        """Sound as the class says."""
        (x,) = read
        mass = product(x.magnitude, self._absolute) + self._mass
        loss = self._relative * mass + self._lost
        centre = product((x.lower + x.upper) * 0.5, self._across) + self._bias
        radius = product((x.upper - x.lower) * 0.5, self._absolute) + loss
        return Range(centre - radius, centre + radius), loss, self._fits(mass + loss)

    def form(self, state: Any, read: Sequence[Form]) -> Form:
        """Sound as the class says."""
        ((p, q),) = read
        rounding = self.arithmetic.verifier * (product(mass_of(p, q), self._absolute) + np.abs(self._bias))
        shape = (*p.shape[:2], len(self._bias))
        up = product(np.ascontiguousarray(p).reshape(-1, p.shape[2]), self._across).reshape(shape)
        out = product(np.ascontiguousarray(q).reshape(-1, q.shape[2]), self._absolute).reshape(shape)
        up[-1] += self._bias
        out[-1] += state + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says: what is lost counts for the worse, whatever the sign."""
        flat = np.ascontiguousarray(a).reshape(-1, a.shape[2])
        inner = product(flat, self._weight).reshape(*a.shape[:2], self._weight.shape[1])
        return [inner], a @ self._bias + dot(np.abs(a), state)

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
        rounding = self.arithmetic.verifier * (mass_of(p, q) * self._absolute + np.abs(self._offset))
        up, out = p * self._factor, q * self._absolute
        up[-1] += self._offset
        out[-1] += state + rounding
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says."""
        return [a * self._factor], a @ self._offset + dot(np.abs(a), state)

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
        out[-1] += state + self.arithmetic.verifier * (mass_of(p, q) + mass_of(other_p, other_q))
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says."""
        return [a, self._sign * a], dot(np.abs(a), state)

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
        mass = mass_of(p, q) * np.abs(other) + mass_of(other_p, other_q) * np.abs(one) + np.abs(one * other)
        up[-1] -= one * other
        out[-1] += room + self.arithmetic.verifier * mass
        return up, out

    def back(self, state: Any, a: Floats) -> tuple[list[Floats], Floats]:
        """Sound as the class says; the rounding of a centre times the other value is in `room`."""
        one, other, room = state
        return [a * other, a * one], dot(np.abs(a), room) - dot(a, one * other)

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


def mass_of(p: Floats, q: Floats) -> Floats:
    """The magnitudes of forms [M, n], all coefficients together."""
    mass: Floats = np.abs(p).sum(axis=0)
    mass += np.abs(q).sum(axis=0)
    return mass


def dot(a: Floats, b: Floats) -> Floats:
    """Coefficients [F, M, n] times values [M, n], summed: [F, M]."""
    return np.asarray(np.einsum("fmn,mn->fm", a, b), np.float64)
