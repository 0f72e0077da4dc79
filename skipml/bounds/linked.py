"""Bounds of networks that end in a sigmoid or a softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.margins import MarginVerifier
from skipml.linked import Linked
from skipml.regions import Regions

Floats = NDArray[np.float64]


class LinkedVerifier(MarginVerifier):
    """Bounds of a network behind a link over boxes of its inputs, as `MarginVerifier` has them."""

    function: Linked

    def __init__(self, linked: Linked, functionals: ArrayLike | None = None, *, signs: bool = False) -> None:
        super().__init__(linked, linked.network, functionals, signs=signs)
        self.function = linked

    def blocks(self, regions: Regions) -> Blocks:
        """The regions: a row with a NaN has no score that bounds could speak of."""
        return regions

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]; infinite where nothing is known.

        Sound because both evaluations of each row lie within the bounds of the box around it.
        """
        return self.farthest(*self.interval(rows - slack, rows + slack))
