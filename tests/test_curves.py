from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipml.curves import Curve, KdTree, RankSpace, ZOrder, interleave

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308]),
)


def _interleaved_slowly(codes: list[int], bits: int) -> int:
    text = "".join(format(code, f"0{bits}b")[place] for place in range(bits) for code in codes)
    return int(text, 2)


@given(st.integers(1, 16), st.data())
def test_interleaved_bits_against_text(n_columns: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(1, 64 // n_columns))
    code = st.integers(0, 2**bits - 1)
    rows = data.draw(st.lists(st.lists(code, min_size=n_columns, max_size=n_columns), min_size=1, max_size=5))
    keys = interleave(np.array(rows, dtype=np.uint64), bits)
    assert keys.tolist() == [_interleaved_slowly(row, bits) for row in rows]


@given(st.lists(st.one_of(st.none(), NUMBERS), max_size=60), st.lists(NUMBERS, min_size=1), st.integers(1, 32))
def test_codes_keep_the_order_and_null_and_nan_have_their_own(
    sample: list[float | None], values: list[float], n_columns: int
) -> None:
    null = np.array([[value is None] * n_columns for value in sample], dtype=bool).reshape(-1, n_columns)
    numbers = np.array([[value or 0.0] * n_columns for value in sample]).reshape(-1, n_columns)
    space = RankSpace.of(numbers, null)
    rows = np.array([*values, *(v for v in sample if v is not None)])
    wide = np.repeat(rows[:, None], n_columns, axis=1)
    codes = space.codes(wide, np.zeros(wide.shape, dtype=bool))[:, -1]
    null_code = space.codes(np.zeros((1, n_columns)), np.ones((1, n_columns), dtype=bool))[0, -1]
    nan = np.isnan(rows)
    assert (codes < 2**space.bits).all()
    assert (np.diff(codes[~nan][np.argsort(rows[~nan])].astype(np.int64)) >= 0).all()
    assert (codes[~nan] > null_code).all()
    assert len(set(codes[nan].tolist())) <= 1
    if nan.any() and not nan.all():
        assert codes[nan].min() > codes[~nan].max()


@pytest.mark.parametrize("n_columns", [1, 2, 3, 5, 40, 64])
@pytest.mark.parametrize("method", ["zorder", "kdtree"])
def test_equal_rows_have_equal_keys_whatever_the_batch(method: str, n_columns: int) -> None:
    rng = np.random.default_rng(n_columns)
    values = rng.integers(0, 3, (500, n_columns)).astype(float)
    null = rng.random(values.shape) < 0.1
    curve = _curve(method, values, null, 40)
    keys = curve.keys(values, null)
    assert keys.dtype == np.uint64
    assert np.array_equal(
        np.concatenate([curve.keys(values[i : i + 7], null[i : i + 7]) for i in range(0, 500, 7)]), keys
    )
    assert len(curve.keys(values[:0], null[:0])) == 0


def test_an_empty_sample_orders_nothing() -> None:
    none = np.zeros((0, 2))
    for method in ("zorder", "kdtree"):
        curve = _curve(method, none, none.astype(bool), 0)
        assert len(curve.keys(np.array([[1.0, np.nan]]), np.array([[False, False]]))) == 1


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("n_columns", [1, 2, 3])
@pytest.mark.parametrize("method", ["zorder", "kdtree"])
def test_row_groups_are_nearly_as_small_as_boxes_can_be(method: str, n_columns: int, skewed: bool) -> None:
    """N cubes that share the unit cube have sides of N**(-1/d)."""
    rng = np.random.default_rng(n_columns)
    ranks = rng.permuted(np.tile(np.arange(64_000) / 64_000, (n_columns, 1)), axis=1).T
    values = np.exp(30 * ranks) if skewed else ranks
    null = np.zeros(values.shape, dtype=bool)
    sample = rng.choice(len(values), 20_000, replace=False)
    curve = _curve(method, values[sample], null[sample], 64)
    order = np.argsort(curve.keys(values, null), kind="stable")
    groups = ranks[order].reshape(64, 1000, n_columns)
    width = (groups.max(axis=1) - groups.min(axis=1)).mean()
    ideal = 64 ** (-1 / n_columns)
    assert ideal * 0.95 < width < ideal * (1.35 if method == "kdtree" else 1.8)


def test_cells_of_a_tree_are_boxes_that_hold_equally_many_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 3))
    null = np.zeros(values.shape, dtype=bool)
    space = RankSpace.of(values, null)
    tree = KdTree.of(space, values, null, 27 * 8)
    cells = tree.cells(space.codes(values, null)).astype(np.int64)
    counts = np.bincount(cells)
    assert len(counts) == 36
    assert counts.min() > 0.9 * counts.mean()
    split = [i for i in range(3) if i != tree.run]
    boxes = [(values[cells == c][:, split].min(axis=0), values[cells == c][:, split].max(axis=0)) for c in range(36)]
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert ((high < other_low) | (other_high < low)).any(), "two cells overlap"


def _curve(method: str, values: np.ndarray, null: np.ndarray, row_groups: int) -> Curve:
    space = RankSpace.of(values, null)
    return ZOrder(space) if method == "zorder" else KdTree.of(space, values, null, row_groups)


def test_a_cut_keeps_equal_values_together() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, 2, 5000), rng.random(5000)], axis=1).astype(float)
    null = np.zeros(values.shape, dtype=bool)
    space = RankSpace.of(values, null)
    tree = KdTree.of(space, values, null, 100)
    cells = tree.cells(space.codes(values, null))
    assert [np.unique(values[cells == cell, 0]).tolist() for cell in np.unique(cells)] == [[0.0], [1.0]]
