"""Bounds that hold over a part of the inputs: nothing is said of boxes outside of it."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.crown import LinearBounds
from skipml.bounds.network_bounder import NetworkBounder
from skipml.graph import Graph
from skipml.network import Network

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class OverDomain(NetworkBounder):
    """Bounds over boxes within the domain between `lower` and `upper` [d], by those of a network that holds there."""

    def __init__(self, inner: NetworkBounder, lower: Floats, upper: Floats) -> None:
        self.functionals = inner.functionals
        self._inner = inner
        self._lower, self._upper = self._cast(lower), self._cast(upper)

    @property
    def function(self) -> Network | Graph:
        """The network."""
        return self._inner.function

    @property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""
        digest = hashlib.sha256(b"over" + self._inner.content)
        digest.update(self._lower.tobytes() + self._upper.tobytes())
        return digest.digest()

    @property
    def seconds_per_box(self) -> float:
        """That of the network."""
        return self._inner.seconds_per_box

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Sound because the network holds within the domain, and nothing is said of other boxes."""
        low, high = self._inner.interval(lower, upper)
        outside = self._outside(lower, upper)
        if not outside.any():
            return low, high
        return np.where(outside, -np.inf, low), np.where(outside, np.inf, high)

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Sound as `interval` is."""
        found = self._inner.crown(lower, upper)
        outside = self._outside(lower, upper)
        if not outside.any():
            return found
        low, linear_low = (np.where(outside, -np.inf, side) for side in (found.lower, found.linear_lower))
        high, linear_high = (np.where(outside, np.inf, side) for side in (found.upper, found.linear_upper))
        down, up = (np.where(outside[:, :, None], 0.0, side) for side in (found.slope_lower, found.slope_upper))
        return LinearBounds(low, high, down, up, linear_low, linear_high)

    def values(self, x: Floats) -> Floats:
        """Those of the network."""
        return self._inner.values(x)

    def gradients(self, x: Floats, direction: Floats) -> Floats:
        """Those of the network."""
        return self._inner.gradients(x, direction)

    def _outside(self, lower: Floats, upper: Floats) -> Bools:
        """Which boxes [M, 1] are not known to lie within the domain, once both are cast as the network casts them."""
        within = (self._cast(lower) >= self._lower) & (self._cast(upper) <= self._upper)
        return np.asarray(~within.all(axis=1, keepdims=True), np.bool_)

    def _cast(self, x: Floats) -> NDArray[np.floating]:
        with np.errstate(over="ignore"):
            return x.astype(self.function.dtype, copy=False)
