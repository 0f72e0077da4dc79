"""What is folded and left out of graphs, and of networks behind prepared inputs and over vectors: bounds of what is
left hold for the whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.bounder import Bounder
from skipml.bounds.budget import Budget
from skipml.bounds.compaction import bounded, compacted, layers_of, narrowed, reduced
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.heads import HeadVerifier
from skipml.bounds.linked import LinkedVerifier
from skipml.bounds.prepared import PreparedVerifier
from skipml.graph import Add, Concat, Elementwise, Graph, Node, Operator, PRelu
from skipml.heads import Head
from skipml.linked import Linked
from skipml.links import Link
from skipml.network import Affine, LeakyRelu, Network, Op, Shift
from skipml.prepared import Prepared
from tests.bounds.executions import ORDERS, execute_graph
from tests.bounds.test_compaction import Boxes
from tests.bounds.test_prepared_forms import boxes, prepared
from tests.graphs import Builder, elementwise, points_of, random_graph
from tests.soundness.battery import regions_of
from tests.soundness.compaction_battery import cases

Floats = NDArray[np.float64]
F32: np.dtype[Any] = np.dtype(np.float32)


def sparse_graph(seed: int, dtype: Any) -> Graph:
    """Residual blocks of layers most of whose weights are 0, with several kinds of activations and readers."""
    rng = np.random.default_rng(seed)
    g = Builder(3, dtype, rng)

    def layer(source: int, n_out: int) -> int:
        weight = rng.normal(size=(n_out, g.widths[source])) * (rng.random((n_out, g.widths[source])) < 0.35)
        bias = rng.normal(size=n_out) - 0.5
        return g.add(Affine(weight.astype(dtype), bias.astype(dtype)), source)

    def bent(source: int) -> int:
        slopes = PRelu(np.where(rng.random(g.widths[source]) < 0.6, 0.0, 0.3).astype(dtype))
        clip = Elementwise("clip", (-0.5, 0.5))
        ops: list[Operator] = [LeakyRelu(0.0), slopes, clip, elementwise("tanh", rng)]
        found = g.add(ops[int(rng.integers(4))], source)
        return g.add(Shift(g.vector(g.widths[source])), found) if rng.random() < 0.5 else found

    here = layer(0, 6)
    for _ in range(2):
        hidden = bent(layer(here, 9))
        ends = [layer(hidden, g.widths[here]), layer(hidden, g.widths[here])]
        here = g.add(Add(), here, g.add(Add(), *ends)) if rng.random() < 0.7 else g.add(Concat(), here, ends[0])
    layer(bent(layer(here, 5)), 2)
    return g.built()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_scores_of_the_whole_graph_are_within_bounds_of_the_smaller_one(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    graph = sparse_graph(seed, dtype) if seed % 4 else random_graph(seed, dtype)
    domain = np.sort(rng.normal(size=(2, graph.n_inputs)), axis=0) * [0.3, 1.0, 3.0][seed % 3]
    lower, upper = np.sort(domain[0] + rng.random((2, 20, graph.n_inputs)) * (domain[1] - domain[0]), axis=0)
    lower, upper = np.vstack([domain[:1], lower]), np.vstack([domain[1:], upper])
    found = compacted(graph, *domain)
    if seed % 4:
        assert found.weights < found.weights_before
    rows = points_of(rng, lower, upper, 14)
    bounds = bounded(found, np.eye(graph.n_outputs), *domain)
    sides = [bounds.interval(lower, upper)]
    linear = bounds.crown(lower, upper)
    sides += [(linear.lower, linear.upper), (linear.linear_lower, linear.linear_upper)]
    for batch in (1, 7, 14):
        parts = [graph.forward(part.reshape(-1, graph.n_inputs)) for part in np.split(rows, 14 // batch)]
        _assert_within(np.concatenate(parts).reshape(14, *lower.shape[:1], -1), sides)
    for order in ORDERS:
        scores = execute_graph(graph, rows.reshape(-1, graph.n_inputs), order)
        _assert_within(scores.reshape(14, *lower.shape[:1], -1), sides)


def _assert_within(scores: Any, sides: list[tuple[Floats, Floats]]) -> None:
    for low, high in sides:
        assert ((low <= scores) & (scores <= high))[np.isfinite(scores)].all()


def _residual(bias: Any) -> Graph:
    """x + W2 relu(W1 x + bias), 2 numbers and 4 neurons."""
    first = Affine(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], "f"), np.array(bias, "f"))
    second = Affine(np.ones((2, 4), "f"), np.zeros(2, "f"))
    ops = ((first, (0,)), (LeakyRelu(0.0), (1,)), (second, (2,)), (Add(), (0, 3)))
    return Graph(2, F32, tuple(Node(op, read) for op, read in ops))


def test_neurons_within_a_residual_block_go_and_those_that_are_added_stay() -> None:
    domain = np.full(2, -1.0), np.ones(2)
    found = compacted(_residual([0, -2, -3, 0.5]), *domain)
    assert layers_of(found.network) == (2, 1, 2), "two are dead, one is constant, and the sum is of two numbers"
    (folded,) = found.folded.values()
    assert folded.n_terms == 1
    linear = compacted(_residual([2, 2, 3, 1]), *domain).network
    assert [type(node.op) for node in linear.nodes] == [Affine, Affine, Add]  # type: ignore[union-attr]
    graph = Graph(2, F32, (*_residual([0, -2, -3, 0]).nodes, Node(Concat(), (2, 4))))
    assert layers_of(compacted(graph, *domain).network) == (2, 4, 2), "a neuron that is an output stays"


def _checked(whole: Bounder, lower: Floats, upper: Floats, scores: Any, rows_per_box: int) -> None:
    """The smaller one bounds the scores [M * n, K] of the rows of boxes, as near as the whole one does."""
    smaller = reduced(whole, Boxes(lower, upper))
    assert smaller is not whole
    (found,) = narrowed(whole, smaller)
    assert found.weights < 0.75 * found.weights_before
    assert smaller.content != whole.content
    scores = scores.reshape(len(lower), rows_per_box, -1)
    linear, known = smaller.linear(lower, upper), whole.linear(lower, upper)
    for sides in (smaller.interval(lower, upper), (linear.lower, linear.upper)):
        low, high = smaller.outputs(*sides)
        inside = (low[:, None] <= scores) & (scores <= high[:, None])
        assert inside[~np.isnan(scores)].all()
    assert (linear.upper - linear.lower).sum() <= (known.upper - known.lower).sum() * 1.01


@pytest.mark.parametrize(("kind", "seed"), [("mlp", 5), ("mlp", 7), ("mlp", 11)])
def test_networks_behind_prepared_inputs(kind: str, seed: int) -> None:
    function = _pruned(prepared(kind, seed))
    rng = np.random.default_rng(seed)
    lower, upper, rows = boxes(function, rng)
    scores = function.forward(rows.reshape(-1, function.n_inputs)).astype(np.float64)
    assert np.isnan(rows).any()
    _checked(PreparedVerifier(function), lower, upper, scores, rows.shape[1])


def _pruned(function: Prepared) -> Prepared:
    """The same with a network most of whose weights are 0."""
    rng = np.random.default_rng(0)
    n, k = function.network.n_inputs, function.network.n_outputs
    ops: list[Op] = []
    for n_in, n_out in ((n, 20), (20, 20), (20, k)):
        weight = rng.normal(size=(n_out, n_in)) * (rng.random((n_out, n_in)) < 0.1)
        ops += [Affine(weight, rng.normal(size=n_out)), LeakyRelu(0.0)]
    return replace(function, network=Network(n, k, np.dtype(np.float64), tuple(ops[:-1])))


def test_a_row_that_lacks_what_no_other_block_lacks_is_bounded_by_nothing() -> None:
    """What is unknown in one block, and what may be missing in it, is outside of the domain of the others."""
    function = _pruned(prepared("mlp", 5))
    whole = PreparedVerifier(function)
    lower, upper, _ = boxes(function, np.random.default_rng(5))
    d = function.n_inputs
    upper[:, d:] = 0.0
    lower[0, :d], upper[0, :d], upper[0, d:] = -np.inf, np.inf, 1.0
    smaller = reduced(whole, Boxes(lower, upper))
    assert smaller is not whole
    missing = lower[:1].copy(), upper[:1].copy()
    missing[0][:, d:] = 1.0
    there, here = smaller.interval(*missing), smaller.interval(lower[1:], upper[1:])
    assert not np.isfinite(there[0]).any()
    assert np.isfinite(here[0]).all()


def test_heads_and_graphs_behind_links() -> None:
    rng = np.random.default_rng(0)
    hidden = Affine(rng.normal(size=(6, 3)).astype("f"), np.full(6, -2, "f"))
    weight = (rng.normal(size=(24, 6)) * (rng.random((24, 6)) < 0.1)).astype("f")
    ops = (hidden, LeakyRelu(0.0), Affine(weight, np.ones(24, "f")), LeakyRelu(0.0))
    network = Network(3, 2, F32, (*ops, Affine(rng.normal(size=(2, 24)).astype("f"), np.zeros(2, "f"))))
    lower = rng.random((30, 3))
    rows = points_of(rng, lower, lower + 0.2, 20).transpose(1, 0, 2).reshape(-1, 3)
    head = Head(network, Link("softmax"))
    sums = head.first.sums(rows.astype("f")).astype(np.float64).reshape(30, 20, -1)
    _checked(HeadVerifier(head), sums.min(axis=1), sums.max(axis=1), head.forward(rows.astype("f")), 20)
    linked = Linked(sparse_graph(3, "f4"), Link("logistic"))
    _checked(LinkedVerifier(linked), lower, lower + 0.2, linked.forward(rows), 20)


def test_a_graph_of_which_nothing_can_go_is_bounded_as_it_is() -> None:
    rng = np.random.default_rng(0)
    first, last = Affine(rng.normal(size=(4, 2)), np.zeros(4)), Affine(rng.normal(size=(1, 4)), np.ones(1))
    ops: tuple[Operator, ...] = (first, Elementwise("tanh"), last)
    whole = GraphVerifier(Graph(2, np.dtype(np.float64), tuple(Node(op, (k,)) for k, op in enumerate(ops))))
    assert reduced(whole, Boxes(-np.ones((1, 2)), np.ones((1, 2)))) is whole


def test_decisions_say_how_much_smaller_networks_got() -> None:
    """In each case of the soundness battery a rule applies, but for values that overflow."""
    for name, model, blocks in cases():
        outcome = (model.output(0) > 0.0).decide(regions_of(blocks, ("a",)), Budget.unlimited(boxes_per_block=4))
        assert len(outcome.narrowed) == (name != "overflow that nothing reads"), name
        assert all(found.weights < 0.75 * found.weights_before for found in outcome.narrowed)
