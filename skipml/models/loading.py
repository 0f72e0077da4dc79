"""Model files of any kind, told apart by what is in them."""

from __future__ import annotations

import os
from pathlib import Path

from skipml.errors import ModelError
from skipml.function import Function
from skipml.models.files import read_model_file
from skipml.models.lightgbm import read_lightgbm
from skipml.models.onnx import load_onnx
from skipml.models.xgboost import read_xgboost


def load(path: str | os.PathLike[str], *, margin: bool = False) -> Function:
    """Read an ONNX file, or a model saved by XGBoost (JSON or UBJSON) or LightGBM (text); `margin` as in `read_xgboost`
    and `read_lightgbm`.

    Raises ModelError, which names the file, for anything else and for what is not evaluated, pickles among them.
    """
    path = Path(path)
    try:
        data = read_model_file(path)
        start = data[:64].lstrip()
        if start.startswith(b"{"):
            return read_xgboost(data, margin=margin)
        if start.startswith((b"tree\n", b"tree\r\n")):
            return read_lightgbm(data, margin=margin)
        if margin:
            raise ModelError("only tree ensembles have a margin: load it without")
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    return load_onnx(path)
