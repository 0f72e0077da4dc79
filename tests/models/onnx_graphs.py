"""ONNX chains for tests, built node by node, and the comparison of two runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)
NUMPY: dict[int, Any] = {FLOAT: np.float32, DOUBLE: np.float64}


class Graph:
    """Builds an ONNX chain node by node; `constant` alternates between initializers and Constant nodes."""

    def __init__(self, width: int, elem_type: int = FLOAT, rows: str | int = "n", opset: int = 17) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.elem_type, self.rows, self.opset, self.n_inputs = elem_type, rows, opset, width
        self.output_type = elem_type
        self.value, self.n_constants = "x", 0

    def constant(self, array: Any, dtype: Any = None) -> str:
        self.n_constants += 1
        name = f"c{self.n_constants}"
        tensor = numpy_helper.from_array(np.asarray(array, NUMPY[self.elem_type] if dtype is None else dtype), name)
        if self.n_constants % 2:
            self.initializers.append(tensor)
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> Graph:
        """Append a node; "" stands for the current value, no input at all for the current value alone."""
        output = f"v{len(self.nodes)}"
        names = [name or self.value for name in inputs or ("",)]
        self.nodes.append(helper.make_node(op, names, [output], name=f"{op}_{len(self.nodes)}", **attributes))
        self.value = output
        return self

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", self.elem_type, [self.rows, self.n_inputs])],
            [helper.make_tensor_value_info(self.value, self.output_type, None)],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def linear(graph: Graph, n_out: int = 2) -> Graph:
    return graph.add("MatMul", "", graph.constant(np.ones((graph.n_inputs, n_out))))


def assert_close(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    scale = np.abs(expected).max() + 1e-3
    np.testing.assert_allclose(got / scale, expected / scale, rtol=1e-5, atol=1e-5)
