"""Decisions that need no bounds: what is stored of scores proves them, and stored rows end the work on a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.falsify import Test
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP
from skipml.metadata import scoremaps
from skipml.metadata.contents import LabelMetadata, ScoreMetadata
from skipml.metadata.evidence import Evidence

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Decided = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """What stored scores are of: the hash of a network, and which of its outputs, or None for its classes."""

    model: str
    output: int | None


def score_map(evidence: Evidence, key: ScoreKey, sources: Sequence[str | None]) -> ScoreMetadata | None:
    """The map of a score over these columns in this order, None if there is none."""
    wanted = key.model, tuple(sources), key.output
    return next((m for m in evidence.scores if (m.model, m.columns, m.output) == wanted), None)


def label_map(evidence: Evidence, key: ScoreKey, sources: Sequence[str | None]) -> LabelMetadata | None:
    """The map of a model's classes over these columns in this order, None if there is none."""
    wanted = key.model, tuple(sources)
    return next((m for m in evidence.labels if (m.model, m.columns) == wanted), None)


def by_scores(known: ScoreMetadata, test: Test) -> Decided:
    """SKIP, KEEP or EVALUATE per block from the intervals in which its scores lie.

    Sound because together they contain every score that the block's rows can get; a block without one has no score.
    """
    found = scoremaps.decode(known.lower, known.upper, known.cells)
    low, high = found.lower[:, None], found.upper[:, None]
    n = len(known.lower)
    passes = np.bincount(found.block[~test.never(low, high)], minlength=n) > 0
    fails = np.bincount(found.block[~test.always(low, high)], minlength=n) > 0
    return np.where(passes, np.where(fails, EVALUATE, KEEP), SKIP).astype(np.int8)


def by_labels(known: LabelMetadata, label: int, is_not: bool) -> Decided:
    """SKIP, KEEP or EVALUATE per block from the classes of its rows. Sound because every class that a row can get is
    among them.
    """
    found = scoremaps.decode_labels(known.labels, known.n_labels)
    has, others = found[:, label], np.delete(found, label, axis=1).any(axis=1)
    passes, fails = (others, has) if is_not else (has, others)
    return np.where(passes, np.where(fails, EVALUATE, KEEP), SKIP).astype(np.int8)


def witness_rows(evidence: Evidence, sources: Sequence[str | None]) -> Floats | None:
    """Stored rows [N, K, d] with the columns in this order, NaN where there is none; None if not all are stored."""
    known = evidence.witnesses
    if known is None or not sources or any(name not in known.columns for name in sources):
        return None
    return known.rows[:, :, [known.columns.index(str(name)) for name in sources]]
