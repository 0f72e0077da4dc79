"""Networks that skl2onnx exports: the scores alone, without the operators of ai.onnx.ml that look up a class or scale.

Labels are left out, as they follow from scores. Of two classes the score is the second's probability, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from skipml.errors import UnsupportedOperatorError
from skipml.models.chain import Built
from skipml.models.onnx import is_text, read_network
from skipml.models.onnx_ml import ML

_LABELS = (TensorProto.INT64, TensorProto.STRING)


def read_scores(model: onnx.ModelProto) -> Built | None:
    """The network of the scores, None where they need more of ai.onnx.ml than numbers scaled in float32.

    Raises ModelError as `load_onnx` does, and UnsupportedOperatorError where each row has several labels.
    """
    neural = as_neural(model)
    if neural is None:
        return None
    built = read_network(neural)
    if neural.graph.output[0].type.tensor_type.HasField("shape") and built.n_outputs != 1:
        raise UnsupportedOperatorError(f"gives each row {built.n_outputs} labels: export one model for each")
    return built


def as_neural(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph of the scores, None where they need more of ai.onnx.ml; its output has a shape if it is to be one
    column.
    """
    graph, outputs = model.graph, list(model.graph.output)
    if len(outputs) == 2 and outputs[0].type.tensor_type.elem_type in _LABELS:
        outputs = outputs[1:]
    if len(outputs) != 1 or not is_text(model):
        return None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    is_float = all(v.type.tensor_type.elem_type == TensorProto.FLOAT for v in graph.input if v.name not in constants)
    scores, shape = _scores(outputs[0].name, {name: node for node in graph.node for name in node.output}, constants)
    kept, used = _needed(graph.node, scores)
    if any(node.domain == ML and not (is_float and _is_scaler(node)) for node in kept):
        return None
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:], found.graph.output[:], found.graph.initializer[:]
    found.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in used)
    for node in kept:
        found.graph.node.extend(_scaled(node) if _is_scaler(node) else [node])
    found.graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, shape))
    return found


def _scores(
    name: str, writers: Mapping[str, NodeProto], constants: Mapping[str, TensorProto]
) -> tuple[str, tuple[None, int] | None]:
    """What is scored of an output, and its shape if it is one column: the numbers in a ZipMap, of 1 - p and p the
    second.
    """
    last = writers.get(name)
    if last is not None and (last.domain, last.op_type, len(last.input)) == (ML, "ZipMap", 1):
        name = last.input[0]
        last = writers.get(name)
    if last is None or last.op_type != "Concat" or len(last.input) != 2:
        return name, None
    other = writers.get(last.input[0])
    if other is None or other.op_type != "Sub" or len(other.input) != 2 or other.input[1] != last.input[1]:
        return name, None
    return (last.input[1], (None, 1)) if _is_one(constants.get(other.input[0])) else (name, None)


def _is_one(tensor: TensorProto | None) -> bool:
    if tensor is None or tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return False
    is_raw = tensor.raw_data in (np.float32(1).tobytes(), np.float64(1).tobytes())
    return is_raw or [*tensor.float_data, *tensor.double_data] == [1]


def _needed(nodes: Iterable[NodeProto], name: str) -> tuple[list[NodeProto], set[str]]:
    """The nodes that a value is computed by, in their order, and all that they read."""
    kept, used = list[NodeProto](), {name}
    for node in reversed(list(nodes)):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    return kept[::-1], used


def _is_scaler(node: NodeProto) -> bool:
    return (node.domain, node.op_type, len(node.input), len(node.output)) == (ML, "Scaler", 1, 1)


def _scaled(node: NodeProto) -> list[NodeProto]:
    """(x - offset) * scale, each rounded to float32, as onnxruntime computes a Scaler."""
    given = {a.name: np.array(a.floats, np.float32) for a in node.attribute}
    moved, to = f"{node.output[0]}/moved", node.output[0]
    names = {name: f"{to}/{name}" for name in ("offset", "scale")}
    constants = [
        helper.make_node("Constant", [], [names[k]], value=numpy_helper.from_array(given.get(k, np.zeros(0, "f"))))
        for k in names
    ]
    return [
        *constants,
        helper.make_node("Sub", [node.input[0], names["offset"]], [moved]),
        helper.make_node("Mul", [moved, names["scale"]], [to]),
    ]
