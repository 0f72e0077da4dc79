"""Smaller networks compute the same over their domain, and bounds of them hold for the whole network."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.compaction import bounded, compacted, layers_of, narrowed, reduced
from skipml.bounds.linked import LinkedVerifier
from skipml.bounds.verifier import Verifier
from skipml.linked import Linked
from skipml.links import Link
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.bounds.executions import ORDERS, execute

Floats = NDArray[np.float64]


class Boxes:
    """Blocks of one box each."""

    def __init__(self, lower: Floats, upper: Floats) -> None:
        self.lower, self.upper = lower, upper
        self.block, self.n_rows, self.hulls = np.arange(len(lower)), np.full(len(lower), 10), ()


def pruned(seed: int, dtype: Any, *, shift: bool = False, slope: float = 0.0) -> Network:
    """Two hidden layers; a third of the weights are 0, whole columns among them, and biases are mostly negative."""
    rng = np.random.default_rng(seed)
    ops: list[Op] = []
    for n_in, n_out in ((2, 12), (12, 12), (12, 2)):
        weight = rng.normal(size=(n_out, n_in)) * (rng.random((n_out, n_in)) < 0.7) * (rng.random(n_in) < 0.8)
        ops += [Affine(weight.astype(dtype), (rng.normal(size=n_out) - 1).astype(dtype))]
        ops += [Scale(np.full(n_out, 0.5, dtype)), LeakyRelu(slope)]
        ops += [Shift(np.full(n_out, 0.25, dtype))] if shift else [Divide(np.full(n_out, 0.5, dtype))]
    return Network(2, 2, np.dtype(dtype), tuple(ops[:-3]))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_scores_of_the_whole_network_are_within_bounds_of_the_smaller_one(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    network = pruned(seed, dtype, shift=seed % 5 == 4, slope=[0.0, 0.1][seed % 7 == 6])
    domain = np.sort(rng.normal(size=(2, 2)), axis=0)
    found = compacted(network, *domain)
    rows = domain[0] + np.linspace(0, 1, 40)[:, None] * rng.random((40, 2)) * (domain[1] - domain[0])
    cast = rows.astype(dtype).astype(np.float64).clip(*domain)
    verifier = bounded(found, np.eye(2), *domain)
    bounds, interval = verifier.crown(cast, cast), verifier.interval(cast, cast)
    for order in ORDERS:
        scores = execute(network, cast, order).astype(np.float64)
        for low, high in (interval, (bounds.lower, bounds.upper)):
            assert (low <= scores).all()
            assert (scores <= high).all()
    assert found.weights <= found.weights_before


def test_what_gives_nothing_is_left_out() -> None:
    weight = np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], "f")
    ops = (
        Affine(weight, np.array([0, 0, 0, -0.5], "f")),
        LeakyRelu(0.0),
        Affine(np.array([[1, 1, 0, 1]], "f"), np.zeros(1, "f")),
    )
    network = Network(2, 1, np.dtype("f4"), ops)
    inside = compacted(network, np.zeros(2), np.ones(2))
    assert layers_of(inside.network) == (2, 2, 1)
    assert inside.share == 0.5
    above = compacted(network, np.full(2, 0.25), np.ones(2))
    assert layers_of(above.network) == (2, 1), "what is left is linear"
    assert (above.weights, dict(above.folded)) == (2, {})
    outside = compacted(network, np.full(2, -1.0), np.ones(2))
    assert outside.weights == 9, "the last neuron is alive here, the third is read by nothing"
    assert compacted(network, np.full(2, -np.inf), np.ones(2)).network is network
    assert compacted(network, np.zeros(2), np.full(2, 3e38)).network is network


def test_neurons_that_give_something_stay() -> None:
    layer = Affine(-np.ones((4, 2), "f"), np.full(4, -1, "f"))
    ops = (layer, LeakyRelu(0.5), Affine(np.ones((1, 4), "f"), np.zeros(1, "f")))
    assert compacted(Network(2, 1, np.dtype("f4"), ops), np.zeros(2), np.ones(2)).share == 1.0


_OFFSET = Shift(np.full(4, 0.3, "f"))


@pytest.mark.parametrize("ops", [(LeakyRelu(0.0),), (LeakyRelu(0.5),), (_OFFSET, LeakyRelu(0.0), _OFFSET)])
def test_constant_neurons_go_into_the_biases_behind_them(ops: tuple[Op, ...]) -> None:
    """Half of the neurons read nothing, and give what float32 makes of their biases."""
    weight = np.array([[1, -1], [-1, 1], [0, 0], [0, 0]], "f")
    whole_ops = (
        Affine(weight, np.array([0, 0.1, 0.7, 1e6], "f")),
        *ops,
        Affine(np.ones((2, 4), "f"), np.full(2, -1e6, "f")),
    )
    network, domain = Network(2, 2, np.dtype("f4"), whole_ops), (np.full(2, -1.0), np.ones(2))
    found = compacted(network, *domain)
    assert found.weights < found.weights_before
    (folded,) = found.folded.values()
    assert folded.n_terms == 2
    assert (folded.mass >= 2e6).all(), "what cancels is rounded all the same"
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype("f4").astype(np.float64)
    low, high = bounded(found, np.eye(2), *domain).interval(rows, rows)
    whole = Verifier(network).interval(rows, rows)
    scores = np.stack([execute(network, rows, order).astype(np.float64) for order in ORDERS])
    assert (np.ptp(scores, axis=0) > 0).any(), "orders differ"
    assert ((low <= scores) & (scores <= high)).all()
    assert (high - low <= (whole[1] - whole[0]) * 1.05).all(), "hardly looser than the whole"


def test_layers_that_are_linear_are_one_where_that_is_less() -> None:
    rng = np.random.default_rng(0)

    def chain(*widths: int) -> Network:
        ops: list[Op] = []
        for n_in, n_out in pairwise(widths):
            ops += [Affine(rng.random((n_out, n_in)).astype("f"), np.ones(n_out, "f")), LeakyRelu(0.0)]
        return Network(widths[0], widths[-1], np.dtype("f4"), tuple(ops[:-1]))

    domain = np.zeros(8), np.ones(8)
    assert layers_of(compacted(chain(8, 16, 16, 1), *domain).network) == (8, 1)
    assert layers_of(compacted(chain(8, 1, 8), *domain).network) == (8, 1, 8), "64 weights are more than 16"


def test_boxes_outside_of_the_domain_are_bounded_by_nothing() -> None:
    network, domain = pruned(3, "f4"), (np.zeros(2), np.ones(2))
    bounds = bounded(compacted(network, *domain), np.eye(2), *domain)
    lower = np.array([[0.0, 0.0], [0.0, -(2.0**-100)], [0.5, 0.5], [0.0, np.nan]])
    upper = np.array([[1.0, 1.0], [1.0, 1.0], [0.5, 1 + 2.0**-23], [1.0, 1.0]])
    linear, known = bounds.crown(lower, upper), [True, False, False, False]
    for side in (*bounds.interval(lower, upper), linear.lower, linear.upper, linear.linear_lower, linear.linear_upper):
        assert np.isfinite(side).all(axis=1).tolist() == known
    assert not linear.slope_lower[1:].any()
    ends = np.array([[1 - 2.0**-50, 0.0], [1.0, 1 + 2.0**-50]])  # a float32 network is asked about the latter as 1
    assert np.isfinite(bounds.interval(ends[:1], ends[1:])[0]).all()
    assert bounds.content != bounded(compacted(network, *domain), np.eye(2), domain[0], 2 * domain[1]).content


def _beside_a_live_one(weight: Floats, bias: float, onward: float) -> Network:
    """One output: a neuron whose sum is 1, which adds nothing visible, and the neuron in question."""
    hidden = Affine(np.stack([np.zeros(len(weight)), weight]).astype("f"), np.array([1, bias], "f"))
    ends = Affine(np.array([[2.0**-100, onward]], "f"), np.zeros(1, "f"))
    return Network(len(weight), 1, np.dtype("f4"), (hidden, LeakyRelu(0.0), ends))


_ROUNDS_UP = np.array([1.0, *[2.0**-24 * (1 + 2.0**-20)] * 3])
"""1 and three times a little more than half of the distance to the next float32, which each of three sums is up by."""


@pytest.mark.parametrize(
    ("network", "row"),
    [
        *((_beside_a_live_one(np.array([-1.0]), tiny, 1 / tiny), [0.0]) for tiny in (2.0**-10, 2.0**-40, 2.0**-120)),
        (_beside_a_live_one(_ROUNDS_UP, -1 - 2.0**-22, 2.0**23), [1.0] * 4),
    ],
    ids=["2^-10", "2^-40", "2^-120", "above 0 by rounding only"],
)
def test_a_neuron_that_is_hardly_ever_and_hardly_positive_stays(network: Network, row: list[float]) -> None:
    point = np.array(row)
    domain = point, point * (1 + 2.0**-20) if len(row) > 1 else np.ones(1)
    found = compacted(network, *domain)
    scores = [execute(network, point[None], order).astype(np.float64) for order in ORDERS]
    assert np.max(scores) >= 1, "it is positive in some order"
    low, high = bounded(found, np.eye(1), *domain).interval(point[None], point[None])
    assert all((low <= score).all() and (score <= high).all() for score in scores)
    assert found.weights == len(row) + 1, "the other one is constant"


def test_all_dead_leaves_one() -> None:
    layer = Affine(-np.ones((4, 2), "f"), np.full(4, -1, "f"))
    ops = (layer, LeakyRelu(0.0), Affine(np.ones((1, 4), "f"), np.ones(1, "f")))
    network = Network(2, 1, np.dtype("f4"), ops)
    found = compacted(network, np.zeros(2), np.ones(2)).network
    assert isinstance(found, Network)
    assert np.array_equal(found.forward(np.ones((3, 2))), network.forward(np.ones((3, 2))))


def test_bounds_are_reduced_only_where_it_pays_and_never_looser() -> None:
    lower = np.random.default_rng(0).random((30, 2))
    boxes = Boxes(lower, lower + 0.1)
    whole = Verifier(pruned(3, "f4"))
    smaller = reduced(whole, boxes)
    assert smaller is not whole
    assert narrowed(whole, whole) == ()
    (found,) = narrowed(whole, smaller)
    assert (found.widths_before, found.weights_before) == ((2, 12, 12, 2), 2 * 12 + 12 * 12 + 12 * 2)
    assert (found.widths[0], found.widths[-1]) == (2, 2)
    assert found.weights == sum(a * b for a, b in pairwise(found.widths)) < 0.75 * found.weights_before
    assert smaller.seconds_per_box < whole.seconds_per_box
    assert smaller is reduced(whole, boxes), "made once"
    for cast in (boxes.lower.astype("f"), boxes.upper.astype("f")):
        assert np.isfinite(smaller.interval(*[cast.astype(np.float64)] * 2)[0]).all(), "ends that are cast are within"
    one, other = smaller.linear(boxes.lower, boxes.upper), whole.linear(boxes.lower, boxes.upper)
    assert (one.upper <= other.upper + 1e-9).all()
    assert (one.lower >= other.lower - 1e-9).all()
    rng = np.random.default_rng(1)
    ops = (Affine(rng.normal(size=(3, 2)), np.ones(3)), LeakyRelu(0.0), Affine(np.ones((1, 3)), np.ones(1)))
    dense = Verifier(Network(2, 1, np.dtype(np.float64), ops))
    wide = Boxes(np.full((1, 2), -9.0), np.full((1, 2), 9.0))
    assert reduced(dense, wide) is dense
    like = Verifier(dense.network)
    assert narrowed(like, reduced(like, wide)) == (), "which is the other one of the same content"
    assert reduced(dense, Boxes(np.full((1, 2), -np.inf), np.full((1, 2), np.inf))) is dense


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("limit", ["lower", "upper"])
def test_blocks_without_end_on_one_side_are_no_part_of_the_domain(limit: str, side: int) -> None:
    lower = np.random.default_rng(0).random((30, 2))
    boxes, whole = Boxes(lower, lower + 0.1), Verifier(pruned(3, "f4"))
    smaller = reduced(whole, boxes)
    (boxes.lower if limit == "lower" else boxes.upper)[7, side] = -np.inf if limit == "lower" else np.inf
    assert reduced(whole, boxes) is not whole
    assert reduced(whole, boxes).function.macs <= smaller.function.macs


def test_what_is_folded_tells_bounds_apart() -> None:
    """Two networks of which the same is left, but which round differently."""

    def cancels(by: float) -> Network:
        first = Affine(np.array([[1], [0], [0]], "f"), np.array([0, by, by], "f"))
        last = Affine(np.array([[1, 1, -1]], "f"), np.zeros(1, "f"))
        return Network(1, 1, np.dtype("f4"), (first, LeakyRelu(0.0), last))

    boxes = Boxes(np.full((1, 1), -1.0), np.ones((1, 1)))
    found = [reduced(Verifier(cancels(by)), boxes) for by in (1.0, 1e6)]
    one, other = (bounder.function for bounder in found)
    assert one.hash == other.hash
    assert found[0].content != found[1].content


def test_probabilities_are_reduced_too() -> None:
    lower = np.random.default_rng(0).random((30, 2))
    boxes = Boxes(lower, lower + 0.1)
    whole = LinkedVerifier(Linked(pruned(3, "f4"), Link("softmax")), np.array([[1.0, 0.0]]))
    smaller = reduced(whole, boxes)
    assert smaller is not whole
    assert smaller.content != whole.content
    assert narrowed(whole, smaller)[0].widths_before == (2, 12, 12, 2)
    assert smaller.n_values == whole.n_values
