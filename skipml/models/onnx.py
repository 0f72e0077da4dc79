"""ONNX files -> networks and graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models.chain import Built, Chain, Constant, Value
from skipml.models.files import read_model_file
from skipml.models.onnx_joins import JOINS
from skipml.models.onnx_operators import FLOATS, OPERATORS, Node

MAX_NODES = 10_000
MIN_OPSET = 7  # the oldest with numpy's broadcasting, and the oldest that onnxruntime answers for

_CONSTANT_TYPES: dict[int, np.dtype[Any]] = {
    **FLOATS,
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.BOOL: np.dtype(np.bool_),
}
_CONSTANT_OPERATORS: dict[str, tuple[int, Mapping[str, Any]]] = {
    "Cast": (1, {"to": 0, "saturate": 1, "round_mode": "up"}),
    "Constant": (
        0,
        {"value": TensorProto(), "value_float": 0.0, "value_floats": [0.0], "value_int": 0, "value_ints": [0]},
    ),
    "Identity": (1, {}),
    "Transpose": (1, {"perm": [1, 0]}),
}
_DAMAGED = "is the file damaged?"


def load_onnx(path: str | os.PathLike[str]) -> Built:
    """Read an ONNX file whose graph is feed-forward.

    Operators (default domain, opset 7 or newer): those of `onnx_operators.OPERATORS` and `onnx_joins.JOINS`: products
    with constant matrices, arithmetic with constants and between values, the usual activations, normalisation in
    inference mode, softmax at the end, and a Cast of the input to float32 or float64, which then is the type that is
    computed in. One input [rows, d], rows free or 1; one output tensor [rows, n] or [rows].

    Raises UnsupportedOperatorError, which names the operator, and ModelError, which names the file, for everything
    else: pickles, external data, subgraphs, weights that are not finite, shapes that do not fit, files that are not
    ONNX or too large.
    """
    path = Path(path)
    try:
        return read_network(_parse(read_model_file(path)))
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error


def read_network(model: onnx.ModelProto) -> Built:
    """The same of a model in memory."""
    _check(model)
    return _network(model)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError("not an ONNX model, or a truncated one; export it again") from error
    return model


def _check(model: onnx.ModelProto) -> None:
    if not is_text(model):
        raise ModelError(f"holds names that are not UTF-8; {_DAMAGED}")
    if not model.graph.output:
        raise ModelError("holds no ONNX graph; export the model again")
    if model.functions or model.training_info:
        raise ModelError(
            "holds functions or training information, which are not supported; export the model for inference, inlined"
        )
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(opsets) != 1 or not MIN_OPSET <= opsets[0] <= onnx.defs.onnx_opset_version():
        raise ModelError(
            f"uses opset {opsets}; export it with one from {MIN_OPSET} to {onnx.defs.onnx_opset_version()}"
        )
    if len(model.graph.node) > MAX_NODES:
        raise ModelError(f"has {len(model.graph.node)} nodes, more than the limit of {MAX_NODES}")
    if model.graph.sparse_initializer:
        raise ModelError("holds sparse weights, which are not supported; export dense ones")
    if len(model.graph.output) > 1:
        names = [output.name for output in model.graph.output]
        raise ModelError(f"has {len(names)} output tensors, {names}; export one output tensor with a column per score")


def is_text(model: onnx.ModelProto) -> bool:
    """Whether all names are text: protobuf hands out bytes where they are not UTF-8."""
    graph = model.graph
    values = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    dimensions = [dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim]
    nodes = [name for node in graph.node for name in (node.op_type, node.domain, node.name, *node.input, *node.output)]
    attributes = [attribute.name for node in graph.node for attribute in node.attribute]
    return all(isinstance(name, str) for name in (*values, *dimensions, *nodes, *attributes))


def _network(model: onnx.ModelProto) -> Built:
    """Walk the nodes: `constants` by name, and `values`, which depend on the row."""
    graph = model.graph
    constants: dict[str, Constant] = {}
    for tensor in graph.initializer:
        _define(constants, tensor.name, _array(tensor, f"initializer {tensor.name!r}"))
    name, chain, one_row = _input(graph, constants)
    values = {name: chain.value}
    for node in graph.node:
        where = _where(node)
        if not node.output:
            raise ModelError(f"{where}: has no output; {_DAMAGED}")
        if all(name in constants for name in node.input if name):
            _define(constants, node.output[0], _constant(node, constants, where))
        else:
            _append(chain, node, (values, constants, one_row))
    if graph.output[0].name not in values:
        raise ModelError(f"the output {graph.output[0].name!r} is not computed from the input; {_DAMAGED}")
    chain.go(values[graph.output[0].name])
    return chain.built()


def _input(graph: GraphProto, constants: Mapping[str, Constant]) -> tuple[str, Chain, bool]:
    """The name of the input, an empty chain for it, and whether it is one row at a time."""
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ModelError(
            f"has {len(inputs)} inputs, {[value.name for value in inputs]}; export one input [rows, columns]"
        )
    tensor = inputs[0].type.tensor_type
    where = f"input {inputs[0].name!r}"
    if tensor.elem_type not in FLOATS:
        raise ModelError(
            f"{where}: has type {_type_name(tensor.elem_type)}; export the model with a float or double input"
        )
    if not tensor.HasField("shape") or len(tensor.shape.dim) != 2:
        raise ModelError(
            f"{where}: has shape {_shape(inputs[0])}; export the model with an input of shape [rows, columns]"
        )
    rows, columns = tensor.shape.dim
    if not 0 < columns.dim_value <= 2**31:
        raise ModelError(f"{where}: has shape {_shape(inputs[0])}; export the model with a fixed number of columns")
    if rows.HasField("dim_value") and rows.dim_value not in (0, 1, -1):
        raise ModelError(
            f"{where}: has shape {_shape(inputs[0])}; export the model with a free number of rows, or with 1"
        )
    return inputs[0].name, Chain(columns.dim_value, FLOATS[tensor.elem_type]), rows.dim_value == 1


def _append(chain: Chain, node: NodeProto, state: tuple[dict[str, Value], Mapping[str, Constant], bool]) -> None:
    """Append a node that reads values, and note what it writes."""
    values, constants, one_row = state
    where = _where(node)
    is_ours = node.domain in ("", "ai.onnx")
    computed = [name for name in node.input if name and name not in constants]
    join = JOINS.get(node.op_type) if is_ours and (len(computed) > 1 or node.op_type not in OPERATORS) else None
    operator = OPERATORS.get(node.op_type) if is_ours and join is None else None
    if operator is None and join is None:
        raise _unsupported(node, f"supported are {', '.join(sorted({*OPERATORS, *JOINS}))}")
    missing = [name for name in computed if name not in values]
    if missing:
        raise ModelError(f"{where}: reads {missing}, which no node before it writes; {_DAMAGED}")
    inputs = tuple(constants.get(name) for name in node.input)
    if join is not None:
        if not join.n_inputs[0] <= len(node.input) <= join.n_inputs[1] or not all(node.input):
            raise ModelError(f"{where}: has {len(node.input)} inputs; {_DAMAGED}")
        read = tuple(values.get(name) for name in node.input)
        attributes = _attributes(node, join.attributes)
        written = join.append(chain, read, Node(where, inputs, attributes, one_row, len(node.output)))
    else:
        assert operator is not None
        if len(computed) != 1 or (node.input[0] != computed[0] and not operator.either_side):
            raise ModelError(f"{where}: reads the computed values {computed} where it may read one")
        if not operator.n_inputs[0] <= len(node.input) <= operator.n_inputs[1]:
            raise ModelError(f"{where}: has {len(node.input)} inputs; {_DAMAGED}")
        chain.go(values[computed[0]])
        operator.append(chain, Node(where, inputs, _attributes(node, operator.attributes), one_row))
        written = [chain.value]
    for name, value in zip(node.output, written, strict=False):
        if name in constants or name in values:
            raise ModelError(f"{where}: defines {name!r} a second time; {_DAMAGED}")
        if name:
            values[name] = value


def _constant(node: NodeProto, constants: Mapping[str, Constant], where: str) -> Constant:
    """The value of a node that reads only constants."""
    if node.op_type not in _CONSTANT_OPERATORS or node.domain not in ("", "ai.onnx"):
        raise _unsupported(node, f"on constants, supported are {', '.join(_CONSTANT_OPERATORS)}")
    n_inputs, defaults = _CONSTANT_OPERATORS[node.op_type]
    attributes = _attributes(node, defaults)
    if len(node.input) != n_inputs or (n_inputs and not node.input[0]) or (not n_inputs and len(node.attribute) != 1):
        raise ModelError(f"{where}: has {len(node.input)} inputs and {len(node.attribute)} attributes; {_DAMAGED}")
    if node.op_type == "Constant":
        return _constant_value(node.attribute[0].name, attributes, where)
    value = constants[node.input[0]]
    if node.op_type == "Cast":
        dtype = _CONSTANT_TYPES.get(attributes["to"])
        if dtype is None:
            raise _unsupported(node, f"a constant cannot be of type {_type_name(attributes['to'])}")
        with np.errstate(over="ignore", invalid="ignore"):
            converted: Constant = value.astype(dtype)
        return converted
    if node.op_type == "Transpose" and (value.ndim != 2 or list(attributes["perm"]) != [1, 0]):
        raise _unsupported(node, "only a constant matrix can be transposed")
    return value.T if node.op_type == "Transpose" else value


def _constant_value(name: str, attributes: Mapping[str, Any], where: str) -> Constant:
    if name == "value":
        return _array(attributes[name], where)
    with np.errstate(over="ignore"):
        return np.array(attributes[name], np.float32 if name.startswith("value_float") else np.int64)


def _define(constants: dict[str, Constant], name: str, value: Constant) -> None:
    if not name or name in constants:
        raise ModelError(f"the constant {name!r} has no name or is defined twice; {_DAMAGED}")
    constants[name] = value


def _array(tensor: TensorProto, where: str) -> Constant:
    """The values of a tensor that lies in the file itself."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"{where}: keeps its values in another file, which is refused; export the weights inside the ONNX file"
        )
    dtype = _CONSTANT_TYPES.get(tensor.data_type)
    if dtype is None:
        raise ModelError(
            f"{where}: has type {_type_name(tensor.data_type)}; export the model with float or double weights"
        )
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{where}: its values do not fit its shape {list(tensor.dims)}; {_DAMAGED}") from error
    if array.dtype != dtype or array.shape != tuple(tensor.dims):
        raise ModelError(f"{where}: its values do not fit its shape {list(tensor.dims)}; {_DAMAGED}")
    return array


def _attributes(node: NodeProto, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a node over their defaults; an unknown one, or one of another type, is refused."""
    values = dict(defaults)
    for attribute in node.attribute:
        default = defaults.get(attribute.name)
        value = _value(attribute)
        if default is None or value is None or type(value) is not type(default):
            raise UnsupportedOperatorError(
                f"{_where(node)}: attribute {attribute.name!r} is not supported in this form"
            )
        values[attribute.name] = value
    return values


def _value(attribute: AttributeProto) -> Any:
    """A number, text, list of numbers or tensor; None for graphs, references and everything else."""
    if attribute.ref_attr_name:
        return None
    match attribute.type:
        case AttributeProto.FLOAT:
            return attribute.f
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.STRING:
            return attribute.s.decode("utf-8", "replace")
        case AttributeProto.FLOATS:
            return list(attribute.floats)
        case AttributeProto.INTS:
            return list(attribute.ints)
        case AttributeProto.TENSOR:
            return attribute.t
    return None


def _unsupported(node: NodeProto, advice: str) -> UnsupportedOperatorError:
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return UnsupportedOperatorError(f"{_where(node)}: operator {operator} is not supported; {advice}")


def _where(node: NodeProto) -> str:
    return (
        f"{node.op_type} node {node.name!r}"
        if node.name
        else f"{node.op_type} node that writes {', '.join(node.output)!r}"
    )


def _type_name(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"number {number}"


def _shape(value: ValueInfoProto) -> list[int | str]:
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim
    ]
