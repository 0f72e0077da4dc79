"""Functionals of outputs are bounded by those of the margins that lose least."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.through import Through
from skipml.links import Kind, Link

Floats = NDArray[np.float64]
UNITS, DIFFERENCES = np.eye(3), np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
HALVES = np.array([[0.5, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("kind", "functionals", "signs", "way"),
    [
        ("identity", DIFFERENCES, True, "same"),
        ("logistic", UNITS, False, "each"),
        ("logistic", UNITS[1:2], True, "each"),
        ("logistic", HALVES, False, "all"),
        ("logistic", DIFFERENCES, True, "all"),
        ("softmax", UNITS[1:2], False, "softmax"),
        ("softmax", UNITS, False, "all"),
        ("softmax", HALVES, True, "all"),
        ("softmax", DIFFERENCES, True, "classes"),
        ("softmax", DIFFERENCES, False, "all"),
        ("softmax", 2 * DIFFERENCES, True, "all"),
    ],
)
def test_the_way_is_that_which_loses_least(kind: Kind, functionals: Floats, signs: bool, way: str) -> None:
    link = Link(kind)
    through = Through.of(link, functionals, signs=signs)
    assert through.way == way
    margins = np.random.default_rng(1).normal(size=(200, 3)) * 4
    inner = margins @ through.inner.T
    low, high = through.outputs(inner, inner)
    exact = np.asarray(link.apply(np.ascontiguousarray(margins.T))).T @ functionals.T
    if way == "classes":
        apart = np.abs(exact) > 1e-9
        assert (np.sign(exact)[apart] == np.sign(low)[apart]).all()
        return
    assert (low <= exact + 1e-15).all()
    assert (exact <= high + 1e-15).all()
    assert (high - low < 1e-9).all(), "at points next to nothing is lost"
