"""Bounders that bound the functionals of the outputs themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.falsify import Test

Floats = NDArray[np.float64]


class Direct:
    """What a bounder says of values that are the functionals."""

    functionals: Floats

    @property
    def n_values(self) -> int:
        """How many values are bounded."""
        return len(self.functionals)

    def aim(self, test: Test) -> Test:
        """A test on the functionals, as one on the values that are bounded."""
        return test

    def outputs(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [N, m] of the functionals from those of the values that are bounded."""
        return lower, upper
