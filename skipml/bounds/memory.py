"""What runs of branch and bound have found out, for the next one: bounds of the values over boxes do not depend on the
test, so a second filter on the same model over the same blocks begins where the first one stopped.

Keys are hashes of everything that bounds depend on: the network, the functionals, the boxes and the polygons. Nothing
can be stale: what changes has another key.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.verifier import Verifier

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_CAPACITY = 1 << 26
_LARGEST = 1 << 26
"""Bytes of boxes and polygons beyond which hashing them takes longer than it may save."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Of M boxes and m values: `lower`, `upper` [M, m] bound the values of all rows; `lowest`, `highest` [M, m] are
    values that points of the box have, inf and -inf where none was tried.
    """

    lower: Floats
    upper: Floats
    lowest: Floats
    highest: Floats

    @classmethod
    def nothing(cls, n: int, m: int) -> Known:
        """Nothing is known of n boxes and m values."""
        infinite = np.full((n, m), np.inf)
        return cls(-infinite, infinite, infinite.copy(), -infinite)

    def take(self, chosen: Bools) -> Known:
        """That of some of the boxes, chosen by a mask [M]."""
        return Known(*(array[chosen] for array in self._arrays))

    def tightened(self, other: Known, chosen: Bools) -> Known:
        """The same with what is known of the boxes chosen by a mask [M].

        Sound because of two bounds of the same values the tighter holds too.
        """
        lower, upper, lowest, highest = (array.copy() for array in self._arrays)
        lower[chosen] = np.maximum(lower[chosen], other.lower)
        upper[chosen] = np.minimum(upper[chosen], other.upper)
        lowest[chosen] = np.minimum(lowest[chosen], other.lowest)
        highest[chosen] = np.maximum(highest[chosen], other.highest)
        return Known(lower, upper, lowest, highest)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return sum(array.nbytes for array in self._arrays)

    @property
    def _arrays(self) -> tuple[Floats, ...]:
        return self.lower, self.upper, self.lowest, self.highest


class Memory:
    """Remembers what is known by key, up to `capacity` bytes; the longest unused goes first. Threads may share it."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, Known] = OrderedDict()
        self._capacity = capacity
        self._held = 0

    def recall(self, key: bytes) -> Known | None:
        """What is known under a key; its arrays must not be changed."""
        with self._lock:
            known = self._entries.get(key)
            if known is not None:
                self._entries.move_to_end(key)
            return known

    def learn(self, key: bytes, known: Known, chosen: Bools) -> None:
        """Add what is known of the boxes chosen by a mask [M]."""
        with self._lock:
            old = self._entries.pop(key, None)
            self._held -= old.nbytes if old is not None else 0
            base = old if old is not None else Known.nothing(len(chosen), known.lower.shape[1])
            self._entries[key] = new = base.tightened(known, chosen)
            self._held += new.nbytes
            while self._held > self._capacity:
                self._held -= self._entries.popitem(last=False)[1].nbytes

    def forget(self) -> None:
        """Remember nothing."""
        with self._lock:
            self._entries.clear()
            self._held = 0


SHARED = Memory()
"""That of the plans and connections of this process."""


def key_of(verifier: Verifier, blocks: Blocks) -> bytes | None:
    """The key of blocks' boxes and polygons; None where these are too large to be worth it.

    Sound because all that bounds depend on goes into the hash, lengths included.
    """
    arrays: list[NDArray[np.generic]] = [verifier.functionals, blocks.lower, blocks.upper, blocks.block]
    for hull in blocks.hulls:
        arrays += [np.array(hull.inputs), hull.lower, hull.upper, hull.normal, hull.offset]
    if sum(array.nbytes for array in arrays) > _LARGEST:
        return None
    digest = hashlib.sha256(f"{type(verifier).__qualname__} {verifier.network.hash}".encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
