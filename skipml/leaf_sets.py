"""Which leaves of each tree some values of the inputs lead to, as sets of bits: one bit per leaf.

A leaf is reached if every input allows it, so what a row leads to is the intersection of one set per input, looked up
by the cell of its value; what a box of rows leads to is the intersection of one union per input. Bits are in the order
of the leaves' values, so that the first and the last bit are the least and the largest leaf. After Lucchese et al.,
QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees, SIGIR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.cells import Cells
from skipml.tree import Tree

Array = NDArray[np.floating]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]
Words = NDArray[np.unsignedinteger[Any]]

_LARGEST = 1 << 27
"""Bytes of sets beyond which they are looked up no faster than trees are walked."""
_MOST_LEAVES = 1 << 12
_TYPES = ((8, np.uint8), (16, np.uint16), (32, np.uint32))


@dataclass(frozen=True, slots=True, eq=False)
class CellBox:
    """M boxes of cells: numbers of input i lie in cells `low[:, i]` to `high[:, i]` [M, d]; `may_miss` [M, d] where the
    input may be missing, `misses` [M, d] where it is.
    """

    low: Indices
    high: Indices
    may_miss: Bools
    misses: Bools


class Terms(Protocol):
    """The leaves of V terms: a term is a tree and an output that its leaves are added to, in the order of the trees."""

    @property
    def outputs(self) -> Indices:
        """The output of each term [V]."""

    @property
    def cells(self) -> Cells:
        """Those of the inputs."""

    @property
    def words(self) -> int:
        """How much work a row or a box takes, in words of leaf sets."""

    @property
    def bytes_per_row(self) -> int:
        """Memory that a row takes while it is looked up."""

    def values(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The leaves [V, n] of rows, given as one array [n] per input."""

    def extremes(self, box: CellBox) -> tuple[Array, Array]:
        """The least and the largest leaf [V, M] of each term in boxes.

        Sound because a leaf is left out only if some input has no cell in the box that leads to it.
        """


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    """The sets of one input, each [V * W] words: `exact` [C] by cell, the last for what is missing; `up_to` [C], of all
    cells up to one; `since` [C], of all from one on; where conditions are no thresholds, `runs[k]` of 2**k cells from
    one on instead.
    """

    exact: Words
    up_to: Words
    since: Words
    runs: tuple[Words, ...]

    def over(self, low: Indices, high: Indices) -> Words:
        """The leaves that some cell from `low` to `high` [M] allows, but for other inputs: [M, V * W].

        Sound because with thresholds the cells that allow a leaf are a run, so one that begins by `high` and ends from
        `low` on has a cell between them; and because two runs of the same length cover all cells.
        """
        if not self.runs:
            return self.up_to.take(high, axis=0) & self.since.take(low, axis=0)
        found = self.exact.take(low, axis=0)
        size = high - low + 1
        for level, run in enumerate(self.runs):
            mine = np.flatnonzero((size >> level) == 1)
            found[mine] = run[low[mine]] | run[high[mine] - (1 << level) + 1]
        return found


@dataclass(frozen=True, eq=False)
class LeafSets:
    """The sets of V terms, W words each, by the inputs that trees ask for; `leaf` [V, 8 * bytes] has the values in the
    order of the bits.
    """

    outputs: Indices
    cells: Cells
    width: int
    word_bytes: int
    leaf: Array
    sets: dict[int, _Sets]

    @classmethod
    def of(
        cls, trees: Sequence[Tree], cells: Cells, outputs: Sequence[int], leaf_dtype: np.dtype[np.floating]
    ) -> LeafSets | None:
        """Those of some outputs; None where they would be too large."""
        terms = [(tree, k) for tree in trees for k in outputs if tree.adds_to(k)]
        most = max((int((tree.feature < 0).sum()) for tree, _ in terms), default=1)
        dtype = np.dtype(next((kind for bits, kind in _TYPES if most <= bits), np.uint64))
        width = -(-most // (8 * dtype.itemsize))
        if most > _MOST_LEAVES or 3 * sum(cells.counts) * len(terms) * width * dtype.itemsize > _LARGEST:
            return None
        starts = np.cumsum([0, *cells.counts])
        exact = np.zeros((int(starts[-1]), len(terms), width), dtype)
        leaf = np.zeros((len(terms), 8 * dtype.itemsize * width), leaf_dtype)
        allowed: dict[int, tuple[Bools, Indices]] = {}
        for v, (tree, k) in enumerate(terms):
            if id(tree) not in allowed:
                allowed = {id(tree): _allowed(tree, cells, starts)}
            by_leaf, nodes = allowed[id(tree)]
            order = np.argsort(tree.value[nodes, k], kind="stable")
            exact[:, v] = _packed(by_leaf[order], width, dtype)
            leaf[v, : len(order)] = tree.value[nodes[order], k]
            leaf[v, len(order) :] = leaf[v, len(order) - 1]
        flat = exact.reshape(len(exact), -1)
        used = sorted({int(i) for tree, _ in terms for i in np.unique(tree.feature[tree.feature >= 0])})
        sets = {i: _sets(flat[starts[i] : starts[i + 1]], cells.in_order[i]) for i in used}
        return cls(np.array([k for _, k in terms], np.int64), cells, width, dtype.itemsize, leaf, sets)

    @property
    def words(self) -> int:
        """How much work a row or a box takes."""
        return max(1, len(self.leaf) * self.width)

    @property
    def bytes_per_row(self) -> int:
        """Memory that a row takes while it is looked up."""
        return 1 + len(self.leaf) * (self.leaf.itemsize + 8 + self.width * self.word_bytes)

    def values(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The leaves [V, n] of rows, given as one array [n] per input."""
        n = len(columns[0])
        found: Words | None = None
        for i, sets in self.sets.items():
            mine = sets.exact.take(self.cells.place(i, columns[i]), axis=0)
            found = mine if found is None else np.bitwise_and(found, mine, out=found)
        if found is None:
            return np.repeat(self.leaf[:, :1], n, axis=1)
        return self._least(found)

    def extremes(self, box: CellBox) -> tuple[Array, Array]:
        """The least and the largest leaf [V, M] of each term in boxes; sound as `Terms` says."""
        found: Words | None = None
        for i, sets in self.sets.items():
            mine = sets.over(box.low[:, i], box.high[:, i])
            if box.misses[:, i].any():
                mine[box.misses[:, i]] = 0
            if box.may_miss[:, i].any():
                mine[box.may_miss[:, i]] |= sets.exact[-1]
            found = mine if found is None else np.bitwise_and(found, mine, out=found)
        if found is None:
            constant = np.repeat(self.leaf[:, :1], len(box.low), axis=1)
            return constant, constant
        return self._least(found), self._largest(found)

    def _least(self, found: Words) -> Array:
        """The leaves [V, n] of the first bits of sets [n, V * W]."""
        return self._leaves(found, last=False)

    def _largest(self, found: Words) -> Array:
        """The leaves [V, n] of the last bits of sets [n, V * W]."""
        return self._leaves(found, last=True)

    def _leaves(self, found: Words, *, last: bool) -> Array:
        n, bits = len(found), 8 * found.dtype.itemsize
        start = np.arange(len(self.leaf)) * self.leaf.shape[1]
        if self.width > 1:
            words = found.reshape(n, -1, self.width)
            full = words != 0
            word = self.width - 1 - full[..., ::-1].argmax(axis=2) if last else full.argmax(axis=2)
            found = np.take_along_axis(words, word[..., None], axis=2)[..., 0]
            start = start + word * bits
        place = (_last_bit(found) if last else _first_bit(found)) + start
        return np.ascontiguousarray(self.leaf.take(place).T)


def _first_bit(words: Words) -> NDArray[np.uint8]:
    one = words.dtype.type(1)
    return np.bitwise_count(~words & (words - one))


def _last_bit(words: Words) -> NDArray[np.uint8]:
    shift, words = 1, words.copy()
    while shift < 8 * words.dtype.itemsize:
        words |= words >> words.dtype.type(shift)
        shift *= 2
    return np.bitwise_count(words) - np.uint8(1)


def _allowed(tree: Tree, cells: Cells, starts: Indices) -> tuple[Bools, Indices]:
    """Which cells of all inputs, one after the other, lead to each leaf [L, C], and the nodes [L] of the leaves."""
    nodes = np.concatenate(list(tree.levels()))
    allowed = {0: np.ones(int(starts[-1]), np.bool_)}
    for node in nodes.tolist():
        if tree.feature[node] < 0:
            continue
        i, mine = int(tree.feature[node]), allowed.pop(node)
        part = slice(int(starts[i]), int(starts[i + 1]))
        left = cells.goes_left(i, tree.condition(node), bool(tree.missing_left[node]))
        for child, side in ((int(tree.left[node]), left), (int(tree.right[node]), ~left)):
            allowed[child] = mine.copy()
            allowed[child][part] &= side
    leaves = np.array(sorted(allowed), np.int64)
    return np.stack([allowed[leaf] for leaf in leaves.tolist()]), leaves


def _packed(by_leaf: Bools, width: int, dtype: np.dtype[Any]) -> Words:
    """Sets [C, W] from which cells lead to each leaf [L, C]."""
    size = width * dtype.itemsize
    packed = np.packbits(by_leaf.T, axis=1, bitorder="little")
    padded = np.zeros((len(packed), size), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(dtype.newbyteorder("<")).astype(dtype)


def _sets(exact: Words, in_order: bool) -> _Sets:
    """Those of one input, from its sets by cell."""
    numbers = exact[:-1]
    up_to = np.bitwise_or.accumulate(numbers, axis=0)
    since = np.ascontiguousarray(np.bitwise_or.accumulate(numbers[::-1], axis=0)[::-1])
    runs = [np.ascontiguousarray(numbers)]
    while not in_order and 2 << (len(runs) - 1) <= len(numbers):
        half = 1 << (len(runs) - 1)
        runs.append(runs[-1][: len(numbers) - 2 * half + 1] | runs[-1][half : len(numbers) - half + 1])
    return _Sets(np.ascontiguousarray(exact), up_to, since, () if in_order else tuple(runs))
