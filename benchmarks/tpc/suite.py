"""A suite of the benchmark, TPC-H or TPC-DS: where its files lie, and the models over its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network over a whole table: it learns `target`, an SQL expression, from `columns`.

    With `classes` the target is a class, 0 to classes - 1, and the network has one output for each.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    hidden: tuple[int, ...] = (32, 32)
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Suite:
    """`name` is tpch or tpcds; `folder` holds queries/ and results/."""

    name: str
    folder: Path
    models: tuple[ModelSpec, ...]

    @property
    def results(self) -> Path:
        """Where the figures are written."""
        return self.folder / "results"
