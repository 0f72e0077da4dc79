"""Exact limits and counts of columns: the smallest and largest model input of a block of rows, its NULLs and NaNs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.features import column_inputs, find_column, infinity, integers, scaled

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Per column [d]: the smallest and largest number (inf and -inf where there is none), NULLs, NaNs."""

    lower: Floats
    upper: Floats
    null_count: Counts
    nan_count: Counts


def limits(rows: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> Limits:
    """The limits of what `skipml.features.model_inputs` gives for the rows, bit for bit; raises what that raises."""
    found = [_column_limits(find_column(rows, name), name) for name in columns]
    lower, upper, nulls, nans = zip(*found, strict=True) if found else ((),) * 4
    return Limits(
        np.array(lower, np.float64), np.array(upper, np.float64), np.array(nulls, np.int64), np.array(nans, np.int64)
    )


def _column_limits(column: pa.Array | pa.ChunkedArray, name: str) -> tuple[float, float, int, int]:
    """Lower, upper, NULLs, NaNs. Sound because every row goes through one of the two."""
    ends = _integer_limits(column)
    if ends is not None:
        return (*ends, column.null_count, 0)
    values, missing = column_inputs(column, name)
    values = values[~missing] if missing.any() else values
    n_inputs = len(values)
    if n_inputs and np.isnan(values.min()):  # the minimum is NaN where any value is
        values = values[~np.isnan(values)]
    lower, upper = (float(values.min()), float(values.max())) if len(values) else (np.inf, -np.inf)
    return lower, upper, len(column) - n_inputs, n_inputs - len(values)


def _integer_limits(column: pa.Array | pa.ChunkedArray) -> tuple[float, float] | None:
    """The model inputs of the smallest and the largest integer; None where rows have to be looked at one by one.

    Sound because `scaled` is monotone, so that no row's input lies outside, and an infinite date or timestamp (NULL, so
    not to be counted) is an integer that the two would enclose.
    """
    numbers = integers(column.drop_null() if column.null_count else column)
    if numbers is None or not len(numbers):
        return None
    lowest, highest = numbers.min(), numbers.max()
    infinite = infinity(column.type)
    if infinite is not None and (lowest <= -infinite or highest >= infinite):
        return None
    lower, upper = scaled(np.array([lowest, highest]), column.type).tolist()
    return lower, upper
