"""The leaves of rows and boxes by walking down the trees: for ensembles whose leaf sets would be too large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.cells import Cells
from skipml.leaf_sets import CellBox
from skipml.tree import Tree

Array = NDArray[np.floating]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

_NODES_PER_WORD = 4
"""As many nodes take about as long as a word of a leaf set."""


@dataclass(frozen=True, slots=True, eq=False)
class _Walked:
    """A tree in cells: a node sends cells up to `cut` [n] left, but those in `sets` by a table of cells; `levels` are
    its nodes, `leaves` those of them that are leaves, by number.
    """

    tree: Tree
    cut: Indices
    sets: dict[int, Bools]
    levels: tuple[Indices, ...]
    leaves: Indices


@dataclass(frozen=True, eq=False)
class NodeWalk:
    """The leaves of V terms; `source` [V] is the tree of each."""

    outputs: Indices
    cells: Cells
    walked: tuple[_Walked, ...]
    source: Indices
    dtype: np.dtype[np.floating]

    @classmethod
    def of(cls, trees: Sequence[Tree], cells: Cells, outputs: Sequence[int], dtype: np.dtype[np.floating]) -> NodeWalk:
        """Those of some outputs."""
        pairs = [(t, k) for t, tree in enumerate(trees) for k in outputs if tree.adds_to(k)]
        used = sorted({t for t, _ in pairs})
        number = {t: i for i, t in enumerate(used)}
        walked = tuple(_walked(trees[t], cells) for t in used)
        source = np.array([number[t] for t, _ in pairs], np.int64)
        return cls(np.array([k for _, k in pairs], np.int64), cells, walked, source, dtype)

    @property
    def words(self) -> int:
        """How much work a row or a box takes."""
        return 1 + sum(len(walked.cut) for walked in self.walked) // _NODES_PER_WORD

    @property
    def bytes_per_row(self) -> int:
        """Memory that a row takes while it is looked up."""
        return 8 * (len(self.source) + len(self.cells.edges) + 4) + max((len(w.cut) for w in self.walked), default=0)

    def values(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The leaves [V, n] of rows, given as one array [n] per input."""
        place = np.stack([self.cells.place(i, column) for i, column in enumerate(columns)])
        missing = np.array(self.cells.counts) - 1
        row = np.arange(place.shape[1])
        found = [_leaf(walked, place, missing, row) for walked in self.walked]
        leaves = [
            self.walked[t].tree.value[found[t], k]
            for t, k in zip(self.source.tolist(), self.outputs.tolist(), strict=True)
        ]
        return np.stack(leaves) if leaves else np.zeros((0, len(row)), self.dtype)

    def extremes(self, box: CellBox) -> tuple[Array, Array]:
        """The least and the largest leaf [V, M] of each term in boxes; sound as `Terms` says."""
        low, high = np.zeros((2, len(self.source), len(box.low)), self.dtype)
        for t, walked in enumerate(self.walked):
            reached = _reached(walked, box)
            for v in np.flatnonzero(self.source == t).tolist():
                value = walked.tree.value[walked.leaves, self.outputs[v]]
                low[v], high[v] = _extremes(value, reached)
        return low, high


def _walked(tree: Tree, cells: Cells) -> _Walked:
    levels = tuple(tree.levels())
    nodes = np.concatenate(levels)
    cut = np.zeros(len(tree.feature), np.int64)
    for i in np.unique(tree.feature[tree.feature >= 0]).tolist():
        mine = tree.feature == i
        cut[mine] = cells.last_left(i, tree.threshold[mine])
    sets = {
        node: cells.goes_left(int(tree.feature[node]), tree.condition(node), missing_left=False)[:-1]
        for node in nodes[tree.feature[nodes] >= 0].tolist()
        if node in tree.conditions
    }
    return _Walked(tree, cut, sets, levels, nodes[tree.feature[nodes] < 0])


def _leaf(walked: _Walked, place: Indices, missing: Indices, row: Indices) -> Indices:
    """The leaves [n] that rows, given by cells [d, n], come to."""
    tree = walked.tree
    node = np.zeros(len(row), np.int64)
    for _ in walked.levels[1:]:
        i = tree.feature[node]
        inner = i >= 0
        cell = place[i, row]
        left = cell <= walked.cut[node]
        for chosen, table in walked.sets.items():
            mine = node == chosen
            if mine.any():
                left[mine] = table[np.minimum(cell[mine], len(table) - 1)]
        left = np.where(cell == missing[i], tree.missing_left[node], left)
        node = np.where(inner, np.where(left, tree.left[node], tree.right[node]), node)
    return node


def _reached(walked: _Walked, box: CellBox) -> Bools:
    """Which leaves [M, L] boxes may come to.

    Sound because a child is left out only if no cell of the box that comes to its parent leads to it.
    """
    tree = walked.tree
    reached = np.zeros((len(box.low), len(tree.feature)), np.bool_)
    reached[:, 0] = True
    for level in walked.levels:
        for node in level[tree.feature[level] >= 0].tolist():
            i = int(tree.feature[node])
            low, high = box.low[:, i], box.high[:, i]
            if node in walked.sets:
                beyond = np.concatenate([[0], np.cumsum(walked.sets[node])])
                n_left = beyond[high + 1] - beyond[low]
                left, right = n_left > 0, n_left < high - low + 1
            else:
                left, right = low <= walked.cut[node], high > walked.cut[node]
            left, right = left & ~box.misses[:, i], right & ~box.misses[:, i]
            if tree.missing_left[node]:
                left = left | box.may_miss[:, i]
            else:
                right = right | box.may_miss[:, i]
            reached[:, tree.left[node]] = reached[:, node] & left
            reached[:, tree.right[node]] = reached[:, node] & right
    return reached[:, walked.leaves]


def _extremes(value: Array, reached: Bools) -> tuple[Array, Array]:
    """The least and the largest of the leaves reached [M, L]."""
    infinite = value.dtype.type(np.inf)
    return np.where(reached, value, infinite).min(axis=1), np.where(reached, value, -infinite).max(axis=1)
