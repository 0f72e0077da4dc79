"""Tests of where a row lies in the files that DuckDB is given, as SQL over `file_row_number` and `file_index`.

Few runs of rows become nested CASEs over their borders, 3 to 7 ns per row and thread; many become bits, one for each
power of two of rows, 9 to 13 ns, and 14 to 30 over several files. A network of 4-32-32-1 takes 40 ns natively.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.outcome import EVALUATE
from skipml.engines.dialect import quote_name
from skipml.footers import Footers

COLUMNS = ("file_row_number", "file_index")
"""The virtual columns that say where a row lies."""
_MAX_TREE = 16
_MAX_BITS = 1 << 16
_TREE_COST, _BITS_COST, _FILES_COST = 6e-9, 12e-9, 25e-9

Served = Sequence[tuple[int, NDArray[np.int64] | None]]
"""The files that DuckDB is given: the number of each, and its row groups or None for all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Runs of rows of the served files, in their order: the file of each by its place among those served, its first row
    there, its rows, and its decision.
    """

    file: NDArray[np.int64]
    start: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    decision: NDArray[np.int8]

    @classmethod
    def of(cls, blocks: Footers, decision: NDArray[np.int8], served: Served) -> Places:
        """The places of blocks, each with its decision, in the files served."""
        parts = []
        for place, (number, groups) in enumerate(served):
            mine = np.flatnonzero((blocks.file_index == number) & (blocks.n_rows > 0))
            if groups is not None:
                mine = mine[np.isin(blocks.row_group[mine], groups)]
            n_rows = blocks.n_rows[mine]
            parts.append((np.full(len(mine), place), np.cumsum(n_rows) - n_rows, n_rows, decision[mine]))
        file, start, n_rows, decided = (np.concatenate(part) for part in zip(*parts, strict=True))
        first = np.flatnonzero((np.diff(file, prepend=-1) != 0) | (np.diff(decided, prepend=-1) != 0))
        return cls(file[first], start[first], np.add.reduceat(n_rows, first) if len(first) else n_rows, decided[first])

    def rows(self, decision: int) -> int:
        """How many rows have a decision."""
        return int(self.n_rows[self.decision == decision].sum())

    @property
    def are_alike(self) -> bool:
        """Whether all rows have one decision."""
        return len(np.unique(self.decision)) < 2

    @property
    def cost(self) -> float:
        """Seconds that a test takes per row and thread; nothing where it is the same for all rows."""
        if self.are_alike:
            return 0.0
        if len(self.start) <= _MAX_TREE:
            return _TREE_COST
        return _FILES_COST if self.file[-1] > 0 else _BITS_COST

    def test(self, chosen: Callable[[NDArray[np.int8]], NDArray[np.bool_]], alias: str) -> str:
        """SQL that is TRUE for rows of chosen decisions, never NULL, and FALSE for the others. Bits may give EVALUATE
        to rows beside a border; EVALUATE is no proof.
        """
        if self.are_alike:
            return "TRUE" if chosen(self.decision).any() else "FALSE"
        row, file = (f"{quote_name(alias)}.{column}" for column in COLUMNS)
        if len(self.start) <= _MAX_TREE:
            return self._tree(0, len(self.start), chosen(self.decision), row, file)
        units, shift, stride = self._units()
        bits = "".join(np.where(chosen(units), "1", "0").tolist())
        of_file = [f"CAST({file} AS INTEGER) * {stride}"] if self.file[-1] > 0 else []
        in_file = [f"CAST({row} >> {shift} AS INTEGER)"] if stride > 1 else []
        return f"get_bit('{bits}'::BIT, {' + '.join(of_file + in_file)}) = 1"

    def _tree(self, low: int, high: int, chosen: NDArray[np.bool_], row: str, file: str) -> str:
        """The test for the runs from `low` to `high`, which are those that come into question."""
        if (chosen[low:high] == chosen[low]).all():
            return "TRUE" if chosen[low] else "FALSE"
        borders = np.arange(low + 1, high)
        if self.file[low] != self.file[high - 1]:
            borders = borders[np.diff(self.file[low:high]) != 0]
            middle = int(borders[len(borders) // 2])
            before = f"{file} < {self.file[middle]}"
        else:
            middle = int(borders[len(borders) // 2])
            before = f"{row} < {self.start[middle]}"
        first, second = (self._tree(a, b, chosen, row, file) for a, b in ((low, middle), (middle, high)))
        return f"CASE WHEN {before} THEN {first} ELSE {second} END"

    def _units(self) -> tuple[NDArray[np.int8], int, int]:
        """Decisions of runs of 2^shift rows, `stride` of them for each file.

        Sound because one with a border inside is EVALUATE.
        """
        n_files = int(self.file[-1]) + 1
        longest = int((self.start + self.n_rows).max())
        exact = int(np.gcd.reduce(self.start))
        shift = (exact & -exact).bit_length() - 1 if exact else longest.bit_length()
        while n_files * (stride := -(-longest >> shift)) > _MAX_BITS:
            shift += 1
        # from the first unit that begins in a run to behind the last one that ends in it, or in the file
        is_last = np.diff(self.file, append=-1) != 0
        begin = -(-self.start >> shift)
        length = np.maximum(np.where(is_last, stride, (self.start + self.n_rows) >> shift) - begin, 0)
        before = np.cumsum(length) - length
        units = np.full(n_files * stride, EVALUATE, np.int8)
        inside = np.repeat(self.file * stride + begin - before, length) + np.arange(length.sum())
        units[inside] = np.repeat(self.decision, length)
        return units, shift, stride
