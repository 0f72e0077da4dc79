"""Graphs of ops: a row's outputs depend on nothing but the row, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skipml.errors import ModelError
from skipml.graph import (
    Add,
    Concat,
    Elementwise,
    Graph,
    Multiply,
    Node,
    Normalize,
    Operator,
    PRelu,
    Subtract,
    Take,
    network_of_graph,
)
from skipml.linked import Linked
from skipml.links import Link
from skipml.models.sums import weighted_sum
from skipml.network import Affine, Divide, LeakyRelu, Network, Scale, Shift
from tests.graphs import KINDS, elementwise, random_graph

F32: np.dtype[Any] = np.dtype(np.float32)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_row_has_the_same_outputs_in_every_batch(seed: int, dtype: str) -> None:
    graph = random_graph(seed, dtype)
    rows = np.random.default_rng(seed).normal(size=(75, graph.n_inputs)) * 3
    whole = graph.forward(rows)
    for start, stop in ((0, 1), (3, 4), (1, 75), (7, 40), (74, 75), (16, 48)):
        assert np.array_equal(graph.forward(rows[start:stop]), whole[start:stop])
    backwards = graph.forward_columns([column[::-1] for column in rows.T])
    assert np.array_equal(backwards[::-1], whole)


def test_one_nan_makes_the_outputs_of_its_row_nan() -> None:
    vector = np.ones(3, "f")
    ops: list[Operator] = [Affine(np.ones((2, 3), "f"), np.zeros(2, "f")), LeakyRelu(0.0), PRelu(vector)]
    ops += [Normalize(1e-5, True), *(elementwise(kind, np.random.default_rng(0)) for kind in KINDS)]
    rows = np.ones((4, 3))
    rows[2] = np.nan
    for op in ops:
        found = Graph(3, F32, (Node(op, (0,)),)).forward(rows)
        assert np.isnan(found).all(axis=1).tolist() == [False, False, True, False], op


def test_every_op_computes_what_it_says() -> None:
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    vector = np.array([2.0, 4.0])
    nodes = (
        Node(Scale(vector), (0,)),
        Node(Divide(vector), (0,)),
        Node(Shift(vector), (0,)),
        Node(LeakyRelu(0.5), (0,)),
        Node(PRelu(-vector), (0,)),
        Node(Add(), (1, 2)),
        Node(Subtract(), (1, 2)),
        Node(Multiply(), (3, 4)),
        Node(Take((1, 1)), (5,)),
        Node(Normalize(1.0, True), (0,)),
        Node(Normalize(1.0, False), (0,)),
        Node(Elementwise("square"), (0,)),
        Node(Affine(np.array([[1.0, 1.0]]), np.array([0.5])), (0,)),
        Node(Concat(), tuple(range(6, 14))),
    )
    found = Graph(2, np.dtype(np.float64), nodes).forward(x)
    centre = x - x.mean(axis=1, keepdims=True)
    expected = [
        x * vector + x / vector,
        x * vector - x / vector,
        (x + vector) * np.where(x < 0, 0.5 * x, x),
        np.where(x < 0, -vector * x, x)[:, [1, 1]],
        centre / np.sqrt((centre**2).mean(axis=1, keepdims=True) + 1),
        x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1),
        x * x,
        x.sum(axis=1, keepdims=True) + 0.5,
    ]
    np.testing.assert_allclose(found, np.hstack(expected), rtol=1e-14)


def test_everything_that_matters_is_in_the_hash() -> None:
    one, other = np.ones(2, "f"), np.full(2, 2, "f")
    graphs = [
        (Node(Elementwise("tanh"), (0,)),),
        (Node(Elementwise("sigmoid"), (0,)),),
        (Node(Elementwise("elu", (1.0,)), (0,)),),
        (Node(Elementwise("elu", (0.5,)), (0,)),),
        (Node(Normalize(1e-5, True), (0,)),),
        (Node(Normalize(1e-5, False), (0,)),),
        (Node(Normalize(1e-6, False), (0,)),),
        (Node(Take((0, 1)), (0,)),),
        (Node(Take((1, 0)), (0,)),),
        (Node(PRelu(one), (0,)),),
        (Node(PRelu(other), (0,)),),
        (Node(Scale(one), (0,)),),
        (Node(Scale(other), (0,)), Node(Add(), (0, 1))),
        (Node(Scale(other), (0,)), Node(Add(), (1, 0))),
        (Node(Scale(other), (0,)), Node(Add(), (1, 1))),
    ]
    hashes = {Graph(2, F32, nodes).hash for nodes in graphs}
    hashes |= {Graph(3, F32, graphs[0]).hash, Graph(2, np.dtype(np.float64), graphs[0]).hash}
    network = Network(2, 2, F32, (Scale(one),))
    hashes |= {network.hash, *(Linked(network, Link(kind)).hash for kind in ("logistic", "softmax"))}
    assert len(hashes) == len(graphs) + 5


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(Add(), (0,)), "do not fit each other"),
        (Node(Add(), (0, 3)), "reads values"),
        (Node(Elementwise("tanh"), (0, 0)), "not one"),
        (Node(Elementwise("elu"), (0,)), "takes 1 numbers"),
        (Node(Elementwise("elu", (0.0,)), (0,)), "between"),
        (Node(Elementwise("clip", (1.0, 0.0)), (0,)), "ends before"),
        (Node(Elementwise("clip", (float("nan"), 0.0)), (0,)), "takes 2 numbers"),
        (Node(Take((2,)), (0,)), "positions"),
        (Node(Normalize(0.0, True), (0,)), "epsilon"),
        (Node(PRelu(np.array([np.inf, 1], "f")), (0,)), "NaN or infinite"),
        (Node(PRelu(np.ones(2)), (0,)), "float64"),
        (Node(Scale(np.ones(3, "f")), (0,)), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(node: Node, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Graph(2, F32, (node,))


def test_only_a_chain_of_its_ops_is_a_network() -> None:
    relu = Node(LeakyRelu(0.0), (0,))
    assert isinstance(network_of_graph(Graph(2, F32, (relu,))), Network)
    assert isinstance(network_of_graph(Graph(2, F32, (relu, Node(LeakyRelu(0.0), (0,))))), Graph)
    assert isinstance(network_of_graph(Graph(2, F32, (Node(Elementwise("tanh"), (0,)),))), Graph)


def test_a_sum_is_that_of_its_parts() -> None:
    one = Linked(Network(2, 1, F32, (Affine(np.array([[1, -1]], "f"), np.zeros(1, "f")),)), Link("logistic"))
    other = Graph(1, F32, (Node(Elementwise("tanh"), (0,)), Node(Add(), (0, 1))))
    whole = weighted_sum([(0.25, one, (2, 0)), (-2.0, other, (1,))], 3)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("f")
    expected = 0.25 * one.forward(x[:, [2, 0]]) - 2.0 * other.forward(x[:, [1]])
    np.testing.assert_allclose(whole.forward(x), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="one output"):
        weighted_sum([(1.0, Network(2, 2, F32, ()), (0, 1))], 2)
    with pytest.raises(ModelError, match="one type"):
        weighted_sum([(1.0, other, (0,)), (1.0, random_graph(0, "f8"), (0, 1))], 2)
