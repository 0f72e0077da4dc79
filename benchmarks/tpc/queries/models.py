"""A suite's models as functions of a connection."""

from __future__ import annotations

import skipml
from benchmarks.tpc.queries.views import ROW_GROUP_ROWS
from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.layouts import Layout
from benchmarks.tpc.tables.training import trained

_SEED = 0


def register_models(connection: skipml.Connection, suite: Suite, scale: float) -> None:
    """Register every model of the suite under its name; trained where it is not there."""
    for spec in suite.models:
        table = Layout(suite, spec.table, "generated", ROW_GROUP_ROWS, scale)
        _, onnx_file = trained(spec, table, _SEED)
        connection.register_model(spec.name, skipml.Model.load(onnx_file, columns=spec.columns))
