"""The boxes that branch and bound still works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """Boxes not decided yet [L, d], the first box and the block that each is a part of [L], bounds [L, m], the slope
    [L, d] to split by and how near to a proof they are [L].
    """

    lower: Floats
    upper: Floats
    root: Indices
    block: Indices
    low: Floats
    high: Floats
    slope: Floats
    promise: Floats

    def take(self, chosen: Bools | Indices | slice) -> Leaves:
        """Some of them, chosen by a mask [L], by number or by place."""
        return replace(self, **{name: array[chosen] for name, array in self._arrays().items()})

    def joined(self, other: Leaves) -> Leaves:
        """These and others."""
        theirs = other._arrays()
        return replace(self, **{name: np.concatenate([array, theirs[name]]) for name, array in self._arrays().items()})

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __len__(self) -> int:
        return len(self.block)
