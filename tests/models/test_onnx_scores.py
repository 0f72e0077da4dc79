"""Networks as skl2onnx exports them: scores are onnxruntime's, labels and scaling are no hindrance."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skipml
from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.inspection import model_facts
from skipml.linked import Linked
from skipml.models.onnx_ml import ML

_COLUMNS = ("a", "b", "c")
_RNG = np.random.default_rng(0)
_ROWS = (_RNG.normal(size=(300, 3)) * [100, 1, 0.01] + [1000, 0, 0]).astype(np.float32)
_TARGETS: dict[str, NDArray[Any]] = {
    "number": _ROWS[:, 1] * 3,
    "two": np.array(["no", "yes"])[(_ROWS[:, 1] > 0.3).astype(int)],
    "three": _RNG.integers(0, 3, 300),
    "several": (_RNG.random((300, 2)) < 0.5).astype(int),
}


def _export(target: str, activation: str = "relu", *, scaled: bool = False, zipmap: bool = False) -> onnx.ModelProto:
    kind = MLPRegressor if target == "number" else MLPClassifier
    last = kind(hidden_layer_sizes=(6, 5), activation=activation, max_iter=10, random_state=0)
    model = make_pipeline(*([StandardScaler()] if scaled else []), last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(_ROWS, _TARGETS[target])
        options = None if target == "number" else {id(last): {"zipmap": zipmap}}
        export: onnx.ModelProto = to_onnx(model, _ROWS[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})
    return export


def _load(export: onnx.ModelProto, folder: Path) -> skipml.Model:
    onnx.save(export, folder / "m.onnx")
    return skipml.Model.load(folder / "m.onnx", columns=_COLUMNS)


def _theirs(export: onnx.ModelProto) -> NDArray[Any]:
    found = InferenceSession(export.SerializeToString()).run(None, {"X": _ROWS})[-1]
    return np.array([list(row.values()) for row in found]) if isinstance(found, list) else found.reshape(len(_ROWS), -1)


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("target", "activation"),
    [("number", "relu"), ("two", "relu"), ("two", "tanh"), ("three", "logistic"), ("three", "identity")],
)
def test_scores_are_those_of_onnxruntime(
    target: str, activation: str, scaled: bool, zipmap: bool, tmp_path: Path
) -> None:
    export = _export(target, activation, scaled=scaled, zipmap=zipmap)
    ours, theirs = _load(export, tmp_path).function, _theirs(export)
    expected = theirs[:, 1:] if target == "two" else theirs
    np.testing.assert_allclose(ours.forward(_ROWS), expected, rtol=2e-5, atol=2e-6)
    assert not model_facts(str(tmp_path / "m.onnx")).get("refused")
    assert isinstance(ours, Linked) == (target != "number"), "what is tested of a probability is tested of its margin"


def test_probabilities_skip_row_groups(tmp_path: Path) -> None:
    model = _load(_export("two", scaled=True), tmp_path)
    rows = pa.table({"a": np.full(300, 1000.0), "b": np.linspace(-3, 3, 300), "c": np.zeros(300)})
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=20)
    scores = model.evaluate(rows)[:, 0]
    limit = float(np.quantile(scores, 0.3))
    plan = skipml.plan(tmp_path / "t.parquet", model < limit)
    assert plan.scan().read_all().num_rows == int((scores < limit).sum())
    assert (plan.decisions == skipml.SKIP).any()


def test_several_labels_per_row_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"m\.onnx: gives each row 2 labels: export one model for each"):
        _load(_export("several"), tmp_path)


def _scaler(**attributes: Any) -> onnx.ModelProto:
    """An output that is the input scaled and behind a ReLU."""
    nodes = [helper.make_node("Scaler", ["X"], ["s"], domain=ML, **attributes), helper.make_node("Relu", ["s"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in "Xy"]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_scaling_rounds_as_onnxruntime_does(tmp_path: Path) -> None:
    export = _scaler(offset=[1000.1, 0.3, 1 / 3], scale=[0.1, 1 / 3, 1e3])
    np.testing.assert_array_equal(_load(export, tmp_path).function.forward(_ROWS), _theirs(export))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"offset": [1.0] * 3},
        {"offset": [1.0] * 2, "scale": [1.0] * 3},
        {"offset": [np.nan] * 3, "scale": [1.0] * 3},
    ],
    ids=["none", "no scale", "too few", "NaN"],
)
def test_damaged_scaling_is_refused(attributes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx"):
        _load(_scaler(**attributes), tmp_path)


def test_an_output_that_is_no_label_is_not_left_out(tmp_path: Path) -> None:
    export = _export("two")
    export.graph.output[0].CopyFrom(helper.make_tensor_value_info("next_activations", TensorProto.FLOAT, [None, 6]))
    with pytest.raises(UnsupportedOperatorError, match="MatMul"):
        _load(export, tmp_path)


def test_columns_that_do_not_add_up_to_one_stay_two(tmp_path: Path) -> None:
    export = _export("two")
    (unity,) = (tensor for tensor in export.graph.initializer if tensor.name == "unity")
    unity.CopyFrom(onnx.numpy_helper.from_array(np.float32(2).reshape(unity.dims), "unity"))
    np.testing.assert_allclose(_load(export, tmp_path).function.forward(_ROWS), _theirs(export), rtol=2e-5, atol=2e-6)
