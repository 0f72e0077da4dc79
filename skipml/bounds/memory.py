"""What runs of branch and bound have found out, for the next one: bounds of the values over boxes do not depend on the
test, so a second filter on the same model over the same blocks begins with the leaves that the first one has made.

Keys are hashes of everything that bounds depend on: the network, the functionals, the boxes and the polygons. Nothing
can be stale: what changes has another key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.recent import Derived, Recent

if TYPE_CHECKING:
    from skipml.bounds.bounder import Bounder

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_CAPACITY = 1 << 26
_MOST_LEAVES, _FEW_LEAVES = 16_384, 4
"""Of all boxes together, and of one: more take longer to compare than they save."""
_LARGEST = 1 << 26
"""Bytes of boxes and polygons beyond which hashing them takes longer than it may save."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Of M boxes and m values: the L leaves that they are divided into, boxes `lower`, `upper` [L, d] of `root` [L],
    which together hold all their rows, with bounds `low`, `high` [L, m] of the values of these, whether CROWN made them
    [L] and the slope [L, d] to split by; `lowest`, `highest` [M, m] are values that points of a box have, inf and -inf
    where none was tried.
    """

    lower: Floats
    upper: Floats
    root: Indices
    low: Floats
    high: Floats
    bounded: Bools
    slope: Floats
    lowest: Floats
    highest: Floats

    @classmethod
    def nothing(cls, lower: Floats, upper: Floats, m: int) -> Known:
        """Nothing is known of boxes `lower`, `upper` [M, d] and m values."""
        n = len(lower)
        infinite = np.full((n, m), np.inf)
        return cls(
            lower=lower,
            upper=upper,
            root=np.arange(n),
            low=-infinite,
            high=infinite,
            bounded=np.zeros(n, np.bool_),
            slope=np.zeros(lower.shape),
            lowest=infinite.copy(),
            highest=-infinite,
        )

    def compacted(self, most: int) -> Known:
        """The same with one leaf in place of those of a box that has more than `most`.

        Sound because it holds all of them, and so do its bounds.
        """
        many = np.bincount(self.root, minlength=len(self.lowest)) > most
        if not many.any():
            return self
        kept, number = ~many[self.root], np.flatnonzero(many)
        order = np.argsort(self.root[~kept], kind="stable")
        starts = np.flatnonzero(np.diff(self.root[~kept][order], prepend=-1))

        def merged(name: str, how: np.ufunc) -> Any:
            return how.reduceat(getattr(self, name)[~kept][order], starts, axis=0)

        one = {
            "lower": merged("lower", np.minimum),
            "upper": merged("upper", np.maximum),
            "root": number,
            "low": merged("low", np.minimum),
            "high": merged("high", np.maximum),
            "bounded": merged("bounded", np.logical_and),
            "slope": merged("slope", np.maximum),
        }
        arrays = {name: np.concatenate([getattr(self, name)[kept], one[name]]) for name in OF_LEAVES}
        return Known(**arrays, lowest=self.lowest, highest=self.highest)

    def bounds(self, group: Indices, n: int) -> tuple[Floats, Floats]:
        """Those of n groups of boxes [n, m], `group` [M] of each box; inf, -inf where a group has no leaf, hence no
        row. Sound as the leaves' are.
        """
        low, high = np.full((2, n, self.low.shape[1]), [[[np.inf]], [[-np.inf]]])
        np.minimum.at(low, group[self.root], self.low)
        np.maximum.at(high, group[self.root], self.high)
        return low, high

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)


OF_LEAVES = ("lower", "upper", "root", "low", "high", "bounded", "slope")


class Memory:
    """Remembers what is known by key, up to `capacity` bytes; the longest unused goes first. Threads may share it."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._known: Recent[bytes, Known] = Recent(capacity, lambda known: known.nbytes)

    def recall(self, key: bytes) -> Known | None:
        """What is known under a key; its arrays must not be changed."""
        return self._known.get(key)

    def learn(self, key: bytes, known: Known) -> None:
        """Put what is known now of all boxes in place of what was."""
        self._known.put(key, known.compacted(max(_FEW_LEAVES, _MOST_LEAVES // max(len(known.lowest), 1))))

    def forget(self) -> None:
        """Remember nothing."""
        self._known.clear()


SHARED = Memory()
"""That of the plans and connections of this process."""


def key_of(verifier: Bounder, blocks: Blocks) -> bytes | None:
    """The key of blocks' boxes and polygons; None where these are too large to be worth it.

    Sound because all that bounds depend on goes into the hash, lengths included.
    """
    content = _content(blocks)
    if not content:
        return None
    return hashlib.sha256(verifier.content + content).digest()


def _hash(blocks: Blocks) -> bytes:
    """That of the boxes and polygons; empty where they are too large."""
    arrays: list[NDArray[np.generic]] = [blocks.lower, blocks.upper, blocks.block]
    for hull in blocks.hulls:
        arrays += [np.array(hull.inputs), hull.lower, hull.upper, hull.normal, hull.offset]
    if sum(array.nbytes for array in arrays) > _LARGEST:
        return b""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


_content = Derived(_hash)
