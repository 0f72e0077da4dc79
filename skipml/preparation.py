"""Preparation of inputs: what fitted scalers, imputers and encoders make of one column each.

A feature is a function of one input. It is monotone (scaling, clipping, powers) or a step function (encoders), and says
what becomes of NaN. Text enters as its place among the words that the encoders know, see `skipml.pipelines`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
StepKind = Literal["subtract", "divide", "multiply", "add", "clip", "float32", "yeo-johnson", "box-cox"]

_AFFINE = ("subtract", "divide", "multiply", "add")
_POWER_SLACK = 2.0**-40
"""Powers lose less: their exponents stay below 1,000, and expm1 and log1p are exact but for some last digits."""
_TINY = 2.0**-1000


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on every number of a feature; none of them ever falls: raises ModelError for numbers with which it
    would. Behind "float32", which rounds, one that was computed in float64 is what float32 makes of it: its 53 bits
    are more than twice 24 and 2.
    """

    kind: StepKind
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            raise ModelError(f"has a number to {self.kind} by that is not finite: fit it again")
        if self.kind in ("divide", "multiply") and self.values[0] <= 0:
            raise ModelError(f"has a scale of {self.values[0]:g}, which is not above 0: fit it again")
        if self.kind == "clip" and self.values[0] > self.values[1]:
            raise ModelError("clips to a range that ends before it begins: fit it again")

    def apply(self, x: Floats) -> Floats:
        """What becomes of numbers [n]; NaN stays NaN."""
        first = self.values[0] if self.values else 0.0
        with np.errstate(all="ignore"):
            match self.kind:
                case "float32":
                    return x.astype(np.float32).astype(np.float64)
                case "subtract":
                    return x - first
                case "divide":
                    return x / first
                case "multiply":
                    return x * first
                case "add":
                    return x + first
                case "clip":
                    return np.clip(x, first, self.values[1])
                case "yeo-johnson":
                    return _yeo_johnson(x, first)
                case "box-cox":
                    return _box_cox(x, first)

    def bounds(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [n] of what becomes of numbers between bounds [n], infinite where one of them is outside the domain.

        Sound because rounding is monotone, and powers are off by less than the slack, relative to the result.
        """
        low, high = self.apply(lower), self.apply(upper)
        if self.kind not in ("yeo-johnson", "box-cox"):
            return low, high
        outside = np.isnan(low) | np.isnan(high)
        with np.errstate(all="ignore"):
            low, high = (side + sign * (_POWER_SLACK * np.abs(side) + _TINY) for side, sign in ((low, -1), (high, 1)))
        return np.where(outside, -np.inf, low), np.where(outside, np.inf, high)


@dataclass(frozen=True, eq=False)
class Feature:
    """A function of the input `source`: the value of its cell, if there are cells between ascending `edges` [E] with
    `values` [E + 1] (a number up to the first edge has the first value), or the number itself, and then the steps.
    NaN becomes `missing`.
    """

    source: int
    steps: tuple[Step, ...] = ()
    missing: float = np.nan
    edges: Floats | None = None
    values: Floats | None = None

    def then(self, step: Step) -> Feature:
        """The feature with one more step; a step function takes it into its values."""
        missing = float(step.apply(np.array([self.missing]))[0])
        if self.values is not None:
            return replace(self, values=step.apply(self.values), missing=missing)
        return replace(self, steps=(*self.steps, step), missing=missing)

    def imputed(self, value: float) -> Feature:
        """The feature with a number in place of NaN."""
        missing = value if np.isnan(self.missing) else self.missing
        if self.values is None:
            return replace(self, missing=missing)
        return replace(self, values=np.where(np.isnan(self.values), value, self.values), missing=missing)

    def encoded(self, edges: Floats, values: Floats, missing: float) -> Feature:
        """A step function of what the feature is so far; raises ModelError behind a step."""
        if self.steps or self.values is not None:
            raise ModelError("an encoder must be the first to see a column, but for an imputer")
        if not np.isnan(self.missing):
            missing = float(values[np.searchsorted(edges, self.missing, side="left")])
        return Feature(self.source, (), missing, edges, values)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as what it is made of."""
        return type(self), (self.source, self.steps, self.missing, self.edges, self.values)

    def apply(self, x: NDArray[Any]) -> Floats:
        """The feature [n] of inputs [n]."""
        x = np.asarray(x, np.float64)
        known = x
        if self.edges is not None and self.values is not None:
            known = self.values[np.searchsorted(self.edges, x, side="left")]
        for step in self.steps:
            known = step.apply(known)
        missing = np.isnan(x)
        return np.where(missing, self.missing, known) if missing.any() else known

    def bounds(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [n] of the feature of numbers between bounds [n] that are not refused.

        Sound because no step ever falls, and all cells between the ends are looked at.
        """
        if self._extremes is None:
            low, high = lower, upper
            for step in self.steps:
                low, high = step.bounds(low, high)
            return low, high
        first, last = self.cells(lower, upper)
        return self._extremes[0][first, last], self._extremes[1][first, last]

    def cells(self, lower: Floats, upper: Floats) -> tuple[Indices, Indices]:
        """The first and the last cell [n] between bounds [n]."""
        assert self.edges is not None
        first = np.searchsorted(self.edges, lower, side="left")
        return first, np.maximum(np.searchsorted(self.edges, upper, side="left"), first)

    @property
    def is_stepped(self) -> bool:
        """Whether it is a step function."""
        return self.values is not None

    @property
    def slope(self) -> float | None:
        """How much it rises per unit where it is affine, None where it is not."""
        if self.is_stepped or any(step.kind not in _AFFINE for step in self.steps):
            return None
        slope = 1.0
        for step in self.steps:
            slope = slope / step.values[0] if step.kind == "divide" else slope
            slope = slope * step.values[0] if step.kind == "multiply" else slope
        return slope

    @property
    def text(self) -> str:
        """All that it depends on."""
        edges = None if self.edges is None else self.edges.tolist()
        values = None if self.values is None else self.values.tolist()
        return repr((self.source, [(s.kind, s.values) for s in self.steps], self.missing, edges, values))

    @cached_property
    def _extremes(self) -> tuple[Floats, Floats] | None:
        """The least and the largest value of the cells from one to another [E + 1, E + 1]; of refused ones any."""
        if self.values is None:
            return None
        n = len(self.values)
        least, most = np.zeros((n, n)), np.zeros((n, n))
        for i in range(n):
            least[i, i:] = np.fmin.accumulate(self.values[i:])
            most[i, i:] = np.fmax.accumulate(self.values[i:])
        return np.nan_to_num(least), np.nan_to_num(most)


def _yeo_johnson(x: Floats, power: float) -> Floats:
    positive, negative = np.maximum(x, 0.0), np.minimum(x, 0.0)
    rising = np.log1p(positive) if power == 0 else np.expm1(power * np.log1p(positive)) / power
    other = 2.0 - power
    falling = np.log1p(-negative) if other == 0 else np.expm1(other * np.log1p(-negative)) / other
    return np.where(x < 0, -falling, rising)


def _box_cox(x: Floats, power: float) -> Floats:
    return np.log(x) if power == 0 else np.asarray(np.expm1(power * np.log(x)) / power)
