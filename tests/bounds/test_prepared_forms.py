"""The linear forms of prepared networks bound every row of a box, not only the extremes of the box."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.prepared import PreparedVerifier
from skipml.links import Link
from skipml.pipelines import Pipeline
from skipml.prepared import Prepared
from tests.models.fitted_pipelines import fit

Floats = NDArray[np.float64]

_KINDS = (("ridge", 0), ("logistic", 1), ("softmax", 2), ("mlp", 5))
_WITH_SLOPES = (("logistic", 1), ("softmax", 2))
"""The others raise numbers to powers, or tell their numbers apart: no input of theirs has a slope."""
_BOXES, _ROWS = 24, 40


def prepared(kind: str, seed: int) -> Prepared:
    pipeline = fit(np.random.default_rng([seed, 77]), kind).model.function
    assert isinstance(pipeline, Pipeline)
    assert isinstance(pipeline.inner, Prepared)
    return pipeline.inner


def boxes(function: Prepared, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Boxes [M, 2 d] wide in some inputs, in which some may be missing, and rows [M, n, d] in them, NaN where they are;
    an input that is encoded is one of the numbers that its encoder knows.
    """
    d = function.n_inputs
    middle = rng.normal(0, 2, (_BOXES, d)).round(1)
    half = np.where(rng.random((_BOXES, d)) < 0.6, rng.exponential(1.5, (_BOXES, d)), 0.0)
    may_miss = (rng.random((_BOXES, d)) < 0.2).astype(np.float64)
    for feature in function.features:
        if feature.edges is not None:
            known = feature.edges[~np.isnan(feature.apply(feature.edges))]
            middle[:, feature.source], half[:, feature.source] = rng.choice(known, _BOXES), 0.0
        if np.isnan(feature.missing):
            may_miss[:, feature.source] = 0.0
    lower, upper = middle - half, middle + half
    share = rng.random((_BOXES, _ROWS, d))
    share[:, :4] = rng.integers(0, 2, (_BOXES, 4, d))
    rows = np.clip(lower[:, None] + share * (upper - lower)[:, None], lower[:, None], upper[:, None])
    rows[(rng.random(rows.shape) < 0.5) & (may_miss[:, None] > 0)] = np.nan
    return np.hstack([lower, np.zeros_like(may_miss)]), np.hstack([upper, may_miss]), rows


def outside(function: Prepared, rng: np.random.Generator) -> int:
    """How many rows lie beyond a form; forms of what may be missing are constant in it."""
    verifier = PreparedVerifier(function)
    lower, upper, rows = boxes(function, rng)
    bounds = verifier.linear(lower, upper)
    ends = lower[:, None], upper[:, None]
    wrong = 0
    for box in range(len(lower)):
        columns: list[Any] = [feature.apply(rows[box, :, feature.source]) for feature in function.features]
        margins = function.network.forward_columns(columns).astype(np.float64)
        values = margins @ verifier.through.inner.T
        place = np.hstack([np.nan_to_num(rows[box]), np.isnan(rows[box]).astype(np.float64)])
        assert not np.isnan(values).any()
        room = 1e-9 * (1 + np.abs(values))
        for slope, limit, sign in (
            (bounds.slope_upper[box], bounds.linear_upper[box], 1.0),
            (bounds.slope_lower[box], bounds.linear_lower[box], -1.0),
        ):
            rising = sign * slope
            most = np.maximum(rising * ends[0][box], rising * ends[1][box]).sum(axis=1)
            wrong += int((sign * values > sign * limit - most + place @ rising.T + room).sum())
    return wrong


@pytest.mark.parametrize(("kind", "seed"), _KINDS)
def test_forms_hold_for_every_row(kind: str, seed: int) -> None:
    assert outside(prepared(kind, seed), np.random.default_rng(seed)) == 0


@pytest.mark.parametrize("factor", [8.0, 1.5, -1.0])
@pytest.mark.parametrize(("kind", "seed"), _WITH_SLOPES)
def test_wrong_slopes_are_noticed(kind: str, seed: int, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    slopes = PreparedVerifier._in_inputs

    def broken(self: PreparedVerifier, slope: Floats, lower: Floats, upper: Floats) -> Floats:
        return factor * slopes(self, slope, lower, upper)

    monkeypatch.setattr(PreparedVerifier, "_in_inputs", broken)
    assert outside(prepared(kind, seed), np.random.default_rng(seed)) > 0


@pytest.mark.parametrize(("kind", "seed"), _KINDS)
def test_bounds_of_the_opposite_are_the_opposite(kind: str, seed: int) -> None:
    """Both sides are tightened, and widened, in the same way."""
    function = replace(prepared(kind, seed), link=Link())
    lower, upper, _ = boxes(function, np.random.default_rng(seed))
    units = np.eye(function.n_outputs)
    one, other = (PreparedVerifier(function, sign * units).linear(lower, upper) for sign in (1, -1))
    for low, high in (("lower", "upper"), ("slope_lower", "slope_upper"), ("linear_lower", "linear_upper")):
        np.testing.assert_allclose(getattr(one, low), -getattr(other, high), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(getattr(one, high), -getattr(other, low), rtol=1e-13, atol=1e-13)
