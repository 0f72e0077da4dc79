"""What the figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import skipml
from skipml.bounds import compiled


def environment() -> dict[str, str | int | float]:
    """Versions, processor, cores, and how busy the machine was: a busy one skips less."""
    packages = {name: version(name) for name in ("duckdb", "numpy", "pyarrow", "torch")}
    return {
        "skipml": skipml.__version__,
        "python": platform.python_version(),
        **packages,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": platform.system(),
        "bounds": "numpy" if compiled.library() is None else "compiled",
        "load_average": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
