"""The boxes that branch and bound divides the blocks into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """Boxes [L, d], the first box and the block that each is a part of [L], bounds of the values of its rows [L, m],
    whether these are CROWN's [L], the slope [L, d] to split by and how near to a proof it is [L].
    """

    lower: Floats
    upper: Floats
    root: Indices
    block: Indices
    low: Floats
    high: Floats
    bounded: Bools
    slope: Floats
    promise: Floats

    def take(self, chosen: Bools | Indices | slice) -> Leaves:
        """Some of them, chosen by a mask [L], by number or by place."""
        return replace(self, **{name: array[chosen] for name, array in self._arrays().items()})

    @classmethod
    def joined(cls, parts: Sequence[Leaves]) -> Leaves:
        """All of one or more."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def _arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __len__(self) -> int:
        return len(self.block)
