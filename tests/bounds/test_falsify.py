"""Points that show what a box holds: they lie in it, and the climb gets where the values are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Opposite, Points, reaches, try_points
from skipml.bounds.leaves import Leaves
from skipml.bounds.memory import Known
from skipml.bounds.polygons import Cuts, Polygons
from skipml.bounds.sightings import Sightings
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network
from tests.bounds.test_branch import Above, Below
from tests.bounds.test_polygons import ridge
from tests.strategies import boxes, networks

F32 = np.dtype(np.float32)


def steps(weights: list[list[float]]) -> Verifier:
    """Sums of rectified inputs, each with its own weight: monotone in every input."""
    n = len(weights[0])
    first = Affine(np.eye(n, dtype=F32), np.full(n, 5.0, F32))
    return Verifier(
        Network(
            n, len(weights), F32, (first, LeakyRelu(0.0), Affine(np.array(weights, F32), np.zeros(len(weights), F32)))
        )
    )


def without_slopes(bounds: LinearBounds) -> LinearBounds:
    """Bounds that say nothing about where the extremes are, so that only the climb finds them."""
    return replace(bounds, slope_lower=np.zeros_like(bounds.slope_lower), slope_upper=np.zeros_like(bounds.slope_upper))


@given(networks(n_outputs=st.just(1)), st.data(), st.booleans())
def test_what_points_show_is_in_the_box(network: Network, data: st.DataObject, climb: bool) -> None:
    box = data.draw(boxes(network.n_inputs, n_boxes=st.just(3)))
    lower, upper = (x.astype(network.dtype).astype(np.float64) for x in (box.lower, box.upper))
    verifier = Verifier(network)
    low, high = verifier.interval(lower, upper)
    if not np.isfinite(high - low).all():
        return
    middle = float((low + high).mean())
    for test in (Above(middle), Below(middle)):
        found = try_points(verifier, test, (lower, upper), verifier.crown(lower, upper), climb=climb)
        assert found.inside.all()
        assert (low <= found.lowest).all()
        assert (found.lowest <= found.highest).all()
        assert (found.highest <= high).all()
        shown = found.highest > middle if isinstance(test, Above) else found.lowest < middle
        if not climb:
            assert (found.passed == shown[:, 0]).all()
        assert (shown[:, 0] >= found.passed).all()


@pytest.mark.parametrize("signs", list(itertools.product([1.0, -1.0], repeat=3)))
@pytest.mark.parametrize("hidden", [False, True], ids=["by the bound", "by climbing"])
def test_the_extremes_of_a_monotone_network_are_found(signs: tuple[float, ...], hidden: bool) -> None:
    weights = [[sign * (i + 1) for i, sign in enumerate(signs)]]
    verifier = steps(weights)
    lower, upper = np.array([[-3.0, -2.0, -1.0]]), np.array([[1.0, 2.0, 4.0]])
    bounds = verifier.crown(lower, upper)
    given_bounds = without_slopes(bounds) if hidden else bounds
    low, high = verifier.interval(lower, upper)
    top, bottom = float(high[0, 0]), float(low[0, 0])
    slack = 1e-3
    up = try_points(verifier, Above(top - slack), (lower, upper), given_bounds, climb=True)
    down = try_points(verifier, Below(bottom + slack), (lower, upper), given_bounds, climb=True)
    assert up.passed.all()
    assert up.highest[0, 0] >= top - slack
    assert down.passed.all()
    assert down.lowest[0, 0] <= bottom + slack
    assert not try_points(verifier, Above(top + slack), (lower, upper), given_bounds, climb=True).passed.any()
    alone = try_points(verifier, Above(top - slack), (lower, upper), None, climb=True)
    assert alone.passed.all(), "the gradient is enough"


def test_the_slope_is_that_of_the_bound_to_be_proved() -> None:
    verifier = steps([[1.0, -2.0]])
    box = np.array([[-1.0, -1.0]]), np.array([[1.0, 1.0]])
    bounds = verifier.crown(*box)
    up = try_points(verifier, Above(-2.5), box, bounds, climb=False)
    down = try_points(verifier, Below(-7.5), box, bounds, climb=False)
    assert (up.slope == bounds.slope_upper[:, 0]).all()
    assert (down.slope == -bounds.slope_lower[:, 0]).all()


def test_several_boxes_do_not_mix() -> None:
    verifier = steps([[1.0, 1.0]])
    lower, upper = np.array([[-1.0, -1.0], [2.0, 2.0], [-4.0, 1.0]]), np.array([[0.0, 0.0], [3.0, 4.0], [-3.0, 1.5]])
    bounds = without_slopes(verifier.crown(lower, upper))
    found = try_points(verifier, Above(14.0), (lower, upper), bounds, climb=True)
    assert found.passed.tolist() == [False, True, False]
    np.testing.assert_allclose(found.highest[:, 0], [10.0, 15.5, 8.5], atol=1.6)


def test_a_continuous_value_reaches_what_lies_between() -> None:
    low, high = np.array([[0.0], [0.0], [2.0]]), np.array([[1.0], [3.0], [1.0]])
    assert reaches(Above(1.5), low, high).tolist() == [False, True, False]
    assert not reaches(Above(1.5), np.zeros((2, 2)), np.full((2, 2), 9.0)).any()


def test_the_opposite_passes_where_the_test_does_not() -> None:
    low, high = np.array([[0.0], [1.0], [3.0]]), np.array([[1.0], [3.0], [4.0]])
    opposite = Opposite(Above(2.0))
    assert opposite.always(low, high).tolist() == [True, False, False]
    assert opposite.never(low, high).tolist() == [False, False, True]
    assert opposite.holds(np.array([[1.0], [2.0], [3.0]])).tolist() == [True, True, False]


def test_a_point_that_passes_is_noted_for_its_block_alone() -> None:
    """Of two values nothing else shows it."""
    known = Known.nothing(np.zeros((3, 1)), np.ones((3, 1)), 2)
    block = np.array([0, 0, 1])
    seen = Sightings(Above(0.5), block, 2, known, is_continuous=True)
    leaves = Leaves.of(known, block, np.array([1, 2]))
    values = np.array([[0.9, 0.0], [0.1, 0.0]])
    yes = np.ones(2, np.bool_)
    points = Points(np.array([True, False]), values, values, yes, np.zeros((2, 1)))
    seen.note(leaves, points, seen.passed)
    assert seen.passed.tolist() == [True, False]
    assert seen.failed.tolist() == [False, False]
    assert seen.lowest[1:].tolist() == values.tolist()
    assert seen.hopeless(np.array([0, 1]), keep=False).tolist() == [True, False]
    assert seen.hopeless(np.array([0, 1]), keep=True).tolist() == [False, False]


@pytest.mark.parametrize("climb", [False, True])
def test_polygons_stop_a_point_on_its_way_and_not_before(climb: bool) -> None:
    """x + y on rows with x = y is largest in a corner that the polygon leaves."""
    _, cloud = ridge(1)
    verifier = Verifier(Network(2, 1, F32, (Affine(np.ones((1, 2), F32), np.zeros(1, F32)),)))
    box = cloud.lower, cloud.upper
    cuts = Cuts(Polygons.of(cloud.hulls, F32), np.zeros(1, np.int64))
    bounds = verifier.crown(*box)
    up = try_points(verifier, Above(1.95), box, bounds, climb=climb, cuts=cuts)
    down = try_points(verifier, Below(0.05), box, bounds, climb=climb, cuts=cuts)
    assert up.passed.all()
    assert down.passed.all()
    assert (up.highest <= 2.02).all()
    assert (down.lowest >= 0.0).all()
