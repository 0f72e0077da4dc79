"""The interval and CROWN passes in the compiled library, for networks of usual size.

Sound as interval.py and crown.py are: the formulas and what they are prepared from are theirs, and no number goes
through more roundings (extension/src/interval.c, extension/src/crown.c).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.bounds import compiled
from skipml.bounds.compiled import Pointers
from skipml.bounds.crown import LinearBounds
from skipml.bounds.interval import IntervalPass, LinearStep
from skipml.bounds.stages import Stages

Floats = NDArray[np.float64]

_MOST_RELATIONS = 1 << 22
"""Multiply-accumulates per box from where on BLAS is faster."""


def passes(intervals: IntervalPass, stages: Stages) -> CompiledBounds | None:
    """The passes over a network, compiled; None where there is no library or the network is too large for it."""
    found = compiled.library()
    d = stages.linear[0].weight.shape[1]
    if found is None or sum(stage.weight.size for stage in stages.linear) * (d + 1) > _MOST_RELATIONS:
        return None
    return CompiledBounds(found, intervals, stages)


class CompiledBounds:
    """Bounds of functionals over boxes `lower`, `upper` [M, d]; threads may share it."""

    def __init__(self, found: ctypes.CDLL, intervals: IntervalPass, stages: Stages) -> None:
        self._library = found
        self._n_inputs = stages.linear[0].weight.shape[1]
        self._n_functionals = len(stages.linear[-1].bias)
        shape, numbers = _laid_out(intervals, stages)
        self._handle = found.skipml_bounder_open(shape.ctypes.data, numbers.ctypes.data)
        if not self._handle:
            raise MemoryError("no memory to bound a network")
        weakref.finalize(self, found.skipml_bounder_close, self._handle)

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """As Verifier.interval."""
        lower, upper = self._boxes(lower, upper)
        low, high = np.empty((2, len(lower), self._n_functionals))
        self._call(self._library.skipml_interval, lower, upper, low.ctypes.data, high.ctypes.data)
        return low, high

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """As Verifier.crown."""
        lower, upper = self._boxes(lower, upper)
        m, (n, d) = self._n_functionals, lower.shape
        low, high, linear_low, linear_high = np.empty((4, n, m))
        slope_low, slope_high = np.empty((2, n, m, d))
        results = (low, high, linear_low, linear_high, slope_low, slope_high)
        out = Pointers(*(array.ctypes.data for array in results))
        self._call(self._library.skipml_crown, lower, upper, ctypes.byref(out))
        return LinearBounds(low, high, slope_low, slope_high, linear_low, linear_high)

    def _boxes(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The boxes as the library reads them."""
        if lower.shape != upper.shape or lower.shape[1:] != (self._n_inputs,):
            raise ValueError(f"boxes of shapes {lower.shape} and {upper.shape} do not fit {self._n_inputs} inputs")
        return np.ascontiguousarray(lower, np.float64), np.ascontiguousarray(upper, np.float64)

    def _call(self, function: Any, lower: Floats, upper: Floats, *out: Any) -> None:
        if not function(self._handle, lower.ctypes.data, upper.ctypes.data, len(lower), *out):
            raise MemoryError(f"no memory to bound {len(lower):,} boxes")


def _laid_out(intervals: IntervalPass, stages: Stages) -> tuple[NDArray[np.int64], Floats]:
    """What `skipml_bounder_open` reads: sizes and kinds, and all numbers in the order in which they are read."""
    d, m = stages.linear[0].weight.shape[1], len(stages.linear[-1].bias)
    shape: list[int] = [intervals.is_float32, d, m, len(intervals.steps), len(stages.linear)]
    numbers: list[Sequence[float] | Floats] = [[intervals.limit]]
    for step in intervals.steps:
        if isinstance(step, LinearStep):
            is_diagonal = step.weight.ndim == 1
            shape += [int(is_diagonal), len(step.weight), len(step.bias)]
            numbers += [step.weight.ravel(), step.bias, step.constant]
            numbers += [[step.relative, step.rounding, step.growth, step.offset]]
        else:
            shape += [2]
            numbers += [[step, *intervals.activation_errors(step)]]
    for stage in stages.linear:
        shape += [stage.weight.shape[1], stage.weight.shape[0]]
        numbers += [stage.weight.T.ravel(), stage.bias, stage.weight.ravel(), stage.bias]
    numbers += [stages.slopes]
    return np.array(shape, np.int64), np.concatenate([np.asarray(part, np.float64) for part in numbers])
