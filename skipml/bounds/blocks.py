"""What branch and bound works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.polygons import Hull

Floats = NDArray[np.float64]


class Blocks(Protocol):
    """N blocks of rows, each covered by one or more boxes of model inputs; Regions are."""

    @property
    def lower(self) -> Floats:
        """[M, d]."""

    @property
    def upper(self) -> Floats:
        """[M, d]."""

    @property
    def block(self) -> NDArray[np.int64]:
        """[M], the block of each box."""

    @property
    def n_rows(self) -> NDArray[np.int64]:
        """[N]."""

    @property
    def hulls(self) -> Sequence[Hull]:
        """Polygons around pairs of inputs, each for every block."""
