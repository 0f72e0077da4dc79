"""What turns the sums of a tree ensemble into its outputs, and what it makes of bounds of the sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Floats = NDArray[np.float64]
Kind = Literal["identity", "logistic", "exp", "softmax"]

_LARGEST_FLOAT32 = np.float32(88.7)
"""XGBoost takes no larger argument of exp."""
_ULPS = 8
"""More than an output is off from the exact one, in units of the last place, as are two of them together."""


@dataclass(frozen=True, slots=True)
class Link:
    """A function of the sums, `scale` times each of them first; softmax is of all of them together.

    exp is computed in float64 and rounded, so that float32 outputs are those of a correctly rounded one but for one in
    a million.
    """

    kind: Kind = "identity"
    scale: float = 1.0

    def apply(self, sums: Array) -> Array:
        """Sums [K, n], each row contiguous, to outputs [K, n] of the same type."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            match self.kind:
                case "identity":
                    return sums
                case "logistic":
                    return _logistic(sums * sums.dtype.type(self.scale))
                case "exp":
                    return _exp(sums)
                case "softmax":
                    return _softmax(sums)

    def bounds(self, low: Array, high: Array, dtype: np.dtype[np.floating] | None = None) -> tuple[Floats, Floats]:
        """Bounds [K, n] of the outputs, computed in a dtype, by default that of the sums' bounds [K, n].

        Sound because the product with the scale is rounded monotonically, logistic and exp are monotone and off by
        less than half of what is added on either side; for softmax see `_softmax_bounds`.
        """
        if self.kind == "identity":
            return low.astype(np.float64), high.astype(np.float64)
        info = np.finfo(low.dtype if dtype is None else dtype)
        if self.kind == "softmax":
            lower, upper, relative = _softmax_bounds(low.astype(np.float64), high.astype(np.float64), float(info.eps))
        else:
            lower, upper = (self.apply(side).astype(np.float64) for side in (low, high))
            relative = np.full(lower.shape, _ULPS * float(info.eps))
        slack = float(info.tiny)
        lower, upper = lower * (1 - relative) - slack, upper * (1 + relative) + slack
        most = np.inf if self.kind == "exp" else 1.0
        return np.maximum(lower, 0.0), np.minimum(upper, most)

    def margin(self, outputs: Floats, dtype: np.dtype[np.floating]) -> float:
        """How far apart two computers' outputs of the same sums may lie, `outputs` being those of one."""
        if self.kind == "identity" or not outputs.size:
            return 0.0
        info = np.finfo(dtype)
        ulps = _SOFTMAX_ULPS if self.kind == "softmax" else _ULPS
        return float(ulps * float(info.eps) * np.abs(outputs).max() + float(info.tiny))


IDENTITY = Link()
"""The sums themselves."""
_SOFTMAX_ULPS = 2048
"""Of sums that lie up to some hundreds apart: rounding their difference moves exp of it by as much."""


def _exp(x: Array) -> Array:
    wide: Array = np.exp(x.astype(np.float64))
    return wide.astype(x.dtype)


def _logistic(x: Array) -> Array:
    one = x.dtype.type(1)
    opposite: Array = -x
    if x.dtype == np.float32:
        opposite = np.minimum(opposite, _LARGEST_FLOAT32)
    result: Array = one / (_exp(opposite) + one)
    return result


def _softmax(x: Array) -> Array:
    powers = _exp(x - x.max(axis=0))
    total = np.zeros(x.shape[1])
    for row in powers:
        total += row
    result: Array = powers / total.astype(x.dtype)
    return result


def _softmax_bounds(low: Floats, high: Floats, eps: float) -> tuple[Floats, Floats, Floats]:
    """The exact softmax at the corners that make each output least and most, and its relative error [K, n].

    Sound because an output rises with its own sum and falls with the others; a difference of sums D is rounded by D
    times eps, which changes exp by that share, and sums and quotients add some eps per class.
    """
    lower, upper = np.empty(low.shape), np.empty(low.shape)
    with np.errstate(over="ignore"):
        for k in range(len(low)):
            others = [j for j in range(len(low)) if j != k]
            upper[k] = 1.0 / (1.0 + sum(np.exp(low[j] - high[k]) for j in others))
            lower[k] = 1.0 / (1.0 + sum(np.exp(high[j] - low[k]) for j in others))
    apart = high.max(axis=0) - low.min(axis=0)
    relative = np.minimum(eps * (_ULPS + len(low) + 4 * apart), 1.0)
    return lower, upper, np.broadcast_to(relative, low.shape)
