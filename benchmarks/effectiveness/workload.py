"""The workload: functions to learn, tables they are evaluated on, and selectivities, as in workload.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKLOAD = Path(__file__).with_name("workload.json")


@dataclass(frozen=True, slots=True)
class Function:
    """One network: its inputs and what it learns.

    `kind` regress learns `target`, an SQL expression; anomaly learns the squared Mahalanobis distance of the inputs
    from their mean; conjunction learns by how many deviations the least of its `conditions` (column, side, quantile)
    holds.
    """

    name: str
    suite: str
    table: str
    kind: str
    columns: list[str]
    hidden: list[int]
    seed: int
    target: str = ""
    conditions: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def widths(self) -> str:
        """For example 2-16-16-1."""
        return "-".join(map(str, [len(self.columns), *self.hidden, 1]))


@dataclass(frozen=True, slots=True)
class Training:
    """Rows sampled from the table, passes over them, and Adam's batch size and learning rate."""

    rows: int
    epochs: int
    batch_rows: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that determines the figures, apart from the generated data."""

    scale: float
    rows_per_table: int
    row_group_rows: int
    selectivities: list[float]
    training: Training
    functions: list[Function]

    def columns_of(self, table: str) -> list[str]:
        """The input columns of all functions on a table, in order of appearance."""
        return list(
            dict.fromkeys(c for function in self.functions if function.table == table for c in function.columns)
        )


def load_workload(path: Path = WORKLOAD) -> Workload:
    """Read a workload file."""
    raw: dict[str, Any] = json.loads(path.read_text())
    raw["training"] = Training(**raw["training"])
    raw["functions"] = [Function(**function) for function in raw["functions"]]
    return Workload(**raw)
