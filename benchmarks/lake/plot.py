"""Draws the seconds and the memory of plans by the number of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot(cases: Sequence[dict[str, Any]], path: Path) -> None:
    """Two panels over the number of files, a line for each way to plan."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    labels = {"uncached": "no cache", "building": "making the cache", "cached": "from the cache"}
    for mode, label in labels.items():
        mine = sorted((case for case in cases if case["mode"] == mode), key=lambda case: int(case["files"]))
        files = [case["files"] for case in mine]
        panels[0].plot(files, [case["seconds"] for case in mine], marker="o", label=label)
        panels[1].plot(files, [case["peak_mib"] for case in mine], marker="o", label=label)
    for panel, what in zip(
        panels, ("seconds of the first plan of a process", "peak memory of the process, MiB"), strict=True
    ):
        panel.set(xlabel="files, 20 row groups each", ylabel=what, xscale="log", yscale="log")
        panel.grid(visible=True, which="both", alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
