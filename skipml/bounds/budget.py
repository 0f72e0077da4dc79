"""How much work verification may do: never more than it can be worth.

The cost of a box is an estimate from the size of the network, as the cost of a row is: both scale with the machine and
its load, and decisions do not depend on the clock. The clock only stops a run that goes far beyond its estimate. Where
there is a ledger the estimate is corrected by what earlier runs took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.memory import Memory

_LARGEST_WAVE = 1024
_SMALLEST_WAVE = 128
_FIRST, _DEEP = 0.5, 0.25
_SECONDS_PER_WAVE = 1e-3
"""What a wave costs however few its boxes are."""
_FREE_WAVES = 2
_LATE = 8.0
"""How many times its estimate a run may take before the clock stops it."""
_GRACE = 1.0
"""Seconds in which the clock stops nothing: the first run of a process maps memory and loads code."""


@dataclass(slots=True)
class Ledger:
    """What the runs for one query were granted, and what they took, in seconds.

    `pace` is how many times its estimate verification takes here.
    """

    pace: float = 1.0
    granted: float = 0.0
    estimated: float = 0.0
    """What the work done takes at pace 1."""
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one run of branch and bound.

    `cost_per_row`: seconds that scoring one row costs. `share`: how much of the cost of scoring all blocks may be spent
    without success. `gain_share`: how much of the cost already saved by blocks proved SKIP may be spent on top.
    `free_boxes`: how many boxes are always granted, fewer than any query notices. `boxes_per_block`: splits stop there.
    `prove_keep`: whether KEEP is worth any work; if not, a block is finished as soon as a point of it passes.
    `memory`: what work was done before, and where that of this run is remembered. `ledger`: what verification is known
    to cost, and where runs are entered.
    """

    cost_per_row: float
    boxes_per_block: int = 256
    share: float = 0.03
    gain_share: float = 0.5
    free_boxes: int = 128
    prove_keep: bool = False
    memory: Memory | None = field(default=None, repr=False, compare=False)
    ledger: Ledger | None = field(default=None, repr=False, compare=False)

    @classmethod
    def unlimited(cls, boxes_per_block: int = 100_000, prove_keep: bool = False) -> Budget:
        """No limit on cost, for studies."""
        return cls(cost_per_row=math.inf, boxes_per_block=boxes_per_block, prove_keep=prove_keep)

    def part(self, share: float) -> Budget:
        """A part of it, for some of the levels on which the same rows are looked at."""
        return replace(self, share=self.share * share, free_boxes=math.ceil(self.free_boxes * share))


class Meter:
    """Counts the boxes of one run over blocks of `n_rows` [N] rows against what the budget grants."""

    def __init__(self, budget: Budget, n_rows: NDArray[np.int64], seconds_per_box: float) -> None:
        self._budget = budget
        pace = budget.ledger.pace if budget.ledger is not None else 1.0
        self._estimate = seconds_per_box
        self._seconds_per_box = seconds_per_box * pace
        rows = max(1, int(n_rows.sum()))
        self._boxes_per_wave = _SECONDS_PER_WAVE / seconds_per_box
        self._granted = max(budget.free_boxes, budget.share * budget.cost_per_row * rows / self._seconds_per_box)
        # a first look is free whatever it takes
        self._granted += (1 + (_FREE_WAVES - 1) / pace) * self._boxes_per_wave
        self._start = perf_counter()
        self._boxes = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start

    def saved(self, rows: int) -> None:
        """Blocks of that many rows were proved SKIP."""
        if rows:
            self._granted += self._budget.gain_share * self._budget.cost_per_row * rows / self._seconds_per_box

    def bounded(self, boxes: int) -> None:
        """That many boxes were bounded."""
        self._boxes += boxes

    def spent(self, seconds: float) -> None:
        """Work was done that costs about that many seconds beside the bounds of boxes."""
        self._boxes += seconds / self._estimate

    def stop(self) -> None:
        """Nothing more is worth any work, but for studies."""
        if math.isfinite(self._granted):
            self._granted = 0.0

    def close(self) -> None:
        """The run is at its end: enter it."""
        ledger = self._budget.ledger
        if ledger is not None:
            ledger.granted += max(self._granted, self._boxes) * self._seconds_per_box
            ledger.estimated += self._boxes * self._estimate
            ledger.spent += self.seconds

    def affordable(self, boxes: int) -> int:
        """How many blocks can be given that many boxes each, at least 1."""
        left = self._granted - self._boxes
        return max(1, int(min(left / boxes, _LARGEST_WAVE)))

    def next_wave(self, deep: bool) -> int:
        """How many boxes the next wave may have; 0 when the budget is used up.

        `deep` waves take a part of what is left, so that the rest goes into depth rather than into one split of
        everything; the first takes more.
        """
        left = self._granted - self._boxes - self._boxes_per_wave
        if left < 1 or self.seconds > _GRACE + _LATE * self._granted * self._seconds_per_box:
            return 0
        self._boxes += min(self._boxes_per_wave, self._granted)
        left = max(left * (_DEEP if deep else _FIRST), min(left, _SMALLEST_WAVE))
        return int(min(left, _LARGEST_WAVE))
