"""The stop rules whose reading one number sets, and what each setting would have done in recorded searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.ann import looks
from skipml.ann.learned import Gain, Level
from skipml.ann.regression import Trees
from skipml.ann.stopping import FloatMatrix, FloatVector, IntMatrix, IntVector, Nprobe, Progress, StopRule
from skipml.ann.traces import Trace

NPROBE, NEARNESS, LEVELED, MARGINAL = "nprobe", "nearness", "leveled", "marginal gain"
NAMES = (NPROBE, NEARNESS, LEVELED, MARGINAL)
PRICES = 1e-5, 3.0
"""Rows per list, the least and the most that a setting of marginal gain asks for."""
START = 2
"""Lists read before the first look at what they are worth."""
_FURTHEST = 64.0
_FINENESS = 1.04
"""The ratio of two neighbouring settings."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Reads `scale` times the lists that `level` expects a query to need, and stops."""

    level: Callable[[FloatMatrix], FloatVector]
    scale: float

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """The level of each query, (q,)."""
        return looks.rounded(self.level(route) * np.float32(self.scale))

    def more(self, progress: Progress) -> IntVector:
        """What was read is enough, (q,)."""
        return progress.lists


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Reads on while the next lists are worth more than `price`, the further the more they are worth."""

    worth: Callable[[Progress], FloatVector]
    price: float

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """A few lists, (q,)."""
        return np.full(len(route), START, np.int64)

    def more(self, progress: Progress) -> IntVector:
        """The next look, (q,)."""
        return _next(progress.lists, self.worth(progress) / np.float32(self.price))


def _next(lists: IntVector, times: FloatVector) -> IntVector:
    """The next look (q,) after so many lists where the next ones are worth so many times their price (q,).

    What a list is worth falls about with the square of the lists read, so the price is met at the square root of times
    as many; a search goes half of that way, as looks cost less than lists that were not needed.
    """
    further = lists * np.sqrt(np.sqrt(np.clip(times, 1, _FURTHEST)))
    return np.where(times > 1, looks.rounded(np.maximum(further, lists + 1)), lists)


def nearness(progress: Progress) -> FloatVector:
    """How far the k-th best row is, as a share of the distance to the centroid last read: needs no training."""
    rows, read = np.arange(len(progress.lists)), np.minimum(progress.lists, progress.route.shape[1])
    last = np.maximum(progress.route[rows, read - 1], np.float32(1e-12))
    return np.asarray(progress.best[:, -1] / last, np.float32)


class Family(Protocol):
    """The settings of a rule, the one that reads most first."""

    @property
    def settings(self) -> NDArray[np.float64]:
        """(s,)."""
        ...

    def rule(self, setting: float) -> StopRule:
        """The rule with one setting."""
        ...

    def stops(self, trace: Trace) -> IntMatrix:
        """The look at which each query of a trace stops, with each setting (s, q)."""
        ...


@dataclass(frozen=True, slots=True)
class FixedFamily:
    """The same number of lists for every query, of at most `lists`."""

    lists: int

    @property
    def settings(self) -> NDArray[np.float64]:
        """Numbers of lists."""
        return looks.grid(self.lists)[::-1].astype(np.float64)

    def rule(self, setting: float) -> StopRule:
        """Nprobe."""
        return Nprobe(int(setting))

    def stops(self, trace: Trace) -> IntMatrix:
        """(s, q)."""
        found = looks.places(trace.looks, self.settings)
        return _with_k_rows(np.repeat(found[:, None], len(trace), 1), trace)


@dataclass(frozen=True, slots=True, eq=False)
class ScaledFamily:
    """Multiples of a level that is known before reading."""

    level: Callable[[FloatMatrix], FloatVector]

    @property
    def settings(self) -> NDArray[np.float64]:
        """From a thousandfold down."""
        return _geometric(1000, 0.05)

    def rule(self, setting: float) -> StopRule:
        """Scaled."""
        return Scaled(self.level, setting)

    def stops(self, trace: Trace) -> IntMatrix:
        """(s, q)."""
        level = self.level(trace.route)
        stops = [looks.places(trace.looks, level * np.float32(scale)) for scale in self.settings]
        return _with_k_rows(np.stack(stops), trace)


@dataclass(frozen=True, slots=True, eq=False)
class PricedFamily:
    """Prices of a worth that is known during reading."""

    worth: Callable[[Progress], FloatVector]
    least: float
    most: float

    @property
    def settings(self) -> NDArray[np.float64]:
        """From the lowest price up."""
        return _geometric(self.least, self.most)

    def rule(self, setting: float) -> StopRule:
        """Priced."""
        return Priced(self.worth, setting)

    def stops(self, trace: Trace) -> IntMatrix:
        """(s, q)."""
        worth = np.stack([self.worth(trace.progress(look)) for look in range(len(trace.looks))], 1)
        return np.stack([_stops(trace, worth, price) for price in self.settings])


def _stops(trace: Trace, worth: FloatMatrix, price: float) -> IntVector:
    """Where the queries stop at one price, if the next lists are worth so much at each look (q, c)."""
    full = np.isfinite(trace.best[:, :, -1])
    stop = looks.places(trace.looks, np.full(len(trace), START))
    active = np.arange(len(trace))
    while len(active):
        here = stop[active]
        times = worth[active, here] / np.float32(price)
        wanted = looks.places(trace.looks, _next(trace.looks[here], times))
        doubled = looks.places(trace.looks, 2 * trace.looks[here])
        stop[active] = np.where(full[active, here], wanted, np.maximum(wanted, doubled))
        active = active[stop[active] > here]
    return stop


def family(name: str, lists: int, models: Mapping[str, Trees]) -> Family:
    """A rule by name, for an index of so many lists."""
    if name == LEVELED:
        return ScaledFamily(Level(models[LEVELED]))
    if name == MARGINAL:
        return PricedFamily(Gain(models[MARGINAL]), *PRICES)
    if name == NEARNESS:
        return PricedFamily(nearness, 0.1, 10.0)
    if name == NPROBE:
        return FixedFamily(lists)
    raise ValueError(f"{name!r} is no stop rule; they are {', '.join(NAMES)}")


def _with_k_rows(stops: IntMatrix, trace: Trace) -> IntMatrix:
    """No search stops before it has k rows: it reads as many lists again."""
    full = np.isfinite(trace.best[:, :, -1])
    while not (there := full[np.arange(len(trace)), stops] | (stops == len(trace.looks) - 1)).all():
        stops = np.where(there, stops, looks.places(trace.looks, 2 * trace.looks[stops]))
    return stops


def _geometric(start: float, end: float) -> NDArray[np.float64]:
    number = int(abs(np.log(end / start)) / np.log(_FINENESS)) + 1
    return np.geomspace(start, end, number)
