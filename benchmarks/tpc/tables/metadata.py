"""The metadata that a layout is given beside its zone maps, each kind below a folder of its own."""

from __future__ import annotations

from pathlib import Path

import skipml
from benchmarks.tpc.data import DATA
from benchmarks.tpc.tables.layouts import Layout


def with_hulls(layout: Layout) -> Path:
    """The folder of hulls of all pairs of the inputs of the table's models, 45 bytes each; made if it is not there."""
    root = DATA / "tables" / "metadata-hulls"
    skipml.enrich(layout.path, layout.suite.columns_of(layout.table), pairs="all", root=root)
    return root


def with_score_maps(layout: Layout, model: skipml.Model) -> Path:
    """The folder of maps of a model's scores."""
    root = DATA / "tables" / "metadata-scores"
    skipml.enrich(layout.path, model.columns, pairs=[], models=[model], root=root)
    return root
