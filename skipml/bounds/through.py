"""From bounds of margins to bounds of what a link makes of them: tests on probabilities are tests on margins.

Softmax of one class is a falling function of how far the other margins lie above its own, so these differences are
bounded, which are linear in the margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.falsify import Test
from skipml.links import Link

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_ULPS = 16
"""As many roundings of the last place as an exp, a sum of few of them and a quotient have."""
_WIDE: np.dtype[np.floating] = np.dtype(np.float64)
_TINY = 2.0**-1000
_APART = 4096
"""As many roundings of 1 as margins are to be apart, so that no exp, sum or quotient makes them equal."""


@dataclass(frozen=True, eq=False)
class Through:
    """Which `inner` functionals [k, K] of the margins are bounded for functionals [m, K] of the outputs."""

    inner: Floats
    functionals: Floats
    link: Link
    way: Literal["same", "each", "softmax", "classes", "all"]
    dtype: np.dtype[np.floating] = _WIDE
    """Of the outputs."""

    @classmethod
    def of(
        cls, link: Link, functionals: Floats, dtype: np.dtype[np.floating] = _WIDE, *, signs: bool = False
    ) -> Through:
        """The way that loses least; `signs`: of the functionals only the signs matter, to tell classes apart."""
        n_outputs = functionals.shape[1]
        units = ((functionals == 0) | (functionals == 1)).all() and (functionals.sum(axis=1) == 1).all()
        if link.kind == "identity":
            return cls(functionals, functionals, link, "same", dtype)
        if link.kind != "softmax" and units:
            return cls(functionals, functionals, link, "each", dtype)
        if link.kind == "softmax" and units and len(functionals) == 1:
            k = int(functionals.argmax())
            others = np.delete(np.eye(n_outputs), k, axis=0)
            return cls(others - functionals, functionals, link, "softmax", dtype)
        if link.kind == "softmax" and signs and _compares_classes(functionals):
            return cls(functionals, functionals, link, "classes", dtype)
        return cls(np.eye(n_outputs), functionals, link, "all", dtype)

    def outputs(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Bounds [M, m] of the functionals where those inside have bounds [M, k]; infinite where these are.

        Sound because links are monotone, in each margin or in each difference, and computed ones are off by less than
        what is added.
        """
        match self.way:
            case "same":
                return low, high
            case "each":
                ends = self.link.bounds(np.ascontiguousarray(low.T), np.ascontiguousarray(high.T), self.dtype)
                found = ends[0].T, ends[1].T
            case "softmax":
                found = _softmax(
                    low, high, float(np.finfo(self.dtype).eps), max(float(np.finfo(self.dtype).tiny), _TINY)
                )
            case "classes":
                found = _widened(low, high, float(np.finfo(self.dtype).eps))
            case "all":
                ends = self.link.bounds(np.ascontiguousarray(low.T), np.ascontiguousarray(high.T), self.dtype)
                rising, falling = np.maximum(self.functionals, 0), np.minimum(self.functionals, 0)
                sides = ends[0].T, ends[1].T
                found = (
                    sides[0] @ rising.T + sides[1] @ falling.T - 4 * _EPS,
                    sides[1] @ rising.T + sides[0] @ falling.T + 4 * _EPS,
                )
        infinite = ~(np.isfinite(low) & np.isfinite(high)).all(axis=1, keepdims=True)
        return np.where(infinite, -np.inf, found[0]), np.where(infinite, np.inf, found[1])


@dataclass(frozen=True, slots=True)
class TestThrough:
    """A test on the functionals, as one on what is bounded."""

    test: Test
    through: Through

    def never(self, lower: Floats, upper: Floats) -> Bools:
        """Sound because the outputs' bounds are."""
        return self.test.never(*self.through.outputs(lower, upper))

    def always(self, lower: Floats, upper: Floats) -> Bools:
        """Sound because the outputs' bounds are."""
        return self.test.always(*self.through.outputs(lower, upper))

    def holds(self, values: Floats) -> Bools:
        """Whether the outputs pass, about."""
        low, high = self.through.outputs(values, values)
        with np.errstate(invalid="ignore"):  # infinite ones
            return self.test.holds((low + high) * 0.5)


def _compares_classes(functionals: Floats) -> bool:
    """Whether each functional is what one class has more than another."""
    return bool((np.sort(functionals, axis=1)[:, [0, -1]] == [-1, 1]).all() and (np.abs(functionals).sum(1) == 2).all())


def _softmax(low: Floats, high: Floats, eps: float, tiny: float) -> tuple[Floats, Floats]:
    """Bounds [M, 1] of 1 / (1 + the sum of exp of differences between bounds [M, k]).

    Sound because a difference D as softmax rounds it is off by D times eps, which changes exp by that share.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        upper, lower = (1.0 / (1.0 + np.exp(side).sum(axis=1, keepdims=True)) for side in (low, high))
        apart = np.maximum(high.max(axis=1, keepdims=True), 0.0) - np.minimum(low.min(axis=1, keepdims=True), 0.0)
        relative = np.minimum(eps * (_ULPS + low.shape[1] + 4 * apart), 1.0)
        return np.maximum(lower * (1 - relative) - tiny, 0.0), np.minimum(upper * (1 + relative) + tiny, 1.0)


def _widened(low: Floats, high: Floats, eps: float) -> tuple[Floats, Floats]:
    """Bounds of differences that have the sign of those of the probabilities wherever they have one.

    Sound because margins that are farther apart than this stay apart through exp and a common divisor, unless both
    become 0, and then neither is the largest.
    """
    room = _APART * eps
    return low - room, high + room
