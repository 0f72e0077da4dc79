"""ONNX files that are read: the same numbers as onnxruntime, ops in executed order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from skipml.models import load_onnx
from skipml.models.chain import Built
from skipml.network import Affine, Divide, LeakyRelu, Network, Scale, Shift
from tests.models.onnx_graphs import DOUBLE, FLOAT, NUMPY, Graph, assert_close, linear, save


def assert_like_onnxruntime(graph: Graph, folder: Path) -> Built:
    model = graph.model()
    network = load_onnx(save(model, folder))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = (
        np.random.default_rng(0)
        .normal(size=(1 if graph.rows == 1 else 50, network.n_inputs))
        .astype(NUMPY[graph.elem_type])
    )
    (expected,) = session.run(None, {"x": rows})
    assert_close(network.forward(rows), expected.reshape(len(rows), -1))
    return network


def network_like_onnxruntime(graph: Graph, folder: Path) -> Network:
    network = assert_like_onnxruntime(graph, folder)
    assert isinstance(network, Network)
    return network


@st.composite
def onnx_chains(draw: st.DrawFn) -> Graph:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 5))
    rows: str | int = draw(st.just("n") | st.just(1))
    graph = Graph(width, draw(st.sampled_from([FLOAT, DOUBLE])), rows, draw(st.sampled_from([9, 13, 17, 21])))

    def vector() -> str:
        shape = draw(st.sampled_from([(), (1,), (width,), (1, width), (1, 1)]))
        return graph.constant(rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape))

    kinds = ["Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "LeakyRelu", "Reshape"]
    for kind in draw(
        st.lists(st.sampled_from([*kinds, "Relu", "Flatten", "Identity", "Dropout"]), min_size=1, max_size=8)
    ):
        if kind == "Gemm":
            before, width = width, draw(st.integers(1, 6))
            transposed = draw(st.booleans())
            weight = graph.constant(rng.normal(size=(width, before) if transposed else (before, width)))
            bias = [vector()] if graph.opset < 11 or draw(st.booleans()) else []
            scales = draw(st.sampled_from([{}, {"alpha": 0.3}, {"beta": 0.7}, {"alpha": -2.0, "beta": 3.0}]))
            graph.add("Gemm", "", weight, *bias, transB=int(transposed), **scales)
        elif kind == "MatMul":
            before, width = width, draw(st.integers(1, 6))
            graph.add("MatMul", "", graph.constant(rng.normal(size=(before, width))))
        elif kind in ("Add", "Sub", "Mul", "Div"):
            constant_first = kind != "Div" and draw(st.booleans())
            graph.add(kind, *((vector(), "") if constant_first else ("", vector())))
        elif kind == "Reshape":
            shape = draw(st.sampled_from([[-1, width], [0, -1], [0, width]]))
            graph.add("Reshape", "", graph.constant(shape, np.int64))
        elif kind == "LeakyRelu" and graph.elem_type == FLOAT:  # onnxruntime has none for doubles
            graph.add(kind, **draw(st.sampled_from([{}, {"alpha": 0.0}, {"alpha": 0.5}, {"alpha": 1.0}])))
        elif kind != "LeakyRelu":
            graph.add(kind)
    return graph


@given(onnx_chains())
@settings(max_examples=150, deadline=None)
def test_chains_compute_what_onnxruntime_computes(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    assert_like_onnxruntime(graph, tmp_path_factory.getbasetemp())


def test_ops_keep_their_order_and_nothing_is_folded(tmp_path: Path) -> None:
    graph = Graph(2)
    graph.add("Sub", "", graph.constant([1, 2])).add("Div", "", graph.constant([3, 4]))
    graph.add("Gemm", "", graph.constant(np.eye(2)), graph.constant([5, 6])).add("Relu")
    graph.add("MatMul", "", graph.constant(np.ones((2, 3)))).add("Add", graph.constant(1), "")
    graph.add("Sub", graph.constant(7), "")
    network = network_like_onnxruntime(graph, tmp_path)
    assert [type(op) for op in network.ops] == [Shift, Divide, Affine, LeakyRelu, Affine, Shift, Scale, Shift]
    assert (network.n_inputs, network.n_outputs, network.dtype.name) == (2, 3, "float32")
    assert isinstance(network.ops[2], Affine)
    assert network.ops[2].bias.tolist() == [5, 6]


def test_gemm_with_alpha_and_beta_scales_after_the_sum(tmp_path: Path) -> None:
    graph = Graph(2)
    network = network_like_onnxruntime(
        graph.add("Gemm", "", graph.constant(np.eye(2)), graph.constant([1, 2]), alpha=0.1, beta=3.0), tmp_path
    )
    assert [type(op) for op in network.ops] == [Affine, Scale, Shift]


@pytest.mark.parametrize("shared", ["Identity", "Transpose", "Cast"])
def test_constants_may_pass_through_operators(tmp_path: Path, shared: str) -> None:
    graph = Graph(2)
    weight = graph.constant([[1, 2], [3, 4]], np.float64 if shared == "Cast" else np.float32)
    attributes: dict[str, Any] = {"to": FLOAT} if shared == "Cast" else {}
    graph.nodes.append(helper.make_node(shared, [weight], ["w"], **attributes))
    assert_like_onnxruntime(graph.add("MatMul", "", "w"), tmp_path)


@pytest.mark.parametrize("last", ["vector", "reshape", "squeeze", "squeeze_attribute"])
def test_a_single_output_may_lose_its_axis(tmp_path: Path, last: str) -> None:
    graph = Graph(2, opset=11 if last == "squeeze_attribute" else 17)
    if last == "vector":
        graph.add("MatMul", "", graph.constant([2, 3]))
    else:
        linear(graph, 1)
    if last == "reshape":
        graph.add("Reshape", "", graph.constant([-1], np.int64))
    elif last == "squeeze":
        graph.add("Squeeze", "", graph.constant([1], np.int64))
    elif last == "squeeze_attribute":
        graph.add("Squeeze", axes=[1])
    assert assert_like_onnxruntime(graph.add("Mul", "", graph.constant(2)), tmp_path).n_outputs == 1


@pytest.mark.parametrize(("given_type", "cast_to"), [(DOUBLE, FLOAT), (FLOAT, DOUBLE), (FLOAT, FLOAT)])
def test_the_input_may_be_cast_once(tmp_path: Path, given_type: int, cast_to: int) -> None:
    graph = Graph(2, given_type).add("Cast", to=cast_to)
    graph.output_type = cast_to
    graph.add("MatMul", "", graph.constant(np.ones((2, 1)), NUMPY[cast_to])).add("Cast", to=cast_to)
    assert assert_like_onnxruntime(graph, tmp_path).dtype == NUMPY[cast_to]


@pytest.mark.parametrize("opset", [7, 12, 13, 22])
def test_dropout_in_inference_mode_is_nothing(tmp_path: Path, opset: int) -> None:
    graph = linear(Graph(2, opset=opset))
    inputs = ("", graph.constant(0.5, np.float32), graph.constant(False, np.bool_)) if opset >= 12 else ("",)
    assert len(network_like_onnxruntime(graph.add("Dropout", *inputs), tmp_path).ops) == 1


def test_initializers_that_are_also_listed_as_inputs(tmp_path: Path) -> None:
    model = linear(Graph(2)).model()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "extra"))
    model.graph.input.append(helper.make_tensor_value_info("extra", FLOAT, [1]))
    assert load_onnx(save(model, tmp_path)).n_outputs == 2
