"""Lines above and below an elementwise function on intervals, and its range there.

A line's slope is chosen by what makes the line tight; that it lies above (below) the function is made sure by its
intercept: the largest (smallest) f(x) - s x on the interval, which is taken at an end, where the function turns its
bend, or where f' = s. There a table of f' gives a cell that holds the place, and the tangent at a point of the cell
bounds what the true place may have more. Chords and tangents are those of Zhang et al., arXiv:1811.00866.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.activations import Curve

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_CELLS = 4096
_ROUNDING = 2.0**-44
"""Relative to the numbers that go into an intercept: more than float64 loses there."""
_ABSOLUTE = 2.0**-48
"""More than a table's slopes, which are off by some units of the last place, can move an intercept by."""
_SMALLEST = 2.0**-1022


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """`low_slope` x + `low` <= f(x) <= `high_slope` x + `high` on intervals, all [M, n]."""

    low_slope: Floats
    low: Floats
    high_slope: Floats
    high: Floats

    def widened(self, room: Floats) -> Lines:
        """The same, further apart by `room` on either side."""
        return Lines(self.low_slope, self.low - room, self.high_slope, self.high + room)


def span(bent: Curve, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The range of a function on intervals [M, n], but for rounding.

    Sound because a function that does not only rise falls before its lowest point and rises behind it.
    """
    ends = bent.value(lower), bent.value(upper)
    if bent.lowest is None:
        return ends
    least = bent.value(np.clip(bent.lowest, lower, upper))
    return least, np.maximum(*ends)


def lines(bent: Curve, lower: Floats, upper: Floats) -> Lines:
    """Lines around a function on intervals [M, n].

    Sound because a convex function lies below its chords and above its tangents, a concave one the other way round, and
    others are looked at wherever f(x) - s x may be extreme.
    """
    if bent.shape == "mixed":
        return _mixed_lines(bent, lower, upper)
    found = _convex_lines(bent.value, bent.slope, (lower, upper), is_convex=bent.shape == "convex")
    return found.widened(_room(bent, (lower, upper), found))


def kinked_lines(slope: Floats, lower: Floats, upper: Floats) -> Lines:
    """Those of x where x >= 0, else slope x: convex where the slope [n] is at most 1, else concave. Sound as `lines`
    is; nothing is rounded that the caller's margin does not count.
    """

    def value(x: Floats) -> Floats:
        return np.where(x < 0, slope * x, x)

    def rise(x: Floats) -> Floats:
        return np.where(x < 0, slope, 1.0)

    convex = _convex_lines(value, rise, (lower, upper), is_convex=True)
    if (slope <= 1).all():
        return convex
    concave = _convex_lines(value, rise, (lower, upper), is_convex=False)
    sides = [np.where(slope <= 1, getattr(convex, name), getattr(concave, name)) for name in Lines.__slots__]
    return Lines(*sides)


def _convex_lines(
    value: Callable[[Floats], Floats], slope: Callable[[Floats], Floats], box: tuple[Floats, Floats], *, is_convex: bool
) -> Lines:
    """The chord and the tangent in the middle. Sound because the intercept of the chord is taken at both ends, so that
    its slope need not be exact.
    """
    lower, upper = box
    ends, slopes = (value(lower), value(upper)), (slope(lower), slope(upper))
    chord = (ends[1] - ends[0]) / np.maximum(upper - lower, _SMALLEST)
    chord = np.clip(chord, np.minimum(*slopes), np.maximum(*slopes))
    offsets = ends[0] - chord * lower, ends[1] - chord * upper
    middle = lower + 0.5 * (upper - lower)
    tangent = slope(middle)
    offset = value(middle) - tangent * middle
    if is_convex:
        return Lines(tangent, offset, chord, np.maximum(*offsets))
    return Lines(chord, np.minimum(*offsets), tangent, offset)


def _room(bent: Curve, box: tuple[Floats, Floats], found: Lines) -> Floats:
    """What rounding may take from intercepts [M, n]."""
    largest = np.maximum(np.abs(box[0]), np.abs(box[1]))
    steepest = np.maximum(np.abs(found.low_slope), np.abs(found.high_slope))
    height = np.maximum(np.abs(found.low), np.abs(found.high)) + steepest * largest
    room: Floats = _ROUNDING * height + (_ABSOLUTE + 2 * bent.tail_error if bent.shape == "mixed" else 0.0)
    return room


def _mixed_lines(bent: Curve, lower: Floats, upper: Floats) -> Lines:
    """The better of some slopes on either side."""
    ends = bent.value(lower), bent.value(upper)
    middle = lower + 0.5 * (upper - lower)
    chord = np.clip((ends[1] - ends[0]) / np.maximum(upper - lower, _SMALLEST), *bent.steepest)
    at_middle = np.clip(bent.slope(middle), *bent.steepest)
    sides = []
    for is_upper in (False, True):
        best, place = _intercept(bent, chord, (lower, upper), ends, is_upper=is_upper)
        slope = chord
        beyond = np.clip(_towards(bent, place, (lower, upper), ends), *bent.steepest)
        for other in (at_middle, np.where(np.isnan(beyond), chord, beyond)):
            bound, _ = _intercept(bent, other, (lower, upper), ends, is_upper=is_upper)
            here, there = slope * middle + best, other * middle + bound
            better = there < here if is_upper else there > here
            slope, best = np.where(better, other, slope), np.where(better, bound, best)
        sides += [slope, best]
    found = Lines(*sides)
    return found.widened(_room(bent, (lower, upper), found))


def _towards(bent: Curve, place: Floats, box: tuple[Floats, Floats], ends: tuple[Floats, Floats]) -> Floats:
    """The slope from a place [M, n] to the farther end of the interval."""
    left = place - box[0] > box[1] - place
    far, height = np.where(left, box[0], box[1]), np.where(left, ends[0], ends[1])
    apart = place - far
    return np.asarray((bent.value(place) - height) / np.where(apart == 0, np.nan, apart))


def _intercept(
    bent: Curve, slope: Floats, box: tuple[Floats, Floats], ends: tuple[Floats, Floats], *, is_upper: bool
) -> tuple[Floats, Floats]:
    """The largest (not upper: smallest) f(x) - slope x on intervals [M, n], and about where.

    Sound because it lies at an end of the interval, at a bend, at the beginning of a tail, where f is as good as
    affine, or where f' is the slope on a piece that is bent the right way, and there by concavity no higher than the
    tangent at a point of its cell.
    """
    sign = 1.0 if is_upper else -1.0
    lower, upper = box
    first, second = sign * (ends[0] - slope * lower), sign * (ends[1] - slope * upper)
    best, place = np.maximum(first, second), np.where(first > second, lower, upper)
    for x, height in _knots(bent):
        inside = (lower < x) & (x < upper)
        here = np.where(inside, sign * (height - slope * x), -np.inf)
        place, best = np.where(here > best, x, place), np.maximum(best, here)
    for piece in _pieces(bent):
        if piece.is_convex is is_upper:
            continue
        found, room = piece.where_slope_is(bent, slope, box)
        here = np.where(np.isnan(found), -np.inf, sign * (bent.value(found) - slope * found) + room)
        place, best = np.where(here > best, found, place), np.maximum(best, here)
    return sign * best, place


@functools.cache
def _knots(bent: Curve) -> list[tuple[float, float]]:
    """Bends and beginnings of tails, and the values there."""
    places = sorted({*bent.bends, *bent.tails})
    return [(x, float(bent.value(np.array([x]))[0])) for x in places]


@dataclass(frozen=True, eq=False)
class _Piece:
    """A stretch on which f' only rises or only falls: `places` [C] and -f' or f' there, ascending."""

    places: Floats
    slopes: Floats
    is_convex: bool

    def where_slope_is(self, bent: Curve, slope: Floats, box: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """A place [M, n] in the cell and the interval where f' has a value, NaN where it has not, and how much the
        tangent there rises to the true place at most.
        """
        lower, upper = np.maximum(box[0], self.places[0]), np.minimum(box[1], self.places[-1])
        key = slope if self.is_convex else -slope
        cell = np.clip(np.searchsorted(self.slopes, key) - 1, 0, len(self.places) - 2)
        left, right = self.places[cell], self.places[cell + 1]
        step = self.slopes[cell + 1] - self.slopes[cell]
        share = np.clip((key - self.slopes[cell]) / np.where(step > 0, step, 1.0), 0.0, 1.0)
        low, high = np.maximum(left, lower), np.minimum(right, upper)
        x = np.clip(left + share * (right - left), low, np.maximum(high, low))
        missing = (low > high) | (key < self.slopes[0]) | (key > self.slopes[-1])
        room = np.abs(bent.slope(np.where(missing, 0.0, x)) - slope) * (high - low)
        return np.where(missing, np.nan, x), np.where(missing, 0.0, room)


@functools.cache
def _pieces(bent: Curve) -> list[_Piece]:
    bends = bent.bends
    outer = (not bent.convex[0], not bent.convex[-1]) if bent.convex else (True, False)
    edges = [bent.tails[0], *bends, bent.tails[1]]
    kinds = [outer[0], *bent.convex, outer[1]]
    found = []
    for low, high, is_convex in zip(edges[:-1], edges[1:], kinds, strict=True):
        if low < high:
            places = np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(high), _CELLS))
            places[0], places[-1] = low, high
            slopes = bent.slope(places) * (1 if is_convex else -1)
            found.append(_Piece(places, np.maximum.accumulate(slopes), is_convex))
    return found
