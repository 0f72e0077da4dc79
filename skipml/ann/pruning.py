"""Pruning the posting lists of a vector index: they are the row groups of its files, and balls are their metadata."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from skipml import decisions
from skipml.ann.balls import around
from skipml.ann.postings import ROW_ID
from skipml.ann.snapshot import Snapshot
from skipml.ann.within import Present
from skipml.bounds.budget import Budget
from skipml.footers import read_footers
from skipml.heads import Head
from skipml.plans import Plan
from skipml.predicates import Predicate
from skipml.regions import from_footers


def prune(snapshot: Snapshot, folder: str, predicate: Predicate) -> Plan:
    """The posting lists of an index in a folder, and what a predicate decides about each.

    Sound because every row of a list lies in its balls, and a list with deleted rows is never KEEP.
    """
    snapshot.check_unchanged()
    manifest = snapshot.manifest
    paths = [os.path.join(folder, segment.rows.name) for segment in manifest.segments]
    own = () if any(isinstance(score.function, Head) for score in predicate.scores) else (manifest.column,)
    names = tuple(name for name in predicate.inputs if name not in (*own, ROW_ID))
    footers = read_footers(paths, names)
    lists = np.concatenate([np.flatnonzero(segment.counts) for segment in manifest.segments])
    balls = snapshot.balls.take(lists)
    regions = replace(from_footers(footers, names), balls={manifest.column: balls})
    if manifest.column in names:
        vectors = around(manifest.metric, balls, manifest.vector.dimension)
        regions = replace(regions, vectors={names.index(manifest.column): vectors})
    if len(snapshot.deleted):
        starts = np.concatenate([[0], np.cumsum(footers.n_rows)])
        touched = np.diff(np.searchsorted(snapshot.deleted, starts)) > 0
        predicate = predicate & Present(snapshot.row_ids(snapshot.deleted), touched)
    return Plan(predicate, footers, decisions.prune(predicate, regions, Budget(predicate.seconds_per_row)))
