"""Boxes hold every row in all columns in which it has a number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.metadata import boxes
from skipml.summaries import Wanted, box_bits, summarise

NAMES = ("a", "b", "c")


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows with holes, some of them NaN, sometimes a column or a row without a number."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 60))
    values = rng.normal(size=(n, 3)) * draw(st.sampled_from([1.0, 1e-300, 1e300]))
    holes = rng.random((n, 3)) < draw(st.sampled_from([0.0, 0.1, 0.9]))
    values[rng.random((n, 3)) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    if draw(st.booleans()):
        holes[:, draw(st.integers(0, 2))] = True
    return pa.table({name: pa.array(values[:, i], mask=holes[:, i]) for i, name in enumerate(NAMES)})


@given(tables(), st.sampled_from([1, 3, 16, 40]))
@settings(max_examples=300)
def test_every_row_is_in_a_box_in_the_columns_it_has(table: pa.Table, count: int) -> None:
    found = summarise(table, Wanted(NAMES, boxes=count))
    limits = np.where(
        np.isfinite([found.limits.lower, found.limits.upper]), [found.limits.lower, found.limits.upper], 0
    )
    low, high, _ = boxes.decode(found.boxes[None], limits[0][None], limits[1][None], box_bits(count))
    values = np.stack([np.array(table.column(name).to_pylist(), np.float64) for name in NAMES], axis=1)
    whole_box = ~np.isfinite(found.limits.lower).all()
    for row in values:
        has = ~np.isnan(row)
        inside = ((low <= row) & (row <= high)) | ~has
        assert inside.all(axis=1).any() or whole_box


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_rows_with_holes_leave_boxes_small(share: float) -> None:
    """Two far clusters, some rows without one of their numbers: nothing between the clusters is in a box."""
    rng = np.random.default_rng(0)
    values = rng.random((400, 2)) + 100 * (np.arange(400) % 2)[:, None]
    holes = rng.random((400, 2)) < share
    table = pa.table({name: pa.array(values[:, i], mask=holes[:, i]) for i, name in enumerate("ab")})
    found = summarise(table, Wanted(("a", "b"), boxes=2))
    low, high, _ = boxes.decode(found.boxes[None], found.limits.lower[None], found.limits.upper[None], 8)
    assert len(low) == 2
    assert ((high - low) < 3).all()
