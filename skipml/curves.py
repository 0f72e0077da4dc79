"""Keys that put rows near each other in several columns near each other in one order: Z-order and k-d tree.

Both work on ranks instead of values: each column is mapped to equal shares of a sample of the table, so that skew does
not ruin them. NULL comes before every number and NaN behind, each with a place of its own.

Sources: Morton, "A computer oriented geodetic data base" (1966), for the Z-order; Orenstein and Merrett, "A class of
data structures for associative searching" (PODS 1984), for its use in databases; Bentley, "Multidimensional binary
search trees used for associative searching" (CACM 1975), for the k-d tree; Leutenegger, Lopez and Edgington, "STR: a
simple and efficient algorithm for R-tree packing" (ICDE 1997), for runs along a last column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]

KEY_BITS = 64
_COLUMN_BITS = 16
_CELL_BITS = 24
_SAMPLE_PER_CELL = 16
"""A cell of fewer sampled rows says nothing about the table."""


class Curve(Protocol):
    """An order of rows."""

    def keys(self, values: Floats, null: Bools) -> Codes:
        """The key of each row [n], for float64 values and NULL flags [n, d]: in the order of their keys rows are
        clustered.
        """


@dataclass(frozen=True, slots=True)
class Ranks:
    """The distribution of one column in a sample."""

    numbers: Floats
    """Distinct numbers, ascending, infinities among them, and NaN behind them [k + 1]."""
    below: Ints
    """How many sampled numbers are smaller than each, and how many there are [k + 1]."""
    table: Codes
    """The code of each gap before, between and behind the numbers (even places) and of each number (odd) [2 k + 1]."""
    null_code: np.uint64
    nan_code: np.uint64

    @classmethod
    def of(cls, values: Floats, null: Bools, bits: int) -> Ranks:
        """The ranks of a sample, float64 [n] and whether each is NULL, bool [n], as codes of that many bits."""
        present = values[~null]
        is_nan = np.isnan(present)
        numbers, counts = np.unique(present[~is_nan], return_counts=True)
        step = 1 + len(numbers) // 2**_COLUMN_BITS
        first = (np.cumsum(counts) - counts)[::step]
        below = np.append(first, counts.sum()).astype(np.int64)
        rank = np.empty(2 * len(first) + 1)
        rank[0::2], rank[1::2] = below, first + counts[::step] / 2
        n, n_null, n_nan = max(1, len(values)), int(null.sum()), int(is_nan.sum())
        own = 1 if bits > 1 else 0  # with one bit NULL and NaN share a code with numbers
        last = 2**bits - 1
        return cls(
            np.append(numbers[::step], np.nan),
            below,
            _code((n_null + rank) / n, bits, own, last - own),
            _code(np.array([n_null / 2 / n]), bits, 0, last)[0],
            _code(np.array([1 - n_nan / 2 / n]), bits, 0, last)[0],
        )

    def share(self, lower: Floats, upper: Floats) -> Floats:
        """The share of the sampled numbers in each [lower, upper]; 0 where the sample has no number."""
        start = self.below[np.searchsorted(self.numbers, lower, side="left")]
        stop = self.below[np.searchsorted(self.numbers, upper, side="right")]
        return np.asarray(np.maximum(stop - start, 0) / max(1, int(self.below[-1])), dtype=np.float64)

    def codes(self, values: Floats, null: Bools) -> Codes:
        """The place of each value [n] among equal shares of the sample, never descending with the value; a frequent one
        is in the middle of its own rows.
        """
        left = np.searchsorted(self.numbers, values, side="left")
        hit = self.numbers[left] == values
        codes: Codes = self.table[2 * left + hit]
        codes[np.isnan(values)] = self.nan_code
        codes[null] = self.null_code
        return codes


def _code(rank: Floats, bits: int, least: int, most: int) -> Codes:
    codes: Codes = np.clip(np.floor(rank * 2**bits), least, most).astype(np.uint64)
    return codes


@dataclass(frozen=True, slots=True)
class RankSpace:
    """d columns as codes of equal width."""

    columns: tuple[Ranks, ...]
    bits: int
    """Bits a column: all columns together fit a key."""

    @classmethod
    def of(cls, values: Floats, null: Bools) -> RankSpace:
        """The ranks of a sample: float64 [n, d] and whether each is NULL, bool [n, d], with d of 1 to 64."""
        bits = min(_COLUMN_BITS, KEY_BITS // values.shape[1])
        return cls(tuple(Ranks.of(values[:, i], null[:, i], bits) for i in range(values.shape[1])), bits)

    def codes(self, values: Floats, null: Bools) -> Codes:
        """The codes [n, d] of rows."""
        return np.stack([ranks.codes(values[:, i], null[:, i]) for i, ranks in enumerate(self.columns)], axis=1)


def interleave(codes: Codes, bits: int) -> Codes:
    """The bits of each row's codes [n, d] in turn, the highest first and the first column's before the others': [n]."""
    key = np.zeros(len(codes), dtype=np.uint64)
    one = np.uint64(1)
    for bit in reversed(range(bits)):
        for column in codes.T:
            key = key << one | column >> np.uint64(bit) & one
    return key


@dataclass(frozen=True, slots=True)
class ZOrder:
    """The Z-order curve through rank space."""

    space: RankSpace

    def keys(self, values: Floats, null: Bools) -> Codes:
        """The interleaved codes of each row."""
        return interleave(self.space.codes(values, null), self.space.bits)


@dataclass(slots=True)
class _Tree:
    """Nodes as they are made; a leaf leads to itself."""

    axis: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    children: list[tuple[int, int]] = field(default_factory=list)
    """Where rows above the cut and at or below it go on."""
    cell: list[int] = field(default_factory=list)
    n_cells: int = 0

    def grow(self, codes: Ints, cells: int, backwards: bool = False) -> tuple[int, int]:
        """Add the tree over sampled codes [n, d] with about that many cells; returns its root and depth.

        The second half of a split is walked backwards, so that the cells on both sides of the cut differ in the split
        column only (a reflected Gray code).
        """
        node = len(self.axis)
        self.axis.append(0)
        self.cut.append(0)
        self.children.append((node, node))
        self.cell.append(self.n_cells)
        split = _split(codes, cells)
        if split is None:
            self.n_cells += 1
            return node, 0
        self.axis[node], self.cut[node] = split
        is_low = codes[:, split[0]] <= split[1]
        n_low = min(max(round(cells * float(is_low.mean())), 1), cells - 1)
        halves = [(codes[~is_low], cells - n_low), (codes[is_low], n_low)]
        first_is_low = not backwards
        first, depth = self.grow(*halves[first_is_low], backwards=False)
        second, other_depth = self.grow(*halves[not first_is_low], backwards=True)
        self.children[node] = (second, first) if first_is_low else (first, second)
        return node, 1 + max(depth, other_depth)


def _split(codes: Ints, cells: int) -> tuple[int, int] | None:
    """The column with the widest spread and the cut (codes up to it are low) nearest to where half of the cells end;
    None where nothing can or should be split.
    """
    if cells < 2 or not codes.size:
        return None
    spread = codes.max(axis=0) - codes.min(axis=0)
    axis = int(spread.argmax())
    if not spread[axis]:
        return None
    column = np.sort(codes[:, axis])
    target = len(column) * (cells // 2) / cells
    middle = column[min(int(target), len(column) - 1)]
    below = int(np.searchsorted(column, middle, side="left"))
    upto = int(np.searchsorted(column, middle, side="right"))
    use_below = below > 0 and (upto == len(column) or target - below <= upto - target)
    return axis, int(column[below - 1] if use_below else middle)


@dataclass(frozen=True, slots=True)
class KdTree:
    """The cells of a k-d tree over all columns but one, and within a cell rows in the order of that column, up and down
    in turn.

    Row groups of a fixed number of rows never match the leaves of a tree that was made from a sample, and one that
    reaches into a second leaf is twice as wide. So the tree stops at cells of N**(1/d) row groups, of which only the
    one at the end is shared.
    """

    space: RankSpace
    run: int
    """The column that orders the rows within a cell."""
    axis: Ints
    cut: Codes
    children: Ints
    cell: Codes
    depth: int

    @classmethod
    def of(cls, space: RankSpace, values: Floats, null: Bools, row_groups: int) -> KdTree:
        """Split a sample, float64 and NULL flags [n, d], for a table of that many row groups."""
        codes = space.codes(values, null).astype(np.int64)
        d = codes.shape[1]
        run = int(np.argmax([len(ranks.numbers) for ranks in space.columns]))
        cells = round(row_groups ** ((d - 1) / d))
        tree = _Tree()
        others = codes.copy()
        others[:, run] = 0
        _, depth = tree.grow(others, min(cells, max(1, len(codes) // _SAMPLE_PER_CELL), 2**_CELL_BITS))
        return cls(
            space,
            run,
            np.array(tree.axis, dtype=np.int64),
            np.array(tree.cut, dtype=np.uint64),
            np.array(tree.children, dtype=np.int64),
            np.array(tree.cell, dtype=np.uint64),
            depth,
        )

    def cells(self, codes: Codes) -> Codes:
        """The number of the cell that holds each row [n] of codes [n, d]."""
        rows = np.arange(len(codes))
        node = np.zeros(len(codes), dtype=np.int64)
        for _ in range(self.depth):
            is_low = codes[rows, self.axis[node]] <= self.cut[node]
            node = self.children[node, is_low.astype(np.int64)]
        return self.cell[node]

    def keys(self, values: Floats, null: Bools) -> Codes:
        """The cell, the code of the run's column, and the upper bits of the Z-order."""
        codes = self.space.codes(values, null)
        cell = self.cells(codes)
        place = codes[:, self.run]
        place = np.where(cell % np.uint64(2) == 1, np.uint64(2**self.space.bits - 1) - place, place)
        left = KEY_BITS - _CELL_BITS - self.space.bits
        surplus = max(0, self.space.bits * codes.shape[1] - left)
        within = interleave(codes, self.space.bits) >> np.uint64(surplus)
        return (cell << np.uint64(self.space.bits) | place) << np.uint64(left) | within
