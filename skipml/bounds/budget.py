"""How much work verification may do: never more than it can be worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

_FIRST_WAVE = 32
_LARGEST_WAVE = 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one run of branch and bound.

    `cost_per_row`: seconds that scoring one row costs. `share`: how much of the cost of scoring all blocks may be spent
    without success. `gain_share`: how much of the cost already saved by blocks proved SKIP may be spent on top. `free`:
    seconds that are always granted, below what any query takes. `boxes_per_block`: splits stop there. `prove_keep`:
    whether KEEP is worth any work; if not, a block is finished as soon as a point of it passes.
    """

    cost_per_row: float
    boxes_per_block: int = 256
    share: float = 0.02
    gain_share: float = 0.5
    free: float = 1e-3
    prove_keep: bool = False

    @classmethod
    def unlimited(cls, boxes_per_block: int = 100_000, prove_keep: bool = False) -> Budget:
        """No limit on time, for studies."""
        return cls(cost_per_row=math.inf, boxes_per_block=boxes_per_block, prove_keep=prove_keep)


class Meter:
    """Watches the clock of one run over blocks of `n_rows` [N] rows."""

    def __init__(self, budget: Budget, n_rows: NDArray[np.int64]) -> None:
        self._budget = budget
        self._granted = budget.free + budget.share * budget.cost_per_row * max(1, int(n_rows.sum()))
        self._start = perf_counter()
        self._boxes = 0
        self._wave = _FIRST_WAVE

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    def saved(self, rows: int) -> None:
        """Blocks of that many rows were proved SKIP."""
        if rows:
            self._granted += self._budget.gain_share * self._budget.cost_per_row * rows

    def bounded(self, boxes: int) -> None:
        """That many boxes were bounded."""
        self._boxes += boxes

    def next_wave(self) -> int:
        """How many boxes the next wave may have; 0 when the budget is used up.

        Waves grow from small ones, so that the cost of a box is known before much is spent, and shrink towards the end,
        so that what is left goes into depth rather than into one split of everything.
        """
        spent = self.seconds
        left = self._granted - spent
        if left <= 0:
            return 0
        affordable = left / spent * self._boxes if self._boxes and spent > 0 else self._wave
        wave = int(min(self._wave, max(affordable / 4, _FIRST_WAVE)))
        self._wave = min(2 * self._wave, _LARGEST_WAVE)
        return wave
