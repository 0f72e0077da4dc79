"""What all who bound a network over boxes of numbers have in common, by whatever passes they do it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import content_of
from skipml.bounds.crown import LinearBounds
from skipml.bounds.direct import Direct
from skipml.bounds.falsify import Points, Test, try_points
from skipml.bounds.leaves import Leaves, halved
from skipml.bounds.outcome import Method
from skipml.bounds.polygons import Cuts
from skipml.bounds.rounding import Folded
from skipml.graph import Graph
from skipml.network import Network
from skipml.regions import Regions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class NetworkBounder(Direct, ABC):
    """Bounds of functionals of a network's outputs over boxes [M, d], by intervals and by CROWN.

    Every bound contains the functional of the outputs as computed in the network's dtype by any order of summation. A
    functional is compared, not computed: use coefficients -1, 0 and 1.
    """

    folded: Mapping[int, Folded] = MappingProxyType({})
    """What is in the biases of its ops, by their number, instead of products that were there."""
    is_continuous = True
    first_method = Method.CROWN

    @property
    @abstractmethod
    def function(self) -> Network | Graph:
        """The network."""

    @property
    @abstractmethod
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""

    @abstractmethod
    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Interval bounds over boxes [M, d] -> lower, upper [M, m]; infinite where a score might overflow."""

    @abstractmethod
    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """CROWN bounds over boxes [M, d], nowhere looser than interval bounds, infinite where these are."""

    @abstractmethod
    def values(self, x: Floats) -> Floats:
        """The functionals at concrete points, in float64 and without a margin: x [K, d] -> [K, m]."""

    @abstractmethod
    def gradients(self, x: Floats, direction: Floats) -> Floats:
        """The gradient at x [K, d] of the sum of `direction` [K, m] times the functionals -> [K, d]."""

    @cached_property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""
        digest = hashlib.sha256(content_of(self))
        for k, terms in sorted(self.folded.items()):
            digest.update(f"{k} {terms.n_terms} ".encode() + terms.mass.tobytes() + terms.loss.tobytes())
        return digest.digest()

    def blocks(self, regions: Regions) -> Blocks:
        """The regions: a row with a NaN has no score that bounds could speak of."""
        return regions

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """CROWN bounds."""
        return self.crown(lower, upper)

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """Halves of leaves, and halves of these, so many times; sound as `leaves.halved` is."""
        return halved(leaves, times, self.function.dtype)

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Single points."""
        return np.asarray((lower == upper).all(axis=1), np.bool_)

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """All boxes: polygons hold for every row whose inputs are numbers."""
        return np.ones(len(lower), np.bool_)

    def try_points(
        self,
        test: Test,
        box: tuple[Floats, Floats],
        bounds: LinearBounds | None,
        *,
        climb: bool,
        cuts: Cuts | None = None,
    ) -> Points:
        """What points of boxes [M, d] show."""
        return try_points(self, test, box, bounds, climb=climb, cuts=cuts)

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]; infinite where nothing is known.

        Sound because both evaluations of each row lie within the bounds of the box around it.
        """
        if not len(rows):
            return np.zeros(len(self.functionals))
        low, high = self.interval(rows - slack, rows + slack)
        return np.asarray((high - low).max(axis=0, initial=0.0))
