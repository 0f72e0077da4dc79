"""Bounds of models whose outputs are a link of margins: tests of outputs are those of margins (through.py), which the
network's own bounds take.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.bounder import content_of, fitting
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Points, Test
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.leaves import Leaves
from skipml.bounds.network_bounder import NetworkBounder
from skipml.bounds.outcome import Method
from skipml.bounds.polygons import Cuts
from skipml.bounds.rounding import Folded
from skipml.bounds.through import TestThrough, Through
from skipml.bounds.verifier import Verifier
from skipml.function import Function
from skipml.graph import Graph
from skipml.margins import MarginModel
from skipml.network import Network

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def network_verifier(
    network: Network | Graph, functionals: ArrayLike, folded: Mapping[int, Folded] | None = None
) -> NetworkBounder:
    """Bounds of functionals [m, n_outputs] of a network of either kind; see there for `folded`."""
    if isinstance(network, Network):
        return Verifier(network, functionals, folded)
    return GraphVerifier(network, functionals, folded)


class MarginVerifier:
    """Bounds of `functionals` [m, n_outputs] of the outputs, by default the outputs themselves, over boxes that
    `network` is read over.

    What is bounded, and tests are translated to, are functionals of the margins; `signs`: only the functionals' signs
    matter. Raises ModelError if the functionals do not fit.
    """

    function: Function
    is_continuous = True
    first_method = Method.CROWN

    def __init__(
        self,
        model: MarginModel,
        network: Network | Graph,
        functionals: ArrayLike | None = None,
        *,
        signs: bool = False,
    ) -> None:
        self.functionals = fitting(functionals, model.n_outputs)
        self.through = Through.of(model.link, self.functionals, model.dtype, signs=signs)
        self.network_bounds: NetworkBounder = network_verifier(network, self.through.inner)

    def over(self, network_bounds: NetworkBounder) -> Self:
        """The same by other bounds of the network, which the caller answers for."""
        found = copy(self)
        found.network_bounds = network_bounds
        found.__dict__.pop("content", None)
        return found

    def is_finite(self, lower: Floats, upper: Floats) -> Bools:
        """Over which boxes [M, w] the network's inputs are."""
        return np.asarray((np.isfinite(lower) & np.isfinite(upper)).all(axis=1), np.bool_)

    def read_over(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Between which values [h] the network's inputs lie over a box [w]."""
        return lower, upper

    @property
    def n_values(self) -> int:
        """How many values are bounded."""
        return len(self.through.inner)

    def aim(self, test: Test) -> Test:
        """A test on the functionals, as one on the values that are bounded."""
        return test if self.through.way == "same" else TestThrough(test, self.through)

    def outputs(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [N, m] of the functionals from those of the values that are bounded."""
        return self.through.outputs(lower, upper)

    @cached_property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""
        return content_of(self) + self.through.way.encode() + self.network_bounds.content

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        return self.network_bounds.seconds_per_box

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Those of the margins. Sound as the network's are."""
        return self.network_bounds.interval(lower, upper)

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Those of the margins. Sound as the network's are."""
        return self.network_bounds.linear(lower, upper)

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """Halves of leaves; sound as the network's are."""
        return self.network_bounds.halved(leaves, times)

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Single points."""
        return self.network_bounds.indivisible(lower, upper)

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """All boxes: polygons hold for every row whose inputs are numbers."""
        return self.network_bounds.may_cut(lower, upper)

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
        return self.network_bounds.try_points(test, box, bounds, climb=climb, cuts=cuts)

    def farthest(self, lower: Floats, upper: Floats) -> Floats:
        """How far at most two values of the functionals between bounds [N, n_values] lie apart, over all N [m].

        Sound because what is no number is infinite.
        """
        low, high = self.outputs(lower, upper)
        with np.errstate(invalid="ignore"):
            wide = high - low
        return np.asarray(np.where(np.isnan(wide), np.inf, wide).max(axis=0, initial=0.0))
