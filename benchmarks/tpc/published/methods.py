"""What is stored of each block, and how long it is verified: the published ways and skipml's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import skipml
from benchmarks.tpc.published.hulls import all_pairs, grid_corners
from benchmarks.tpc.published.workload import BLOCK_ROWS
from skipml.bounds.budget import Budget
from skipml.bounds.memory import Memory
from skipml.footers import read_footers
from skipml.metadata.refine import refine
from skipml.predicates import Predicate
from skipml.regions import Regions, from_refined

Floats = NDArray[np.float64]

SCORING_SECONDS_PER_ROW = 3e-7
"""What a PyTorch function in DuckDB costs at least; a constant, so that decisions are the same on every machine."""
_COMPLETE_BOXES = 2_000


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table: `baseline` is one of the published methods, `hull` the bytes of each hull."""

    name: str
    group: Literal["baseline", "limits", "hull", "boxes", "scores"]
    hull: int | Literal["grid", "exact"] = 0
    boxes: int = 0
    score_bytes: int | None = None
    crown_only: bool = False
    every_budget: bool = False
    """Whether it is also verified completely, and as plans do it: that takes long."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """What `skipml.enrich` is told; None where nothing is stored in files."""
        if isinstance(self.hull, str) or not (self.hull or self.boxes or self.score_bytes is not None):
            return None
        hulls: dict[str, Any] = {"pairs": "all", "hull_bytes": self.hull} if self.hull else {"pairs": []}
        return {**hulls, "boxes": self.boxes, "score_bytes": self.score_bytes or 0}


METHODS = (
    Method("min-max, complete", "baseline"),
    Method("grid hull, complete", "baseline", hull="grid"),
    Method("exact hull, complete", "baseline", hull="exact"),
    Method("min-max, CROWN only", "limits", crown_only=True),
    Method("min-max", "limits", every_budget=True),
    Method("diagonals 4 B", "hull", hull=4),
    Method("hull 8 B", "hull", hull=8),
    Method("hull 13 B", "hull", hull=13, every_budget=True),
    Method("hull 45 B", "hull", hull=45, every_budget=True),
    Method("16 boxes", "boxes", boxes=16),
    Method("64 boxes", "boxes", boxes=64),
    Method("160 boxes", "boxes", boxes=160),
    Method("hull 13 B, 16 boxes", "boxes", hull=13, boxes=16),
    Method("hull 13 B, 44 boxes", "boxes", hull=13, boxes=44, every_budget=True),
    Method("score limits", "scores", score_bytes=0),
    Method("score map 32 B", "scores", score_bytes=32),
    Method("score map 256 B", "scores", score_bytes=256),
)


def budgets(method: Method, predicate: Predicate) -> dict[str, Budget]:
    """By name the budgets of a method, each with a memory of its own: half of what scoring costs, the budget of a plan,
    and for the published methods as much as they want, without a memory.
    """
    complete = Budget.unlimited(_COMPLETE_BOXES)
    if method.group == "baseline":
        return {"complete": complete}
    if method.crown_only:
        return {"half": Budget.unlimited(1)}
    half = {"half": Budget(SCORING_SECONDS_PER_ROW, share=0.5, memory=Memory())}
    if not method.every_budget:
        return half
    plan = Budget(predicate.seconds_per_row, memory=Memory())
    return {**half, "plan": plan, "complete": replace(complete, memory=Memory())}


def regions(method: Method, path: Path, model: skipml.Model, inputs: Floats, root: Path) -> tuple[Regions, float]:
    """The regions of a file's blocks, and the bytes that each takes beside the limits of its columns; `inputs` [n, d]
    are its rows.
    """
    n_bytes = stored(method, path, model, root)
    found = from_refined(refine(read_footers([str(path)], model.columns), root), model.columns)
    if isinstance(method.hull, int):
        return found, n_bytes
    blocks = np.split(inputs, np.arange(BLOCK_ROWS, len(inputs), BLOCK_ROWS))
    numbers = [block[np.isfinite(block).all(axis=1)] for block in blocks]
    hulls, n_bytes = all_pairs(numbers, grid_corners) if method.hull == "grid" else all_pairs(numbers)
    return replace(found, hulls=hulls), n_bytes


def stored(method: Method, path: Path, model: skipml.Model, root: Path) -> float:
    """Enrich the file below `root` as the method asks for -> bytes per block beside the limits."""
    if method.settings is None:
        return 0.0
    limits = skipml.enrich(path, model.columns, pairs=[], root=root).files[0]
    models = [model] if method.score_bytes is not None else []
    file = skipml.enrich(path, model.columns, models=models, root=root, **method.settings).files[0]
    return (file.n_bytes - limits.n_bytes) / file.n_row_groups
