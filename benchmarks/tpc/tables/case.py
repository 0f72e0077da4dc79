"""A model with its scores of every row, its filters, and what they select in each layout of its table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray
from torch import nn

import skipml
from benchmarks.scorer import scorer_outputs
from benchmarks.tpc.networks import torch_outputs
from benchmarks.tpc.suite import ModelSpec, TableSpec
from benchmarks.tpc.tables.filters import Filter, filters_of
from benchmarks.tpc.tables.layouts import Layout, input_sql
from benchmarks.tpc.tables.systems import Query, SqlSession, pytorch_udf, skipml_session
from benchmarks.tpc.tables.training import trained


@dataclass(frozen=True)
class Case:
    """A model over a table, which is read in generation order to choose the limits of the filters."""

    spec: ModelSpec
    table: TableSpec
    generated: Layout
    seed: int

    @cached_property
    def file(self) -> Path:
        """The ONNX file of the network."""
        return self._trained[1]

    @cached_property
    def network(self) -> nn.Sequential:
        """The network for PyTorch."""
        return self._trained[0]

    @cached_property
    def _trained(self) -> tuple[nn.Sequential, Path]:
        return trained(self.spec, self.generated, self.seed)

    @cached_property
    def model(self) -> skipml.Model:
        """The network for skipml."""
        return skipml.Model.load(self.file, columns=self.spec.columns)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The inputs in SQL."""
        with duckdb.connect() as connection:
            source = f"'{self.generated.path}'"
            return tuple(input_sql(connection, source, column) for column in self.spec.columns)

    @cached_property
    def filters(self) -> list[Filter]:
        """The filters on it."""
        rows = self.generated.read(self.spec.columns)
        network = self.model.function
        outputs = torch_outputs(self.network, rows), network.forward(rows), scorer_outputs(self.model, rows)
        return filters_of(self.spec, outputs, _known(rows))

    def pytorch(self) -> SqlSession:
        """PyTorch in a DuckDB function."""
        return pytorch_udf(self.network, self.spec, self.inputs)

    def skipping(self, root: Path | None = None) -> SqlSession:
        """skipml, which finds metadata below `root` if one is given."""
        return skipml_session(self.model, self.spec, root=root)

    def scoring(self) -> SqlSession:
        """skipml with skipping off: it scores every row."""
        return skipml_session(self.model, self.spec, skipping=False)

    def in_python(self) -> SqlSession:
        """skipml without its extension."""
        return skipml_session(self.model, self.spec, extension=False)

    def matches(self, layout: Layout) -> list[NDArray[np.int64]]:
        """By filter how many rows of each row group pass."""
        rows = layout.read(self.spec.columns)
        outputs, known = torch_outputs(self.network, rows), _known(rows)
        return [
            np.add.reduceat(wanted.passes(outputs, known).astype(np.int64), layout.starts) for wanted in self.filters
        ]

    def query(self, layout: Layout, wanted: Filter, row_groups: NDArray[np.int64] | None = None) -> Query:
        """The query of a filter on a layout, and of the row groups only that an oracle would read if they are given."""
        groups = None if row_groups is None else tuple(row_groups.tolist())
        return Query(layout.path, self.table, self.spec, self.inputs, wanted, groups)


def _known(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.logical_not(np.isnan(rows).any(axis=1))
