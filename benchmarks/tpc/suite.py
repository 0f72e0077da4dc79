"""A suite of the benchmark, TPC-H or TPC-DS: where its files lie, its large tables, and the models over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network over a whole table: it learns `target`, an SQL expression, from `columns`.

    With `classes` the target is a class, 0 to classes - 1, and the network has one output for each. Dates enter as
    `epoch(x)`.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    target: str
    hidden: tuple[int, ...] = (32, 32)
    classes: int = 0


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table that models filter: its primary key, and the column that queries ask for."""

    name: str
    key: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class Suite:
    """`name` is tpch or tpcds; `folder` holds queries/ and results/; `representative` is the name of the model on
    which all ways to score are compared.
    """

    name: str
    folder: Path
    models: tuple[ModelSpec, ...]
    tables: tuple[TableSpec, ...]
    representative: str

    @property
    def results(self) -> Path:
        """Where the figures are written."""
        return self.folder / "results"

    def models_of(self, table: str) -> tuple[ModelSpec, ...]:
        """The models over a table."""
        return tuple(model for model in self.models if model.table == table)

    def columns_of(self, table: str) -> tuple[str, ...]:
        """The inputs of all models over a table, in order of appearance: what its one layout is clustered by."""
        return tuple(dict.fromkeys(name for model in self.models_of(table) for name in model.columns))
