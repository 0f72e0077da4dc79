"""Bounds of graphs hold for what is computed, are near it on points, and say nothing where a value may overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.activations import Kind, curve
from skipml.bounds import bent_steps, graph_steps, normalised_steps, relaxations
from skipml.bounds.bent_steps import Bent
from skipml.bounds.graph import GraphVerifier, _length
from skipml.bounds.relaxations import kinked_lines, lines, span
from skipml.bounds.verifier import Verifier
from skipml.graph import Add, Elementwise, Graph, Node, Normalize, Subtract
from skipml.network import Affine, LeakyRelu, Network
from tests.graphs import KINDS, elementwise, points_of, random_boxes, random_graph

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)
Floats = NDArray[np.float64]


def broken(graph: Graph, seed: int, n_boxes: int = 30) -> list[str]:
    """What scores of points in boxes of a graph show to be wrong with its bounds."""
    rng = np.random.default_rng(seed)
    lower, upper = random_boxes(rng, n_boxes, graph.n_inputs)
    points = points_of(rng, lower, upper, 30)
    functionals = np.eye(graph.n_outputs)
    if graph.n_outputs > 1 and seed % 2:
        functionals = functionals[:1] - functionals[1:]
    scores = graph.forward(points.reshape(-1, graph.n_inputs)).astype(np.float64) @ functionals.T
    scores = scores.reshape(30, n_boxes, -1)
    verifier = GraphVerifier(graph, functionals)
    bounds, interval = verifier.crown(lower, upper), verifier.interval(lower, upper)
    assert np.isfinite(bounds.upper).mean() > 0.5
    cast = points.astype(graph.dtype).astype(np.float64)
    corners = lower.astype(graph.dtype).astype(np.float64), upper.astype(graph.dtype).astype(np.float64)
    found = []
    for name, low, high in (("interval", *interval), ("crown", bounds.lower, bounds.upper)):
        if not ((low <= scores) & (scores <= high)).all():
            found.append(f"{name}: a score is outside of its bounds")
    upper_form, lower_form = (bounds.slope_upper, bounds.linear_upper, 1), (bounds.slope_lower, bounds.linear_lower, -1)
    for slope, linear, sign in (upper_form, lower_form):
        best = np.where(sign * slope > 0, corners[1][:, None], corners[0][:, None])
        offset = linear - (slope * best).sum(axis=2)
        form = np.einsum("kmd,pkd->pkm", slope, cast) + offset
        known = np.isfinite(form)
        if (sign * (scores - form) > 1e-9 * (1 + np.abs(form)))[known].any():
            found.append("a score is beyond its linear form")
    return found


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bounds_hold_for_what_is_computed(seed: int, dtype: str) -> None:
    assert broken(random_graph(seed, dtype), seed) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(100, 1100))
def test_bounds_hold_for_many_graphs(seed: int) -> None:
    assert broken(random_graph(seed, ["f4", "f8"][seed % 2]), seed) == []


def _intervals(kind: Kind, rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    centre = rng.normal(size=(n, 1)) * 10.0 ** rng.uniform(-3, 1.4, (n, 1))
    radius = 10.0 ** rng.uniform(-6, 2, (n, 1)) * rng.random((n, 1))
    lower, upper = centre - radius, centre + radius
    if kind == "log":
        lower = np.abs(lower) + 1e-6
        upper = lower + 2 * radius
    return lower, upper


@pytest.mark.parametrize("kind", KINDS)
def test_lines_hold_and_touch(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        op = elementwise(kind, rng)
        bent = curve(op.kind, op.parameters)
        lower, upper = _intervals(kind, rng, 1500)
        share = np.sort(rng.random((1500, 200)), axis=1)
        x = np.clip(lower + np.hstack([share * 0, share, share * 0 + 1]) * (upper - lower), lower, upper)
        with np.errstate(all="ignore"):
            found, (low, high) = lines(bent, lower, upper), span(bent, lower, upper)
            y = bent.value(x)
            above, below = found.high_slope * x + found.high - y, y - (found.low_slope * x + found.low)
        room = 2 * bent.jump + 1e-12 * np.abs(y) + 2.0**-50 * bent.of_input * np.abs(x)
        assert (above >= -bent.jump).all()
        assert (below >= -bent.jump).all()
        assert (y >= low - room).all()
        assert (y <= high + room).all()
        height = y.max(axis=1) - y.min(axis=1) + 1e-6
        for gap in (above, below):
            assert np.quantile(gap.min(axis=1) / height, 0.9) < 0.05, "a line that touches nowhere is loose"


@pytest.mark.parametrize("slope", [-0.7, 0.0, 0.3, 1.0, 1.8])
def test_lines_of_kinks_hold(slope: float) -> None:
    rng = np.random.default_rng(2)
    lower, upper = _intervals("abs", rng, 500)
    found = kinked_lines(np.array([slope]), lower, upper)
    x = lower + np.linspace(0, 1, 21) * (upper - lower)
    y = np.where(x < 0, slope * x, x)
    room = 1e-12 * np.abs(x)
    assert (found.low_slope * x + found.low <= y + room).all()
    assert (y <= found.high_slope * x + found.high + room).all()


@pytest.mark.parametrize("seed", range(6))
def test_points_are_known_up_to_rounding(seed: int) -> None:
    graph = random_graph(seed, "f8")
    x = np.random.default_rng(seed).normal(size=(40, graph.n_inputs))
    bounds = GraphVerifier(graph).crown(x, x)
    assert (bounds.upper - bounds.lower <= 1e-6 * (1 + np.abs(bounds.upper))).all()
    assert (np.abs(GraphVerifier(graph).values(x) - bounds.upper) <= 1e-6 * (1 + np.abs(bounds.upper))).all()


@pytest.mark.parametrize("seed", range(12))
def test_gradients_are_those_of_the_values(seed: int) -> None:
    graph = random_graph(seed, "f8")
    verifier, rng = GraphVerifier(graph), np.random.default_rng(seed)
    x, towards, step = rng.normal(size=(30, graph.n_inputs)), rng.normal(size=(30, graph.n_outputs)), 1e-6
    moved = [verifier.values(x + step * e) - verifier.values(x - step * e) for e in np.eye(graph.n_inputs)]
    numeric = np.stack([(change * towards).sum(axis=1) for change in moved], axis=1) / (2 * step)
    off = np.abs(numeric - verifier.gradients(x, towards)) / (1 + np.abs(numeric))
    assert np.quantile(off, 0.9) < 1e-4, "but at kinks"


def test_a_branch_that_cancels_is_known_to_cancel() -> None:
    """The coefficients of a value that two ops read add up: h - h is 0, whatever h is."""
    layer = Node(Affine(np.ones((2, 2)), np.zeros(2)), (0,))
    same = Graph(2, F64, (layer, Node(Elementwise("tanh"), (1,)), Node(Subtract(), (2, 2))))
    bounds = GraphVerifier(same).crown(np.full((1, 2), -3.0), np.full((1, 2), 3.0))
    assert (np.abs(bounds.upper) < 1e-10).all()
    shortcut = Graph(2, F64, (layer, Node(Add(), (1, 1))))
    assert abs(GraphVerifier(shortcut).crown(np.zeros((1, 2)), np.ones((1, 2))).upper[0, 0] - 4) < 1e-9


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_graphs_bound_a_network_about_as_its_own_verifier_does(slope: float) -> None:
    rng = np.random.default_rng(4)
    ops: list[Affine | LeakyRelu] = []
    for n_in, n_out in ((3, 16), (16, 16), (16, 1)):
        ops += [
            Affine(rng.normal(size=(n_out, n_in)).astype("f"), rng.normal(size=n_out).astype("f")),
            LeakyRelu(slope),
        ]
    network = Network(3, 1, F32, tuple(ops[:-1]))
    graph = Graph(3, F32, tuple(Node(op, (k,)) for k, op in enumerate(network.ops)))
    np.testing.assert_allclose(graph.forward(np.eye(3)), network.forward(np.eye(3)), rtol=1e-5)
    lower = rng.normal(size=(50, 3))
    upper = lower + rng.random((50, 3))
    one, other = GraphVerifier(graph).crown(lower, upper), Verifier(network).crown(lower, upper)
    width, expected = one.upper - one.lower, other.upper - other.lower
    assert (width <= 1.02 * expected).all()
    assert (width >= 0.5 * expected).all()


@pytest.mark.parametrize("kind", ["exp", "square"])
def test_overflow_and_poles_are_unknown(kind: Kind) -> None:
    graph = Graph(1, F32, (Node(Elementwise(kind), (0,)), Node(Elementwise(kind), (1,))))
    low, high = GraphVerifier(graph).interval(np.array([[0.0], [0.0]]), np.array([[1.0], [1e19]]))
    assert np.isfinite([low[0, 0], high[0, 0]]).all()
    assert not np.isfinite([low[1, 0], high[1, 0]]).any()
    bounds = GraphVerifier(graph).crown(np.array([[0.0]]), np.array([[1e19]]))
    assert not np.isfinite([bounds.lower[0, 0], bounds.upper[0, 0]]).any()


def test_what_is_unknown_is_infinite_on_the_side_that_says_nothing() -> None:
    graph = Graph(1, F32, (Node(Elementwise("square"), (0,)),))
    for box in ((0.0, 1e30), (-1e30, 0.0), (-np.inf, 0.0), (0.0, np.inf), (-1e39, -1e38)):
        lower, upper = (np.array([[end]]) for end in box)
        bounds = GraphVerifier(graph).crown(lower, upper)
        for low, high in (GraphVerifier(graph).interval(lower, upper), (bounds.lower, bounds.upper)):
            assert (low[0, 0], high[0, 0]) == (-np.inf, np.inf)
    identity = Graph(1, F32, (Node(Elementwise("abs"), (0,)),))
    assert np.isinf(GraphVerifier(identity).interval(np.array([[-1e39]]), np.zeros((1, 1)))).all()


def test_the_roundings_of_an_op_are_counted_by_its_length() -> None:
    assert _length(Node(Affine(np.ones((3, 7)), np.zeros(3)), (0,)), 7) == 7
    assert _length(Node(Normalize(1e-5, True), (0,)), 7) == 23
    assert _length(Node(Add(), (0, 0)), 7) == 1


def test_a_logarithm_of_what_may_be_negative_is_unknown() -> None:
    graph = Graph(1, F64, (Node(Elementwise("log"), (0,)),))
    low, high = GraphVerifier(graph).interval(np.array([[0.5], [0.0], [-1.0]]), np.array([[2.0], [2.0], [2.0]]))
    assert np.isfinite(low).ravel().tolist() == np.isfinite(high).ravel().tolist() == [True, False, False]


def test_infinite_boxes_are_unknown() -> None:
    graph = random_graph(1, "f4")
    lower = np.full((1, graph.n_inputs), -np.inf)
    assert not np.isfinite(GraphVerifier(graph).crown(lower, -lower).upper).any()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_normalisation_is_bounded_where_numbers_are_far_from_0(size: float) -> None:
    nodes = (Node(Affine(np.eye(3), np.full(3, 1e8)), (0,)), Node(Normalize(1e-5, True), (1,)))
    graph = Graph(3, F64, nodes)
    assert broken(graph, 3) == []
    x = np.random.default_rng(0).normal(size=(20, 3)) * size
    low, high = GraphVerifier(graph).interval(x, x)
    assert ((graph.forward(x) >= low) & (graph.forward(x) <= high)).all()


def _apply(patch: pytest.MonkeyPatch, name: str) -> None:
    """Break a rule that bounds rest on."""
    real_back, real_form = Bent.back, Bent.form
    real_intercept = relaxations._intercept
    match name:
        case "lines of falling slopes are not turned":
            patch.setattr(Bent, "form", lambda self, state, read: real_form(self, _risen(state), read))
        case "a negative coefficient takes the upper line":
            patch.setattr(Bent, "back", lambda self, state, a: real_back(self, _upper_only(state), a))
        case "an intercept is taken at the ends":
            patch.setattr(relaxations, "_knots", lambda bent: [])
            patch.setattr(relaxations, "_pieces", lambda bent: [])
        case "nothing is lost":
            patch.setattr(bent_steps.Curved, "_loss", lambda self, magnitude, largest: 0 * largest)
            patch.setattr(graph_steps.Dense, "reach", _without_loss(graph_steps.Dense.reach))
        case "only the last reader of a value counts":
            patch.setattr(graph_steps.Sum, "back", lambda self, state, a: ([a, 0 * a], a.sum(axis=2) * 0))
        case "the chord lies above a concave function":
            patch.setattr(
                relaxations, "_intercept", lambda *args, is_upper: real_intercept(*args, is_upper=not is_upper)
            )
        case "functions never fall":
            patch.setattr(bent_steps, "span", lambda bent, low, high: (bent.value(low), bent.value(high)))
        case "a product is between its ends":
            patch.setattr(graph_steps.Product, "back", _without_room)
        case "the least squares are those of the ends":
            patch.setattr(normalised_steps.Normalised, "_factors", _factors_of_ends)


def _risen(state: Any) -> Any:
    return type(state)(np.abs(state.low_slope), state.low, np.abs(state.high_slope), state.high)


def _upper_only(state: Any) -> Any:
    return type(state)(state.high_slope, state.high, state.high_slope, state.high)


def _without_loss(real: Any) -> Any:
    def reach(self: Any, read: Any) -> Any:
        found, loss, fits = real(self, read)
        return type(found)(found.lower + loss, found.upper - loss), 0 * loss, fits

    return reach


def _without_room(self: Any, state: Any, a: Floats) -> Any:
    one, other, _ = state
    return [a * other, a * one], -np.einsum("fmn,mn->fm", a, one * other)


def _factors_of_ends(self: Any, lower: Floats, upper: Floats) -> Any:
    ends = [self._factor(lower), self._factor(upper)]
    return np.minimum(*ends), np.maximum(*ends)


VARIANTS = (
    "lines of falling slopes are not turned",
    "a negative coefficient takes the upper line",
    "an intercept is taken at the ends",
    "nothing is lost",
    "only the last reader of a value counts",
    "the chord lies above a concave function",
    "functions never fall",
    "a product is between its ends",
    "the least squares are those of the ends",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unsound_variant_is_caught(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _apply(patch, name)
        for seed in range(60):
            if broken(random_graph(seed, ["f4", "f8"][seed % 2]), seed):
                return
    raise AssertionError("nothing was found wrong")


def test_no_boxes_have_no_bounds() -> None:
    graph = random_graph(3, "f4")
    found = GraphVerifier(graph).crown(*np.zeros((2, 0, graph.n_inputs)))
    assert len(found.upper) == len(found.slope_lower) == 0
