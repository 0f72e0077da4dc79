"""ONNX files with operators of the domain ai.onnx.ml, as skl2onnx writes pipelines and trees -> functions over columns.

Numbers are float32 throughout, as in onnxruntime, but for the sums of linear models, which are float64 here. Each value
of the graph is a list of features of one input each (`skipml.preparation`), until the model that reads them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.function import Function
from skipml.links import IDENTITY, Link
from skipml.models.onnx import MAX_NODES
from skipml.models.onnx_trees import classifier_of, regressor_of
from skipml.models.pipeline import Read, behind_features
from skipml.network import Affine, Network
from skipml.pipelines import Words
from skipml.preparation import Feature, Step, StepKind
from skipml.trees import Trees

Features = list[Feature]
Constant = NDArray[Any]
Model = tuple[Network, Link] | Trees

ML = "ai.onnx.ml"
_MOST_FEATURES = 1 << 16
_ROUNDED = (Step("float32", ()),)
INSTEAD = {
    "SVMClassifier": "a kernel is not bounded: use LinearSVC or trees",
    "SVMRegressor": "a kernel is not bounded: use LinearSVR or trees",
    "Normalizer": "of inputs it is a feature of several columns: compute it in SQL",
    "CategoryMapper": "export the pipeline with skl2onnx 1.14 or newer, which writes LabelEncoder",
    "DictVectorizer": "give each column an input of its own",
    "Binarizer": "use trees, which find limits themselves",
    "TreeEnsemble": "export with target_opset={'ai.onnx.ml': 3}, which writes TreeEnsembleClassifier",
    "TfIdfVectorizer": "words of texts are not bounded",
    "Tokenizer": "words of texts are not bounded",
}


@dataclass
class _Graph:
    """What has been read: constants, features and text inputs by name; the model, once it is there, and the names of
    its scores and labels.
    """

    margin: bool
    constants: dict[str, Constant]
    features: dict[str, Features]
    words: dict[int, list[str]]
    model: Model | None = None
    read: Features | None = None
    scores: str = ""
    labels: frozenset[str] = frozenset()


def is_ml(model: onnx.ModelProto) -> bool:
    """Whether some node is of the domain ai.onnx.ml."""
    return any(node.domain == ML for node in model.graph.node)


def read_onnx_ml(model: onnx.ModelProto, *, margin: bool) -> Read:
    """Read a pipeline or trees; of two classes the score is the second's probability, or with `margin` its sum.

    Raises UnsupportedOperatorError, which names every operator that is not evaluated, and ModelError for damage.
    """
    if len(model.graph.node) > MAX_NODES:
        raise ModelError(f"has {len(model.graph.node)} nodes, more than the limit of {MAX_NODES}")
    refused = refused_operators(model)
    if refused:
        raise UnsupportedOperatorError("; ".join(refused))
    inputs, features, text = _inputs(model.graph)
    constants = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    graph = _Graph(margin, constants, features, {i: [] for i in text})
    for node in model.graph.node:
        _encode_words(graph, node)
    words = {i: Words.of(of) for i, of in graph.words.items()}
    for node in model.graph.node:
        where = f"{node.op_type} {node.name!r}"
        try:
            _OPERATORS[node.op_type](graph, node, _Attributes(node), words)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ModelError):
                raise type(error)(f"{where}: {error}") from error
            raise ModelError(f"{where}: {type(error).__name__}: {error}; is the file damaged?") from error
        if any(len(graph.features.get(name, ())) > _MOST_FEATURES for name in node.output):
            raise ModelError(f"{where}: gives more than {_MOST_FEATURES} features")
    if graph.model is None or graph.read is None:
        raise ModelError("ends in no model: export the whole pipeline")
    if not {output.name for output in model.graph.output} & {graph.scores}:
        raise ModelError("gives no scores, only labels: export it with options={'zipmap': False}")
    used = sorted({feature.source for feature in graph.read})
    number = {source: i for i, source in enumerate(used)}
    read = [replace(feature, source=number[feature.source]) for feature in graph.read]
    is_plain = not words and all(f.source == i and f.text == Feature(i, _ROUNDED).text for i, f in enumerate(read))
    if isinstance(graph.model, Trees) and is_plain:
        function: Function = graph.model  # it rounds to float32 itself
    else:
        chosen = {number[i]: of for i, of in words.items() if i in number}
        function = behind_features(graph.model, read, chosen, takes_nan=True)
    names = tuple(inputs[i] for i in used) if all(inputs) else None
    return Read(function, tuple(used), names, len(inputs))


def refused_operators(model: onnx.ModelProto) -> list[str]:
    """Every operator that is not evaluated here, with what would work instead."""
    kinds = dict.fromkeys((n.domain, n.op_type) for n in model.graph.node if n.op_type not in _OPERATORS)
    known = ", ".join(_OPERATORS)
    return [
        f"{op} ({domain or 'ai.onnx'}) is not evaluated beside trees and linear models: "
        f"{INSTEAD.get(op, f'supported are {known}')}"
        for domain, op in kinds
    ]


class _Attributes(dict[str, Any]):
    """The attributes of a node by name."""

    def __init__(self, node: NodeProto) -> None:
        super().__init__((a.name, onnx.helper.get_attribute_value(a)) for a in node.attribute)

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        return [value.decode() for value in self.get(name, ())]


def _inputs(graph: onnx.GraphProto) -> tuple[list[str], dict[str, Features], list[int]]:
    """Per column the name of its input (empty if that has several), the features by input, and which are text."""
    names, features, text = list[str](), dict[str, Features](), list[int]()
    constants = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        width = tensor.shape.dim[-1].dim_value if len(tensor.shape.dim) == 2 else 0
        if not 0 < width <= 1 << 16:
            raise ModelError(f"input {value.name!r}: has no shape [rows, columns] with a fixed number of columns")
        if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.STRING):
            kind = TensorProto.DataType.Name(tensor.elem_type)
            raise UnsupportedOperatorError(
                f"input {value.name!r}: has type {kind}; export it with FloatTensorType or StringTensorType"
            )
        first = len(names)
        names += [value.name if width == 1 else ""] * width
        if tensor.elem_type == TensorProto.STRING:
            text += range(first, first + width)
            features[value.name] = [Feature(first + i) for i in range(width)]
        else:
            features[value.name] = [Feature(first + i, _ROUNDED) for i in range(width)]
    return names, features, text


def _array(tensor: TensorProto) -> Constant:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(f"initializer {tensor.name!r}: keeps its values in another file, which is refused")
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise ModelError(f"initializer {tensor.name!r}: its values do not fit its shape; is it damaged?") from error


def _encode_words(graph: _Graph, node: NodeProto) -> None:
    """Take note of the words that encoders know: all text inputs share them, which tells no fewer apart."""
    attributes = _Attributes(node)
    for known in graph.words.values():
        known.extend(attributes.texts("cats_strings") + attributes.texts("keys_strings"))


def _then(features: Features, kind: StepKind, numbers: Any) -> Features:
    """One more operation in float32, by a number for all or by one for each."""
    values = np.broadcast_to(np.asarray(numbers, np.float32).reshape(-1), (len(features),))
    return [f.then(Step(kind, (float(v),))).then(Step("float32", ())) for f, v in zip(features, values, strict=True)]


def _same(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    """What changes neither numbers nor their order; text may not become numbers so."""
    source, target = node.input[0], node.output[0]
    if source in graph.features:
        is_text = any(f.source in graph.words and not f.is_stepped for f in graph.features[source])
        if node.op_type == "Cast" and (is_text or attributes["to"] != TensorProto.FLOAT):
            raise UnsupportedOperatorError("casts features to another type than float: leave them as they are")
        graph.features[target] = graph.features[source]
    elif source == graph.scores:
        if node.op_type == "Normalizer" and not _sums_to_one(graph):
            raise UnsupportedOperatorError("normalises scores of one class against the rest: use multinomial models")
        graph.scores = target
    elif source in graph.labels:
        graph.labels |= {target}
    elif source in graph.constants:
        graph.constants[target] = graph.constants[source]
    else:
        raise ModelError(f"reads {source!r}, which nothing gives")
    if node.op_type == "Normalizer" and source in graph.features:
        raise UnsupportedOperatorError(INSTEAD["Normalizer"])


def _sums_to_one(graph: _Graph) -> bool:
    link = graph.model.link if isinstance(graph.model, Trees) else graph.model[1] if graph.model else IDENTITY
    return link.kind == "softmax" or graph.margin


def _concat(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    if node.op_type == "Concat" and attributes["axis"] not in (1, -1):
        raise UnsupportedOperatorError(f"joins along axis {attributes['axis']}: only columns are joined")
    joined = [feature for name in node.input[: _MOST_FEATURES + 1] for feature in graph.features[name]]
    graph.features[node.output[0]] = joined


def _chosen(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    """Some of the columns, or one of the scores."""
    if node.op_type == "Gather" and attributes.get("axis", 0) not in (1, -1):
        raise UnsupportedOperatorError("takes rows: only columns are taken")
    places = [int(i) for i in graph.constants[node.input[1]].reshape(-1)]
    if node.input[0] == graph.scores and graph.model is not None and places == [1]:
        graph.scores = node.output[0]  # of two classes the second is what is scored
        return
    graph.features[node.output[0]] = [graph.features[node.input[0]][i] for i in places]


def _scaler(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    moved = _then(graph.features[node.input[0]], "subtract", attributes["offset"])
    graph.features[node.output[0]] = _then(moved, "multiply", attributes["scale"])


def _arithmetic(graph: _Graph, node: NodeProto, _: _Attributes, __: Mapping[int, Words]) -> None:
    kinds: Mapping[str, StepKind] = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"}
    constant = graph.constants[node.input[1]]
    graph.features[node.output[0]] = _then(graph.features[node.input[0]], kinds[node.op_type], constant)


def _clip(graph: _Graph, node: NodeProto, _: _Attributes, __: Mapping[int, Words]) -> None:
    low, high = (float(graph.constants[name].reshape(())) for name in node.input[1:3])
    graph.features[node.output[0]] = [f.then(Step("clip", (low, high))) for f in graph.features[node.input[0]]]


def _imputer(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    if not np.isnan(attributes.get("replaced_value_float", 0.0)) or "imputed_value_floats" not in attributes:
        raise UnsupportedOperatorError("fills another value than NaN: use NULL for what is missing")
    features = graph.features[node.input[0]]
    values = np.broadcast_to(np.asarray(attributes["imputed_value_floats"], np.float32), (len(features),))
    graph.features[node.output[0]] = [f.imputed(float(v)) for f, v in zip(features, values, strict=True)]


def _one_hot(graph: _Graph, node: NodeProto, attributes: _Attributes, words: Mapping[int, Words]) -> None:
    categories = attributes.texts("cats_strings")
    if not categories:
        raise UnsupportedOperatorError("has categories that are numbers: give them as text")
    other = 0.0 if attributes.get("zeros", 1) else np.nan
    found: Features = []
    for feature in graph.features[node.input[0]]:
        known = _places(categories, feature, words)
        for category in categories:
            answers = {place: float(word == category) for word, place in known.items()}
            found.append(_stepped(feature, answers, other, words))
    graph.features[node.output[0]] = found


def _label_encoder(graph: _Graph, node: NodeProto, attributes: _Attributes, words: Mapping[int, Words]) -> None:
    keys = attributes.texts("keys_strings")
    values = attributes.get("values_int64s") or attributes.get("values_floats")
    if not keys or values is None or len(values) != len(keys):
        raise UnsupportedOperatorError("encodes something else than text as numbers: give categories as text")
    other = (
        attributes.get("default_int64", -1) if "values_int64s" in attributes else attributes.get("default_float", 0.0)
    )
    found: Features = []
    for feature in graph.features[node.input[0]]:
        known = _places(keys, feature, words)
        answers = {known[key]: float(np.float32(value)) for key, value in zip(keys, values, strict=True)}
        found.append(_stepped(feature, answers, float(other), words))
    graph.features[node.output[0]] = found


def _places(categories: Sequence[str], feature: Feature, words: Mapping[int, Words]) -> dict[str, int]:
    return {word: words[feature.source].place(word.encode()) for word in categories}


def _stepped(feature: Feature, answers: Mapping[int, float], other: float, words: Mapping[int, Words]) -> Feature:
    """A number for each place of a text; what is missing has none, as there is no NULL in ONNX."""
    n = words[feature.source].n_places
    values = np.full(n, other)
    for place, answer in answers.items():
        values[place] = answer
    return feature.encoded(np.arange(n - 1, dtype=np.float64), values, np.nan)


def _linear(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    features = graph.features[node.input[0]]
    weight = np.asarray(attributes["coefficients"], np.float32).astype(np.float64).reshape(-1, len(features))
    bias = np.zeros(len(weight)) + np.asarray(attributes.get("intercepts", [0.0]), np.float32).astype(np.float64)
    post = attributes.get("post_transform", b"NONE").decode()
    link = IDENTITY
    if node.op_type == "LinearClassifier":
        if post not in ("NONE", "LOGISTIC", "SOFTMAX") or len(weight) < 2 or (post == "LOGISTIC" and len(weight) > 2):
            raise UnsupportedOperatorError(f"has {len(weight)} classes and post_transform {post}: use a softmax")
        if len(weight) == 2 and post == "SOFTMAX":
            weight, bias, post = weight[1:] - weight[:1], bias[1:] - bias[:1], "LOGISTIC"
        elif len(weight) == 2:
            weight, bias = weight[1:], bias[1:]
        link = IDENTITY if graph.margin or post == "NONE" else Link("logistic" if post == "LOGISTIC" else "softmax")
    elif post != "NONE":
        raise UnsupportedOperatorError(f"has post_transform {post}: only NONE is evaluated of a regressor")
    network = Network(weight.shape[1], len(weight), np.dtype(np.float64), (Affine(weight.copy(), bias.copy()),))
    _ends(graph, node, (network, link))


def _forest(graph: _Graph, node: NodeProto, attributes: _Attributes, _: Mapping[int, Words]) -> None:
    n_features = len(graph.features[node.input[0]])
    if node.op_type == "TreeEnsembleRegressor":
        _ends(graph, node, regressor_of(attributes, n_features))
    else:
        _ends(graph, node, classifier_of(attributes, n_features, margin=graph.margin))


def _ends(graph: _Graph, node: NodeProto, model: Model) -> None:
    if graph.model is not None:
        raise UnsupportedOperatorError("is a second model: export one")
    graph.model, graph.read, graph.scores = model, graph.features[node.input[0]], node.output[-1]
    graph.labels |= frozenset(node.output[:-1])


_OPERATORS: Mapping[str, Callable[[_Graph, NodeProto, _Attributes, Mapping[int, Words]], None]] = {
    **dict.fromkeys(("Identity", "Cast", "Reshape", "Flatten", "ZipMap", "Normalizer"), _same),
    **dict.fromkeys(("Concat", "FeatureVectorizer"), _concat),
    **dict.fromkeys(("ArrayFeatureExtractor", "Gather"), _chosen),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Scaler": _scaler,
    "Clip": _clip,
    "Imputer": _imputer,
    "OneHotEncoder": _one_hot,
    "LabelEncoder": _label_encoder,
    "LinearRegressor": _linear,
    "LinearClassifier": _linear,
    **dict.fromkeys(("TreeEnsembleRegressor", "TreeEnsembleClassifier"), _forest),
}
"""Those that are evaluated, by name."""
