"""The cells that the edges of a tree ensemble divide each input into: within one, no condition tells numbers apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.tree import Condition, Tree

Array = NDArray[np.floating]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """Per input the edges, ascending and in the type of the inputs: cell c holds the numbers beyond c edges, the last
    cell what is missing.
    """

    edges: tuple[Array, ...]
    in_order: tuple[bool, ...]
    """Whether every condition on the input is a single threshold."""

    @classmethod
    def of(cls, trees: Sequence[Tree], n_inputs: int, dtype: np.dtype[np.floating]) -> Cells:
        """The cells of all conditions of trees."""
        found: list[set[float]] = [set() for _ in range(n_inputs)]
        in_order = [True] * n_inputs
        for tree in trees:
            inner = np.flatnonzero(tree.feature >= 0)
            for i in np.unique(tree.feature[inner]).tolist():
                found[i].update(tree.threshold[inner[tree.feature[inner] == i]].tolist())
            for node, (several, _) in tree.conditions.items():
                found[int(tree.feature[node])].update(several)
                in_order[int(tree.feature[node])] = False
        edges = tuple(np.unique(rounded_down(sorted(numbers), dtype)) for numbers in found)
        return cls(edges, tuple(in_order))

    @property
    def counts(self) -> list[int]:
        """How many cells each input has, the one for what is missing included."""
        return [len(edges) + 2 for edges in self.edges]

    def place(self, i: int, column: NDArray[np.number]) -> Indices:
        """The cells [n] of the values [n] of an input."""
        edges = self.edges[i]
        with np.errstate(over="ignore"):
            numbers = column.astype(edges.dtype, copy=False)
        found: Indices = np.searchsorted(edges, numbers, side="left")
        missing = np.isnan(numbers)
        if missing.any():
            found[missing] = len(edges) + 1
        return found

    def last_left(self, i: int, edges: ArrayLike) -> Indices:
        """The last cell of an input up to each of some of its edges, as they are before they are rounded."""
        return np.searchsorted(self.edges[i], rounded_down(edges, self.edges[i].dtype), side="left")

    def goes_left(self, i: int, condition: Condition, missing_left: bool) -> Bools:
        """Which cells of an input a node sends to its left."""
        edges, low_left = condition
        left = np.empty(len(self.edges[i]) + 2, np.bool_)
        beyond = np.searchsorted(self.last_left(i, edges), np.arange(len(left)), side="left")
        left[:] = (beyond % 2 == 0) == low_left
        left[-1] = missing_left
        return left


def rounded_down(numbers: ArrayLike, dtype: np.dtype[np.floating]) -> Array:
    """The largest numbers of a type that are at most these: no number of the type lies between."""
    wide = np.asarray(numbers, np.float64)
    with np.errstate(over="ignore"):
        narrow: Array = wide.astype(dtype)
        return np.where(narrow > wide, np.nextafter(narrow, dtype.type(-np.inf)), narrow).astype(dtype)
