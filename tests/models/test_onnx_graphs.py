"""ONNX graphs with other activations, branches and normalisation: the same numbers as onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from skipml.graph import Elementwise
from skipml.graph import Graph as OpGraph
from skipml.linked import Linked
from skipml.models import load_onnx
from skipml.network import Network
from tests.models.onnx_graphs import FLOAT, Graph, linear, save
from tests.models.test_onnx import assert_like_onnxruntime

_RNG = np.random.default_rng(5)


def _layer(graph: Graph, n_out: int) -> Graph:
    weight, bias = _RNG.normal(size=(3, n_out)), _RNG.normal(size=n_out)
    return graph.add("Gemm", "", graph.constant(weight), graph.constant(bias))


def _integers(graph: Graph, *numbers: int) -> str:
    return graph.constant(list(numbers), np.int64)


def _gelu_by_erf(g: Graph) -> Graph:
    x = g.value
    g.add("Div", "", g.constant(np.float32(2**0.5))).add("Erf").add("Add", "", g.constant(1)).add("Mul", x, "")
    return g.add("Mul", "", g.constant(0.5))


def _softsign(g: Graph) -> Graph:
    x = g.value
    return g.add("Abs").add("Add", "", g.constant(1)).add("Div", x, "")


def _parts(g: Graph) -> Graph:
    g.nodes.append(helper.make_node("Split", [g.value, _integers(g, 1, 2)], ["left", "right"], axis=1))
    return g.add("Mul", "right", "left").add("Concat", "left", "", "x", axis=-1)


def _slices(g: Graph) -> Graph:
    x = g.value
    g.add("Slice", "", _integers(g, -2), _integers(g, 100), _integers(g, 1))
    part = g.value
    return g.add("Gather", x, _integers(g, 2, 0), axis=1).add("Sub", "", part)


def _alone(name: str) -> Callable[[Graph], Graph]:
    return lambda g: g.add(name)


_SIMPLE = ("Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "HardSwish", "Selu", "Abs", "Exp", "Neg", "Mish")
CASES: dict[str, Callable[[Graph], Graph]] = {
    **{name: _alone(name) for name in _SIMPLE},
    "Elu": lambda g: g.add("Elu", alpha=0.7),
    "HardSigmoid": lambda g: g.add("HardSigmoid", alpha=0.3, beta=0.4),
    "Log": lambda g: g.add("Abs").add("Add", "", g.constant(0.5)).add("Log"),
    "Clip": lambda g: g.add("Clip", "", g.constant(-0.5), g.constant(0.7)),
    "Clip below": lambda g: g.add("Clip", "", g.constant(0)),
    "PRelu": lambda g: g.add("PRelu", "", g.constant([0.1, -0.4, 1.5])),
    "LeakyRelu steep": lambda g: g.add("LeakyRelu", alpha=1.5),
    "Gelu by erf": _gelu_by_erf,
    "Softsign by abs": _softsign,
    "Silu": lambda g: g.add("Sigmoid").add("Mul", "", g.nodes[-1].input[0]),
    "Square": lambda g: g.add("Pow", "", g.constant(2)).add("Mul", "", "x"),
    "Residual": lambda g: g.add("Tanh").add("Add", "x", ""),
    "Product of branches": lambda g: g.add("Tanh").add("Mul", "x", ""),
    "Parts": _parts,
    "Slices": _slices,
    "Softmax": lambda g: g.add("Softmax", axis=1),
    "BatchNormalization": lambda g: g.add(
        "BatchNormalization", "", *(g.constant(c) for c in ([1, 2, -1], [0, 1, 2], [0.5, 1, 2], [1, 4, 0.3]))
    ),
    "LayerNormalization": lambda g: g.add("LayerNormalization", "", g.constant([1, 2, -1]), g.constant([0, 1, 2])),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_operator_computes_what_onnxruntime_computes(tmp_path: Path, case: str) -> None:
    opset = 18 if case == "Mish" else 17
    graph = CASES[case](_layer(Graph(3, FLOAT, opset=opset), 3))
    assert_like_onnxruntime(graph, tmp_path)


def test_what_is_a_chain_stays_a_network(tmp_path: Path) -> None:
    graph = linear(Graph(2), 3)
    dead = graph.value
    graph.add("Relu")
    kept = graph.value
    graph.add("Tanh", dead)
    graph.value = kept
    network = load_onnx(save(graph.model(), tmp_path))
    assert isinstance(network, Network)
    assert network.hash == load_onnx(save(linear(Graph(2), 3).add("Relu").model(), tmp_path)).hash


def test_probabilities_keep_the_network_before_them(tmp_path: Path) -> None:
    for name in ("Sigmoid", "Softmax"):
        found = load_onnx(save(linear(Graph(2), 3).add(name).model(), tmp_path))
        assert isinstance(found, Linked)
        assert isinstance(found.network, Network)


@pytest.mark.parametrize(("case", "kind"), [("Silu", "silu"), ("Gelu by erf", "gelu"), ("Softsign by abs", "softsign")])
def test_functions_spelled_out_are_recognised(tmp_path: Path, case: str, kind: str) -> None:
    found = load_onnx(save(CASES[case](_layer(Graph(3), 3)).model(), tmp_path))
    assert isinstance(found, OpGraph)
    assert any(isinstance(node.op, Elementwise) and node.op.kind == kind for node in found.nodes)
