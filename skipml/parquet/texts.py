"""Limits of text columns: the least and the largest text of each row group, in the order of their bytes; and which
texts occur between them, where metadata knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    sets: Objects | None = None
    """All texts that occur, an ascending tuple of their bytes [N]; None for a block of which that is not known."""

    @classmethod
    def unknown(cls, n: int) -> TextLimits:
        """Nothing is known of n blocks."""
        return cls(np.full(n, None, object), np.full(n, None, object))

    @classmethod
    def joined(cls, parts: Sequence[TextLimits]) -> TextLimits:
        """Those of blocks behind each other."""
        none = np.zeros(0, object)
        lower, upper = (np.concatenate([none, *(getattr(p, side) for p in parts)]) for side in ("lower", "upper"))
        sets = [np.full(len(p.lower), None, object) if p.sets is None else p.sets for p in parts]
        return cls(lower, upper, None if all(p.sets is None for p in parts) else np.concatenate([none, *sets]))

    def take(self, chosen: Any) -> TextLimits:
        """Those of some of the blocks, by mask, number or slice."""
        sets = None if self.sets is None else self.sets[chosen]
        return TextLimits(self.lower[chosen], self.upper[chosen], sets)

    def with_sets(self, sets: Objects) -> TextLimits:
        """The same with the texts that occur [N]; what does not lie between the limits is not believed.

        Sound because sets and limits each hold every text of a block.
        """
        found = sets.copy()
        for k, (words, low, high) in enumerate(
            zip(sets.tolist(), self.lower.tolist(), self.upper.tolist(), strict=True)
        ):
            if words and ((low is not None and words[0] < low) or (high is not None and words[-1] > high)):
                found[k] = None
        return replace(self, sets=found)

    def merged(self, starts: NDArray[np.int64], all_null: NDArray[np.bool_]) -> TextLimits:
        """Those of runs of blocks, without sets; a block of nothing but NULL has no text."""
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
