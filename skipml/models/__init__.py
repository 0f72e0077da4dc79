"""Models as Networks: ONNX files and torch modules are read into the op graph once, as a snapshot of their weights.

Model files are data: nothing in them is executed, no pickle is ever loaded, and an operator outside the supported set
is refused by name.
"""

from __future__ import annotations

from skipml.models.onnx import load_onnx
from skipml.models.torch import from_torch

__all__ = ["from_torch", "load_onnx"]
