"""Limits of text columns: the least and the largest text of each row group, in the order of their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.parquet.thrift import Buffer, Positions, varint

Objects = NDArray[np.object_]

_LONGEST = 4096


@dataclass(frozen=True, slots=True, eq=False)
class TextLimits:
    """Bytes between which every text of each of N blocks lies, itself included; None where nothing is known."""

    lower: Objects
    upper: Objects

    @classmethod
    def unknown(cls, n: int) -> TextLimits:
        """Nothing is known of n blocks."""
        return cls(np.full(n, None, object), np.full(n, None, object))

    @classmethod
    def joined(cls, parts: Sequence[TextLimits]) -> TextLimits:
        """Those of blocks behind each other."""
        none = np.zeros(0, object)
        return cls(np.concatenate([none, *(p.lower for p in parts)]), np.concatenate([none, *(p.upper for p in parts)]))

    def take(self, chosen: Any) -> TextLimits:
        """Those of some of the blocks, by mask, number or slice."""
        return TextLimits(self.lower[chosen], self.upper[chosen])

    def merged(self, starts: NDArray[np.int64], all_null: NDArray[np.bool_]) -> TextLimits:
        """Those of runs of blocks; a block of nothing but NULL has no text."""
        found = TextLimits.unknown(len(starts))
        ends = np.append(starts[1:], len(self.lower)).tolist()
        for k, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
            some = ~all_null[start:end]
            lower, upper = self.lower[start:end][some].tolist(), self.upper[start:end][some].tolist()
            if lower and None not in lower and None not in upper:
                found.lower[k], found.upper[k] = min(lower), max(upper)
        return found


def text_limits(buffer: Buffer, minimum: Positions, maximum: Positions, usable: NDArray[np.bool_]) -> TextLimits:
    """The limits at the positions [n] (-1: none) of statistics, where they are `usable` [n].

    Sound because both have to be there, and to be in order: a writer may cut a limit short only outward.
    """
    found = TextLimits.unknown(len(minimum))
    for k in np.flatnonzero(usable & (minimum >= 0) & (maximum >= 0)).tolist():
        low, high = (_binary(buffer, int(at[k])) for at in (minimum, maximum))
        if low is not None and high is not None and low <= high:
            found.lower[k], found.upper[k] = low, high
    return found


def _binary(buffer: Buffer, at: int) -> bytes | None:
    size, start = (int(found[0]) for found in varint(buffer, np.array([at])))
    return buffer[start : start + size].tobytes() if size <= _LONGEST else None
