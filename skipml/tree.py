"""One binary decision tree, as arrays over its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]
Condition = tuple[tuple[float, ...], bool]
"""Ascending edges, and whether numbers up to the first go left."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A binary tree of n nodes, the root first: `feature` [n], -1 for a leaf; `left`, `right` [n]; `threshold` [n], up
    to which numbers go left; whether missing numbers do, `missing_left` [n]; `value` [n, K], what a leaf adds to each
    output. `conditions` take the place of the thresholds of some nodes.
    """

    feature: Indices
    left: Indices
    right: Indices
    threshold: Floats
    missing_left: Bools
    value: Array
    conditions: Mapping[int, Condition] = field(default_factory=dict)

    def condition(self, node: int) -> Condition:
        """Which numbers go left at a node."""
        return self.conditions.get(node) or ((float(self.threshold[node]),), True)

    def adds_to(self, output: int) -> bool:
        """Whether some leaf adds anything to an output."""
        return bool(self.value[self.feature < 0, output].any())

    def levels(self) -> Iterator[Indices]:
        """The nodes level by level, from the root."""
        level = np.zeros(1, np.int64)
        while len(level):
            yield level
            inner = level[self.feature[level] >= 0]
            level = np.concatenate([self.left[inner], self.right[inner]])
