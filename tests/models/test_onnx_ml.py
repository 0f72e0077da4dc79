"""ONNX exports of pipelines and trees: scores are onnxruntime's, text skips row groups, what is refused says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

import skipml
from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.inspection import model_facts
from skipml.models.onnx_ml import ML
from tests.models import fitted_onnx
from tests.models.thousand import compared


@pytest.mark.parametrize("kind", fitted_onnx.KINDS)
def test_scores_are_those_of_onnxruntime(kind: str) -> None:
    assert [compared(f"onnx {kind}", seed).problems for seed in (0,)] == [()]


def _graph(*nodes: onnx.NodeProto, outputs: str = "y", width: int = 1) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])
    y = helper.make_tensor_value_info(outputs, TensorProto.FLOAT, [None, 1])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    return helper.make_model(helper.make_graph(list(nodes), "g", [x], [y]), opset_imports=opsets, ir_version=8)


def _stump(mode: str, tracks: int, **more: Any) -> onnx.NodeProto:
    """1 where the condition on 0.5 holds, else 2."""
    settings: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": [mode, "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [tracks, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    return helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, **(settings | more))


def _load(model: onnx.ModelProto, folder: Path) -> skipml.Model:
    onnx.save(model, folder / "m.onnx")
    return skipml.Model.load(folder / "m.onnx", columns=["x"])


@pytest.mark.parametrize("tracks", [0, 1])
@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"])
def test_conditions_of_every_mode_hold_where_onnxruntime_says_so(mode: str, tracks: int, tmp_path: Path) -> None:
    model = _graph(_stump(mode, tracks))
    half = np.float32(0.5)
    rows = np.array([0, half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(1)), 9, np.nan, np.inf])
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": rows.astype(np.float32)[:, None]})[0]
    ours = _load(model, tmp_path).function.forward(rows[:, None])
    np.testing.assert_array_equal(ours, theirs)


def test_columns_have_the_names_of_their_inputs_and_text_skips_row_groups(tmp_path: Path) -> None:
    found = fitted_onnx.fit(np.random.default_rng(3), "columns logistic")
    onnx.save(found.export, tmp_path / "m.onnx")
    model = skipml.Model.load(tmp_path / "m.onnx")
    assert model.columns == ("a", "b", "s")
    rows = found.rows.sort_by("s")
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=8)
    scores = model.evaluate(rows)[:, 0]
    limit = float(np.nanquantile(scores, 0.9))
    plan = skipml.plan(tmp_path / "t.parquet", model > limit)
    assert plan.scan().read_all().num_rows == int((scores > limit).sum())


def test_every_refused_operator_is_named_and_inspected(tmp_path: Path) -> None:
    svm = helper.make_node("SVMRegressor", ["x"], ["v"], domain=ML)
    model = _graph(svm, helper.make_node("Erf", ["v"], ["w"]), helper.make_node("Sin", ["w"], ["y"]))
    with pytest.raises(UnsupportedOperatorError, match=r"SVMRegressor.*kernel.*LinearSVR.*Erf.*Sin"):
        _load(model, tmp_path)
    facts = model_facts(str(tmp_path / "m.onnx"))
    assert [text.split()[0] for text in facts["refused"]] == ["SVMRegressor", "Erf", "Sin"]
    assert (facts["graph_inputs"], facts["operators"]["Sin"]) == (["x: float [rows, 1]"], 1)
    plain = _graph(helper.make_node("Erf", ["x"], ["v"]), helper.make_node("Sin", ["v"], ["y"]))
    onnx.save(plain, tmp_path / "p.onnx")
    assert len(model_facts(str(tmp_path / "p.onnx"))["refused"]) >= 1


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (_stump("BRANCH_LEQ", 0, aggregate_function="MAX"), "MAX: SUM and AVERAGE"),
        (_stump("BRANCH_LEQ", 0, post_transform="PROBIT"), "PROBIT"),
        (_stump("BRANCH_MEMBER", 0), "BRANCH_MEMBER"),
        (_stump("BRANCH_LEQ", 0, nodes_truenodeids=[7, 0, 0]), "leads to none"),
        (_stump("BRANCH_LEQ", 0, nodes_truenodeids=[0, 0, 0]), "no place"),
        (_stump("BRANCH_LEQ", 0, target_nodeids=[1, 9]), "no node"),
        (_stump("BRANCH_LEQ", 0, nodes_values=[float("nan"), 0.0, 0.0]), "NaN"),
        (_stump("BRANCH_LEQ", 0, nodes_featureids=[3, 0, 0]), "input 3 of 1"),
    ],
)
def test_trees_that_are_not_evaluated_are_refused(node: onnx.NodeProto, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        _load(_graph(node), tmp_path)


def test_a_graph_that_doubles_its_features_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("FeatureVectorizer", [f"x{i}" if i else "x"] * 2, [f"x{i + 1}"], domain=ML) for i in range(40)
    ]
    with pytest.raises(ModelError, match="more than 65536 features"):
        _load(_graph(*nodes, outputs="x40"), tmp_path)


@pytest.mark.parametrize("content", [b"CBM1\x00\x00", b'{"oblivious_trees": [], "features_info": {}}'])
def test_catboost_says_what_would_work_instead(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(UnsupportedOperatorError, match=r"CatBoost.*format='onnx'"):
        skipml.Model.load(tmp_path / "m.json", columns=["x"])
