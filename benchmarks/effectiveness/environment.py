"""What the figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import skipml


def environment() -> dict[str, str | int]:
    """Versions, processor and cores."""
    packages = {name: version(name) for name in ("duckdb", "numpy", "pyarrow", "torch")}
    return {
        "skipml": skipml.__version__,
        "python": platform.python_version(),
        **packages,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": platform.system(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
