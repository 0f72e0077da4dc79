"""What enrichment stores of one block of rows: limits and counts per column, payloads of hulls and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.features import model_inputs
from skipml.limits import Limits, limits
from skipml.metadata import boxes as boxes_of
from skipml.metadata import hulls

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

BOX_BITS = 8
"""Of the corners of boxes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to store of each block: hulls of pairs of columns, of `hull_bytes` each, and `boxes` over all columns."""

    columns: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    hull_bytes: int
    boxes: int

    def shaped_columns(self) -> tuple[str, ...]:
        """The columns that hulls or boxes are of; limits need no others."""
        return tuple(name for name in self.columns if self.boxes or any(name in pair for pair in self.pairs))


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What one block holds: limits of its columns, payloads per pair, payload of the boxes."""

    n_rows: int
    limits: Limits
    hulls: tuple[NDArray[np.uint8], ...]
    boxes: NDArray[np.uint8]


def summarise(rows: pa.Table, wanted: Wanted) -> Summary:
    """The summary of a block's rows; raises SchemaError for a column that is no model input."""
    found = limits(rows, wanted.columns)
    shaped = wanted.shaped_columns()
    values, null = model_inputs(rows, shaped)
    number: Bools = ~(null | np.isnan(values))
    of = [wanted.columns.index(name) for name in shaped]
    lower, upper = found.lower[of], found.upper[of]
    clean = bool(number.all() and np.isfinite(lower).all() and np.isfinite(upper).all())
    return Summary(
        n_rows=rows.num_rows,
        limits=found,
        hulls=tuple(
            _hull(values, number, (lower, upper), [shaped.index(a), shaped.index(b)], wanted.hull_bytes)
            for a, b in wanted.pairs
        ),
        boxes=_boxes(values, (lower, upper), clean, wanted.boxes),
    )


def _hull(
    values: Floats, number: Bools, limits: tuple[Floats, Floats], pair: list[int], size: int
) -> NDArray[np.uint8]:
    """The hull of the rows that have both numbers; the box where one is infinite or there is none."""
    lower, upper = (side[pair] for side in limits)
    mine = np.logical_and(number[:, pair[0]], number[:, pair[1]])
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and mine.any()):
        return np.zeros(size, np.uint8)
    points = values[:, pair] if mine.all() else values[mine][:, pair]
    return hulls.build(points, lower, upper, size)


def _boxes(values: Floats, limits: tuple[Floats, Floats], clean: bool, count: int) -> NDArray[np.uint8]:
    """Boxes around all rows; the whole box where some row lacks a number, as it may be asked for by its others."""
    if not count:
        return np.zeros(0, np.uint8)
    if clean:
        return boxes_of.build(values, *limits, count, BOX_BITS)
    zero, one = np.zeros(values.shape[1]), np.ones(values.shape[1])
    return np.tile(boxes_of.build(np.stack([zero, one]), zero, one, 1, BOX_BITS), count)
