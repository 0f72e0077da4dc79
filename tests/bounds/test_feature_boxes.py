"""Boxes of features, and what linear forms in them can be at most, against every kind of row that a box holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.features import FeatureMap
from skipml.preparation import Feature

Floats = NDArray[np.float64]
FEATURES = (
    Feature(0, edges=np.array([0.0, 1.0]), values=np.array([3.0, -1.0, 2.0]), missing=7.0),
    Feature(1),
    Feature(0, edges=np.array([1.0]), values=np.array([0.0, 5.0]), missing=-2.0),
    Feature(2, edges=np.array([-1.0, 1.0]), values=np.array([1.0, np.nan, 4.0])),
)
ENDS = (-2.0, -1.0, 0.0, 0.5, 1.0, 3.0)


def boxes(*, with_missing: bool) -> tuple[Floats, Floats]:
    """Every box of the first input with ends among ENDS, of numbers, of what is missing, and of both."""
    pairs = [(low, high) for low, high in itertools.product(ENDS, ENDS) if low <= high]
    flags = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)] if with_missing else [(0.0, 0.0)]
    rows = [([a, -1.0, a, f, 0.0, 0.0], [b, 0.5, b, g, 0.0, 0.0]) for (a, b), (f, g) in itertools.product(pairs, flags)]
    lower, upper = np.array(rows).transpose(1, 0, 2)
    return (lower, upper) if with_missing else (lower[:, :3].copy(), upper[:, :3].copy())


def values_in(lower: Floats, upper: Floats, i: int) -> Floats:
    """The values of an input that tell its features apart, in one box [w], NaN for one that is missing."""
    marks = np.array([-1.0, 0.0, 1.0])
    numbers = np.array([lower[i], upper[i], *marks, *np.nextafter(marks, np.inf)])
    numbers = numbers[(numbers >= lower[i]) & (numbers <= upper[i])]
    if len(lower) == 3:
        return np.asarray(numbers, np.float64)
    may_be_number, may_miss = lower[3 + i] == 0, upper[3 + i] > 0
    return np.array([*numbers[: len(numbers) * may_be_number], *[np.nan][: int(may_miss)]], np.float64)


@pytest.mark.parametrize("with_missing", [False, True])
def test_boxes_and_forms_are_those_of_the_rows(with_missing: bool) -> None:
    rng = np.random.default_rng(0)
    found = FeatureMap(FEATURES, 3)
    lower, upper = boxes(with_missing=with_missing)
    at = found.box(lower, upper)
    form = rng.normal(size=(len(lower), 4, 4))
    less, moves = found.largest(form, at, lower, upper)
    corner = found.corner(form[:, 0], at, lower, upper)
    for m in range(len(lower)):
        boxed, best = np.zeros(4), np.zeros(4)
        for i, members in enumerate(([0, 2], [1], [3])):
            rows = np.stack([FEATURES[j].apply(values_in(lower[m], upper[m], i)) for j in members], axis=1)
            own = form[m][:, members]
            rows = rows[~np.isnan(rows).any(axis=1)]  # others have no score
            if not len(rows):
                break
            np.testing.assert_allclose(at.lower[m, members], rows.min(axis=0), atol=1e-9)
            np.testing.assert_allclose(at.upper[m, members], rows.max(axis=0), atol=1e-9)
            sums = own @ rows.T
            np.testing.assert_allclose(moves[m, :, i], sums.max(axis=1) - sums.min(axis=1), atol=1e-9)
            boxed += np.maximum(own * rows.min(axis=0), own * rows.max(axis=0)).sum(axis=1)
            best += sums.max(axis=1)
            np.testing.assert_allclose(corner[m, members] @ own[0], sums.max(axis=1)[0], atol=1e-9)
        else:
            np.testing.assert_allclose(less[m], best - boxed, atol=1e-9)


def test_forms_make_room_for_what_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the products of coefficients and values, whatever their signs."""
    features = (
        Feature(0, edges=np.array([0.0]), values=np.array([-8.0, 1.0])),
        Feature(0, edges=np.array([0.0]), values=np.array([2.0, -3.0])),
    )
    form = np.array([[[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]])
    found = []
    for share in (0.0, 0.01):
        monkeypatch.setattr("skipml.bounds.features._ROUNDING", share)
        known = FeatureMap(features, 1)
        lower, upper = np.array([[-1.0]]), np.array([[1.0]])
        found.append(known.largest(form, known.box(lower, upper), lower, upper)[0])
    np.testing.assert_allclose(found, [[[-5.0, 0.0, 0.0, -5.0]], [[-4.89, 0.0, 0.0, -4.89]]])


def test_divisions_are_where_features_differ() -> None:
    found = FeatureMap(FEATURES, 3)
    lower, upper = boxes(with_missing=True)
    divisible = found.divisible(lower, upper)
    for m in range(len(lower)):
        for i, members in ((0, [0, 2]), (2, [3])):
            numbers = values_in(lower[m][:3], upper[m][:3], i)
            cells = {
                tuple(np.nan_to_num(FEATURES[j].apply(np.array([x]))[0], nan=99.0) for j in members) for x in numbers
            }
            may_be_number = lower[m, 3 + i] == 0
            assert divisible[m, i] == (len(cells) > 1 and may_be_number)
        assert divisible[m, 1]
        assert divisible[m, 3] == (lower[m, 3] == 0 and upper[m, 3] > 0)
        assert not divisible[m, 4:].any()
    numbers_only = boxes(with_missing=False)
    assert found.divisible(*numbers_only).shape == numbers_only[0].shape
    assert found.middle_edge(1, *(side[:, 1] for side in numbers_only)) is None
    edges = found.middle_edge(0, np.array([-1.0, 0.5, -1.0]), np.array([3.0, 3.0, 0.5]))
    assert edges is not None
    assert edges.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("end", [0, 1])
def test_a_feature_with_an_end_that_is_no_number_is_unknown(end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = (np.array([np.nan]), np.array([1.0]))[:: 1 - 2 * end]
    monkeypatch.setattr(Feature, "bounds", lambda *_: ends)
    at = FeatureMap((Feature(0),), 1).box(np.zeros((1, 1)), np.ones((1, 1)))
    assert (at.lower[0, 0], at.upper[0, 0]) == (-np.inf, np.inf)
