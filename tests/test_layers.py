"""What may import what, beyond the layers that lint-imports checks."""

from __future__ import annotations

import subprocess
import sys

OPTIONAL = {"torch", "typer", "rich", "polars", "pandas", "ray", "faiss", "treelite", "onnxruntime"}


def test_importing_skipml_imports_nothing_optional() -> None:
    script = "import sys, skipml; print(*{name.partition('.')[0] for name in sys.modules})"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not OPTIONAL & set(printed.split())
