"""Model files of any kind, told apart by what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.function import Function
from skipml.models.files import read_model_file
from skipml.models.lightgbm import read_lightgbm
from skipml.models.onnx import load_onnx
from skipml.models.onnx_ml import is_ml, read_onnx_ml
from skipml.models.onnx_scores import read_scores
from skipml.models.pipeline import Read
from skipml.models.sklearn import read_sklearn
from skipml.models.skops import is_skops, read_skops
from skipml.models.xgboost import read_xgboost

_CATBOOST = (
    "CatBoost's own files are not evaluated, as no library here says how CatBoost reads them: save the model with "
    "save_model('model.onnx', format='onnx') and load that"
)


def load(path: str | os.PathLike[str], *, margin: bool = False) -> Function:
    """The function in a model file; see `read`."""
    return read(path, margin=margin).function


def read(path: str | os.PathLike[str], *, margin: bool = False) -> Read:
    """Read an ONNX file, a model saved by XGBoost (JSON or UBJSON) or LightGBM (text), or a scikit-learn model saved by
    skops; `margin` as in `read_xgboost`, `read_lightgbm` and `read_sklearn`.

    Raises ModelError, which names the file, for anything else and for what is not evaluated, pickles among them.
    """
    path = Path(path)
    try:
        data = read_model_file(path)
        start = data[:64].lstrip()
        if start.startswith(b"CBM1") or (start.startswith(b"{") and b'"oblivious_trees"' in data):
            raise UnsupportedOperatorError(_CATBOOST)
        if start.startswith(b"{"):
            return _of_all_columns(read_xgboost(data, margin=margin))
        if start.startswith((b"tree\n", b"tree\r\n")):
            return _of_all_columns(read_lightgbm(data, margin=margin))
        if is_skops(data):
            return _of_skops(data, margin)
        graph = _onnx_of(data)
        network = read_scores(graph) if graph is not None and is_ml(graph) else None
        if graph is not None and is_ml(graph) and network is None:
            return read_onnx_ml(graph, margin=margin)
        if margin:
            raise ModelError("only trees and scikit-learn models have a margin: load it without")
        if network is not None:
            return _of_all_columns(network)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    return _of_all_columns(load_onnx(path))


def read_onnx(path: str | os.PathLike[str]) -> onnx.ModelProto | None:
    """The ONNX model in a file, None if there is no graph in it or the file is not read."""
    try:
        return _onnx_of(read_model_file(Path(path)))
    except ModelError:
        return None


def _onnx_of(data: bytes) -> onnx.ModelProto | None:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        return None
    return model if model.graph.node else None


def _of_all_columns(function: Function) -> Read:
    return Read(function, tuple(range(function.n_inputs)), None, function.n_inputs)


def _of_skops(data: bytes, margin: bool) -> Read:
    """What is built from a file may lack parts or have others than an estimator that was fitted."""
    try:
        return read_sklearn(read_skops(data), margin=margin)
    except ModelError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"is not a fitted model: {type(error).__name__}: {error}") from error
