"""Model files that are refused: with an error that names the file and says why, and nothing in them is run."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models import load_onnx
from skipml.models import onnx as onnx_reader
from tests.models.onnx_graphs import DOUBLE, FLOAT, Graph, linear, save


def unary(op: str, **attributes: Any) -> Callable[[Graph], Graph]:
    return lambda graph: graph.add(op, **attributes)


UNSUPPORTED: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "a custom domain": (unary("Gelu", domain="com.microsoft"), "com.microsoft::Gelu"),
    "relu of a custom domain": (unary("Relu", domain="evil"), "evil::Relu"),
    "batch normalisation in training": (
        lambda g: g.add("BatchNormalization", "", *(g.constant([1, 1]) for _ in range(4)), training_mode=1),
        "inference mode",
    ),
    "softmax inside": (lambda g: g.add("Softmax").add("Relu"), "at the end only"),
    "other power": (lambda g: g.add("Pow", "", g.constant(3)), "power of 2"),
    "quotient": (lambda g: g.add("Relu").add("Div", "x", ""), "quotient"),
    "computed and constant parts": (lambda g: g.add("Concat", "", g.constant([[1, 1]]), axis=1), "with constants"),
    "reversed columns": (lambda g: g.add("Slice", "", *(g.constant([i], np.int64) for i in (1, -9, 1, -1))), "run of"),
    "slope NaN": (unary("LeakyRelu", alpha=float("nan")), "nan"),
    "constant divided by the value": (lambda g: g.add("Div", g.constant(1), ""), "constant divided"),
    "transposed input": (lambda g: g.add("Gemm", "", g.constant(np.eye(2)), transA=1), "transA"),
    "weight on the left": (lambda g: g.add("MatMul", g.constant(np.eye(2)), ""), "on the right"),
    "cast to int": (unary("Cast", to=TensorProto.INT64), "cast"),
    "cast to float16": (unary("Cast", to=TensorProto.FLOAT16), "cast"),
    "cast in the middle": (lambda g: linear(g).add("Cast", to=DOUBLE), "cast"),
    "two casts": (lambda g: g.add("Cast", to=DOUBLE).add("Cast", to=FLOAT), "cast"),
    "random constants": (lambda g: g.add("Add", "", _node_output(g, "RandomNormal", shape=[2])), "RandomNormal"),
    "computed constants": (lambda g: g.add("Add", "", _node_output(g, "Exp", g.constant([1, 2]))), "Exp"),
    "training dropout": (lambda g: g.add("Dropout", "", g.constant(0.5), g.constant(True, np.bool_)), "training"),
    "unknown attribute": (unary("Relu", surprise=1), "surprise"),
    "attribute of another type": (unary("LeakyRelu", alpha=1), "alpha"),
}

REFUSED: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "rows in a row": (lambda g: g.add("Relu").add("Concat", "x", "", axis=0), "behind each other"),
    "parts that do not fit": (lambda g: g.add("Split", "", g.constant([1, 2], np.int64), axis=1), "do not fit"),
    "columns that are not there": (lambda g: g.add("Gather", "", g.constant([2], np.int64), axis=1), "damaged"),
    "values of two widths": (lambda g: linear(g, 3).add("Add", "x", ""), "do not fit"),
    "weight of another width": (lambda g: g.add("MatMul", "", g.constant(np.ones((3, 2)))), "does not fit"),
    "constant of another width": (lambda g: g.add("Add", "", g.constant([1, 2, 3])), "does not fit"),
    "constant that adds columns": (lambda g: linear(g, 1).add("Add", "", g.constant([1, 2])), "does not fit"),
    "constant per row": (lambda g: g.add("Add", "", g.constant([[1], [2]])), "does not fit"),
    "constant of three axes": (lambda g: g.add("Add", "", g.constant(np.ones((1, 1, 2)))), "does not fit"),
    "empty constant": (lambda g: g.add("Add", "", g.constant(np.ones((0,)))), "does not fit"),
    "weight without outputs": (lambda g: g.add("MatMul", "", g.constant(np.ones((2, 0)))), "does not fit"),
    "NaN weight": (lambda g: g.add("MatMul", "", g.constant([[np.nan], [1]])), "NaN or infinite"),
    "infinite constant": (lambda g: g.add("Add", "", g.constant([np.inf, 1])), "NaN or infinite"),
    "division by zero": (lambda g: g.add("Div", "", g.constant([1, 0])), "zero"),
    "integer constant": (lambda g: g.add("Add", "", g.constant([1, 2], np.int64)), "int64"),
    "double weight": (lambda g: g.add("MatMul", "", g.constant(np.eye(2), np.float64)), "float64"),
    "half weight": (lambda g: g.add("Add", "", g.constant([1, 2], np.float16)), "FLOAT16"),
    "reshape that mixes rows": (lambda g: g.add("Reshape", "", g.constant([-1, 1], np.int64)), "row of 2"),
    "reshape to one row": (lambda g: g.add("Reshape", "", g.constant([1, -1], np.int64)), "number of rows"),
    "reshape to a vector": (lambda g: g.add("Reshape", "", g.constant([-1], np.int64)), "row of 2"),
    "reshape to nothing": (lambda g: g.add("Reshape", "", g.constant([0, 2], np.int64), allowzero=1), "number of rows"),
    "computed shape": (lambda g: g.add("Reshape", "", ""), "may read one"),
    "flatten all": (unary("Flatten", axis=0), "mix rows"),
    "squeeze rows": (lambda g: g.add("Squeeze", "", g.constant([0], np.int64)), "mix rows"),
    "product over rows": (
        lambda g: linear(g, 1).add("Reshape", "", g.constant([-1], np.int64)).add("MatMul", "", g.constant([[1]])),
        "mix rows",
    ),
    "missing operand": (lambda g: g.add("Add"), "inputs"),
    "too many inputs": (lambda g: g.add("Relu", "", g.constant(1)), "inputs"),
    "undefined input": (lambda g: g.add("Add", "", "nowhere"), "no node before it"),
}


def _node_output(graph: Graph, op: str, *inputs: str, **attributes: Any) -> str:
    graph.nodes.append(helper.make_node(op, list(inputs), ["made"], **attributes))
    return "made"


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported_operators_are_named(tmp_path: Path, case: str) -> None:
    build, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedOperatorError, match=message) as caught:
        load_onnx(save(build(Graph(2)).model(), tmp_path))
    assert "model.onnx" in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_graphs_that_are_no_chain_are_refused(tmp_path: Path, case: str) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        load_onnx(save(build(Graph(2)).model(), tmp_path))
    assert "model.onnx" in str(caught.value)


def _edited(edit: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    graph = linear(Graph(2))
    graph.add("Add", "", graph.constant([1, 2]))
    model = graph.model()
    edit(model)
    return model


def _tensors(model: onnx.ModelProto) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    """One initializer and one Constant attribute."""
    return model.graph.initializer[0], next(node for node in model.graph.node if node.op_type == "Constant").attribute[
        0
    ].t


def _shape(model: onnx.ModelProto, *sizes: str | int, elem_type: int = FLOAT) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", elem_type, list(sizes)))


def _external(tensor: onnx.TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _subgraph(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[-1].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.CopyFrom(helper.make_graph([], "inner", [], []))


EDITS: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "external initializer": (lambda m: _external(_tensors(m)[0]), "another file"),
    "external Constant": (lambda m: _external(_tensors(m)[1]), "another file"),
    "external entries alone": (lambda m: _tensors(m)[0].external_data.add(key="location", value="f"), "another file"),
    "function": (lambda m: m.functions.add(name="f", domain="d"), "functions"),
    "training": (lambda m: m.training_info.add(), "training"),
    "subgraph": (_subgraph, "body"),
    "sparse weights": (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    "two outputs": (
        lambda m: m.graph.output.append(helper.make_tensor_value_info("x", FLOAT, None)),
        "2 output tensors",
    ),
    "other output": (
        lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("nowhere", FLOAT, None)),
        "not computed from the input",
    ),
    "two inputs": (lambda m: m.graph.input.append(helper.make_tensor_value_info("y", FLOAT, ["n", 2])), "2 inputs"),
    "no input": (lambda m: m.graph.ClearField("input"), "0 inputs"),
    "image input": (lambda m: _shape(m, "n", 3, 8, 8), "shape"),
    "vector input": (lambda m: _shape(m, 2), "shape"),
    "free columns": (lambda m: _shape(m, "n", "d"), "fixed number of columns"),
    "fixed batch": (lambda m: _shape(m, 32, 2), "free number of rows"),
    "integer input": (lambda m: _shape(m, "n", 2, elem_type=TensorProto.INT64), "INT64"),
    "half input": (lambda m: _shape(m, "n", 2, elem_type=TensorProto.FLOAT16), "FLOAT16"),
    "input without a shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "shape"),
    "input without a type": (lambda m: m.graph.input[0].ClearField("type"), "UNDEFINED"),
    "old opset": (lambda m: m.opset_import[0].CopyFrom(helper.make_opsetid("", 6)), "opset"),
    "new opset": (lambda m: m.opset_import[0].CopyFrom(helper.make_opsetid("", 10_000)), "opset"),
    "no opset": (lambda m: m.ClearField("opset_import"), "opset"),
    "shape larger than the data": (lambda m: _tensors(m)[0].dims.append(1 << 40), "do not fit"),
    "negative shape": (lambda m: _tensors(m)[0].dims.append(-3), "do not fit"),
    "text weights": (lambda m: setattr(_tensors(m)[0], "data_type", TensorProto.STRING), "STRING"),
    "weights of an unknown type": (lambda m: setattr(_tensors(m)[0], "data_type", 12345), "12345"),
    "node without output": (lambda m: m.graph.node[-1].ClearField("output"), "no output"),
    "value defined twice": (
        lambda m: m.graph.node.append(
            helper.make_node("Relu", [m.graph.output[0].name], [m.graph.initializer[0].name])
        ),
        "second time",
    ),
    "constant defined twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "twice"),
}


@pytest.mark.parametrize("case", EDITS)
def test_files_beyond_the_rules_are_refused(tmp_path: Path, case: str) -> None:
    edit, message = EDITS[case]
    with pytest.raises(ModelError, match=message):
        load_onnx(save(_edited(edit), tmp_path))


def test_file_and_node_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = linear(Graph(2))
    for _ in range(onnx_reader.MAX_NODES):
        graph.add("Relu")
    with pytest.raises(ModelError, match="nodes"):
        load_onnx(save(graph.model(), tmp_path))
    monkeypatch.setattr("skipml.models.files.MAX_FILE_BYTES", 100)
    with pytest.raises(ModelError, match="larger than"):
        load_onnx(save(linear(Graph(2)).model(), tmp_path))


@pytest.mark.parametrize("data", [b"", b"hello, world\n", b"\x00" * 64, b"PAR1" + b"\x15\x04" * 30, b"{}", b"\xff" * 9])
def test_files_that_are_not_onnx(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="ONNX"):
        load_onnx(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="regular file"):
        load_onnx(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = _edited(lambda model: None).SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(len(data) - 20):  # the opset import comes last
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            load_onnx(path)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_give_a_network_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(_edited(lambda model: None).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        assert load_onnx(path).n_inputs >= 1


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".pkl", ".joblib"])
@pytest.mark.parametrize("form", ["pickle", "torch", "zip", "gzip", "protocol 0"])
def test_pickles_are_never_executed(tmp_path: Path, suffix: str, form: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / f"model{suffix}"
    content = pickle.dumps(Payload(marker), protocol=0 if form == "protocol 0" else 4)
    if form == "torch":
        torch.save(Payload(marker), path)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", content)
    else:
        path.write_bytes(gzip.compress(content) if form == "gzip" else content)
    with pytest.raises(ModelError, match=r"ONNX|onnx"):
        load_onnx(path)
    assert not marker.exists()
