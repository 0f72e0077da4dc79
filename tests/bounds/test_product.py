"""Products in groups of rows are those of all rows."""

from __future__ import annotations

import numpy as np
import pytest

from skipml.bounds.product import product


@pytest.mark.parametrize("most", [1, 11, 12, 24, 30, 1 << 18])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_rows_are_multiplied_in_groups(n: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipml.bounds.product._SINGLE_THREADED", most)
    rng = np.random.default_rng(0)
    a, b, out = rng.normal(size=(n, 3)), rng.normal(size=(3, 4)), np.full((n, 4), np.nan)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12)
    assert product(a, b, out) is out
    np.testing.assert_allclose(out, a @ b, rtol=1e-12)
