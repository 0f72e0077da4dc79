"""Models as Functions: files and fitted objects are read once into Networks and Trees, as a snapshot of their weights.

Model files are data: nothing in them is executed, no pickle is ever loaded, and an operator outside the supported set
is refused by name.
"""

from __future__ import annotations

from skipml.models.lightgbm import from_lightgbm
from skipml.models.loading import load
from skipml.models.onnx import load_onnx
from skipml.models.sklearn import from_sklearn
from skipml.models.torch import from_torch
from skipml.models.xgboost import from_xgboost

__all__ = ["from_lightgbm", "from_sklearn", "from_torch", "from_xgboost", "load", "load_onnx"]
