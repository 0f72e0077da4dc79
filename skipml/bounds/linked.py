"""Bounds of networks that end in a sigmoid or a softmax: tests of probabilities are those of margins (through.py)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import content_of
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Points, Test
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.leaves import Leaves
from skipml.bounds.outcome import Method
from skipml.bounds.polygons import Cuts
from skipml.bounds.through import TestThrough, Through
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.graph import Graph
from skipml.linked import Linked
from skipml.network import Network
from skipml.regions import Regions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def network_verifier(network: Network | Graph, functionals: ArrayLike) -> Verifier | GraphVerifier:
    """Bounds of functionals [m, n_outputs] of a network of either kind."""
    if isinstance(network, Network):
        return Verifier(network, functionals)
    return GraphVerifier(network, functionals)


class LinkedVerifier:
    """Bounds of `functionals` [m, n_outputs] of the outputs, by default the outputs themselves.

    What is bounded, and tests are translated to, are functionals of the margins; `signs`: only the functionals' signs
    matter. Raises ModelError if the functionals do not fit.
    """

    first_method = Method.CROWN

    def __init__(self, linked: Linked, functionals: ArrayLike | None = None, *, signs: bool = False) -> None:
        rows = np.eye(linked.n_outputs) if functionals is None else np.asarray(functionals, np.float64)
        if rows.ndim != 2 or rows.shape[1] != linked.n_outputs or not len(rows):
            raise ModelError(f"functionals of shape {rows.shape} do not fit a model of {linked.n_outputs} outputs")
        self.function = linked
        self.functionals = rows
        self.signs = signs
        self.through = Through.of(linked.link, rows, linked.dtype, signs=signs)
        self._verifier = network_verifier(linked.network, self.through.inner)

    @property
    def network_bounds(self) -> Verifier | GraphVerifier:
        """Who bounds the margins."""
        return self._verifier

    @property
    def n_values(self) -> int:
        """How many values are bounded."""
        return len(self.through.inner)

    @property
    def is_continuous(self) -> bool:
        """Whether a value takes all numbers between two that it has in a box."""
        return True

    def aim(self, test: Test) -> Test:
        """A test on the functionals, as one on the margins."""
        return TestThrough(test, self.through)

    def outputs(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [N, m] of the functionals from those of the margins."""
        return self.through.outputs(lower, upper)

    @cached_property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""
        return content_of(self) + self.through.way.encode()

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        return self._verifier.seconds_per_box

    def blocks(self, regions: Regions) -> Blocks:
        """The regions: a row with a NaN has no score that bounds could speak of."""
        return regions

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Those of the margins. Sound as the network's are."""
        return self._verifier.interval(lower, upper)

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Those of the margins. Sound as the network's are."""
        return self._verifier.linear(lower, upper)

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """Halves of leaves; sound as `leaves.halved` is."""
        return self._verifier.halved(leaves, times)

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Single points."""
        return self._verifier.indivisible(lower, upper)

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """All boxes: polygons hold for every row whose inputs are numbers."""
        return self._verifier.may_cut(lower, upper)

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
        return self._verifier.try_points(test, box, bounds, climb=climb, cuts=cuts)

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]; infinite where nothing is known.

        Sound because both evaluations of each row lie within the bounds of the box around it.
        """
        if not len(rows):
            return np.zeros(len(self.functionals))
        low, high = self.outputs(*self.interval(rows - slack, rows + slack))
        with np.errstate(invalid="ignore"):
            return np.asarray((high - low).max(axis=0, initial=0.0))
