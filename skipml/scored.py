"""What a model makes of a block of rows, for enrichment to store: score maps and the classes that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.bounder import Bounder
from skipml.bounds.choice import bounder
from skipml.enclosing import LARGEST, largest
from skipml.function import Function
from skipml.heads import Head
from skipml.metadata import scoremaps
from skipml.metadata.refine import slack

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Payload = NDArray[np.uint8]


READS_MORE = (
    "scores of a pipeline that reads text, or gives NULL a value, are not stored: leave the model out and enrich the "
    "columns that are numbers"
)


@dataclass(frozen=True)
class Scorer:
    """A model over columns of a file, whose types in DuckDB are `sql_types`."""

    function: Function
    columns: tuple[str, ...]
    sql_types: tuple[str, ...]

    @property
    def n_labels(self) -> int:
        """How many classes there are, 0 for a model of one output."""
        return self.function.n_outputs if self.function.n_outputs > 1 else 0

    @cached_property
    def verifier(self) -> Bounder:
        """Bounds of the outputs."""
        return bounder(self.function)

    def has_score(self, rows: Floats, null: Bools) -> Bools:
        """Which rows [n] with inputs [n, d], NULL where `null` [n, d], have a score that is stored."""
        if isinstance(self.function, Head):
            return np.asarray(~null[:, 0] & (largest(rows) <= LARGEST), np.bool_)
        lacking = null if self.function.takes_nan else null | np.isnan(rows)
        return np.asarray(~lacking.any(axis=1), np.bool_)

    def scored(self, rows: Floats, size: int) -> Scored:
        """The maps of the outputs, with `size` bytes of cells each, and of the classes, for rows [n, d] of numbers.

        Sound because another evaluation, of inputs that an engine may round in another way, is within the margin.
        """
        outputs = self.function.forward(rows).astype(np.float64)
        margin = self._margin(rows)
        maps = [scoremaps.build(outputs[:, k], float(margin[k]), size) for k in range(outputs.shape[1])]
        return Scored(
            lower=tuple(low for low, _, _ in maps),
            upper=tuple(high for _, high, _ in maps),
            cells=tuple(cells for _, _, cells in maps),
            labels=scoremaps.build_labels(outputs, margin) if self.n_labels else np.zeros(0, np.uint8),
        )

    def _margin(self, rows: Floats) -> Floats:
        """How far each output may be off [m]."""
        if not len(rows):
            return np.zeros(self.function.n_outputs)
        if isinstance(self.function, Head):
            return self.verifier.apart(rows, np.zeros(1))
        ends = np.fmin.reduce(rows), np.fmax.reduce(rows)  # a column of nothing but NaN has none
        lower, upper = (np.where(np.isnan(side), 0.0, side) for side in ends)
        room = np.array([_slack(*side) for side in zip(self.sql_types, lower, upper, strict=True)])
        return self.verifier.apart(rows, room)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Limits and cells per output of a model, and the bitmap of its classes."""

    lower: Sequence[float]
    upper: Sequence[float]
    cells: Sequence[Payload]
    labels: Payload


def _slack(sql_type: str, lower: float, upper: float) -> float:
    return float(slack(sql_type, np.array([lower]), np.array([upper]))[0])
