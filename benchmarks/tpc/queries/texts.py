"""The standard query texts of a suite, taken from the DuckDB extension and kept under .data/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.tpc.data import DATA, overlay_environment

_GENERATOR = Path(__file__).resolve().parent.parent / "generator.py"


def standard_queries(suite: str) -> dict[str, str]:
    """SQL by name, q01 to q22 or q99. The extension knows the texts, and runs in a process of its own."""
    path = DATA / f"{suite}-queries.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        command = [sys.executable, str(_GENERATOR), suite, "queries"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=overlay_environment(), check=True)
        path.write_text(done.stdout)
    return {f"q{number:02}": text for number, text in json.loads(path.read_text())}
