"""What an ONNX file holds, whether or not it is evaluated: inputs, outputs, size, operators, what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx
from onnx import TensorProto, ValueInfoProto

from skipml.models.onnx_ml import is_ml, refused_operators
from skipml.models.onnx_operators import OPERATORS
from skipml.models.onnx_scores import as_neural

_ON_CONSTANTS = ("Constant", "Transpose", "Cast", "Identity")


def onnx_facts(model: onnx.ModelProto) -> dict[str, Any]:
    """Plain values; `refused` names every operator that is not evaluated, with what would work instead."""
    graph, neural = model.graph, as_neural(model) if is_ml(model) else model
    constants = {tensor.name for tensor in graph.initializer}
    return {
        "graph_inputs": [_text(value) for value in graph.input if value.name not in constants],
        "graph_outputs": [_text(value) for value in graph.output],
        "bytes": model.ByteSize(),
        "operators": dict(Counter(node.op_type for node in graph.node)),
        "refused": refused_operators(model) if neural is None else _refused_neural(neural.graph),
    }


def _refused_neural(graph: onnx.GraphProto) -> list[str]:
    known = ", ".join(OPERATORS)
    kinds = dict.fromkeys((node.domain, node.op_type) for node in graph.node)
    return [
        f"{op} ({domain or 'ai.onnx'}) is not evaluated: supported are {known}"
        for domain, op in kinds
        if domain not in ("", "ai.onnx") or (op not in OPERATORS and op not in _ON_CONSTANTS)
    ]


def _text(value: ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return f"{value.name}: {value.type.WhichOneof('value')}"
    shape = ", ".join(str(dim.dim_value) if dim.dim_value > 0 else "rows" for dim in tensor.shape.dim)
    names = {number: name.lower() for name, number in TensorProto.DataType.items()}
    return f"{value.name}: {names.get(tensor.elem_type, tensor.elem_type)} [{shape}]"
