"""Variants of what is stored of scores and rows, and of finer and coarser blocks, that are unsound on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skipml import decisions, footers, score_tests, scored
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP
from skipml.decisions import Decisions
from skipml.metadata import hulls, merging, scoremaps
from skipml.metadata.evidence import Evidence
from skipml.network import Network
from tests.soundness.enriched_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]

Floats = NDArray[np.float64]

_ARRAYS = ("decision", "lower", "upper", "method", "reason")


@variant("scores", "another evaluation of a row gives another score")
def _no_margin_of_scores(patch: Patch) -> None:
    patch.setattr(scored.Scorer, "_margin", lambda scorer, rows: np.zeros(scorer.function.n_outputs))


@variant("scores", "an engine may round an input in another way")
def _no_slack_of_scored_inputs(patch: Patch) -> None:
    patch.setattr(scored, "_slack", lambda sql_type, lower, upper: 0.0)


@variant("scores", "two classes may change places within the margin")
def _one_class_per_row(patch: Patch) -> None:
    real = scoremaps.build_labels
    patch.setattr(scoremaps, "build_labels", lambda outputs, margin: real(outputs, np.zeros_like(margin)))


@variant("scores", "a cell is empty only if no score lies in it")
def _cells_of_most_rows(patch: Patch) -> None:
    real = scoremaps.build

    def build(scores: Floats, margin: float, size: int) -> Any:
        lower, upper, _ = real(scores, margin, size)
        return lower, upper, real(np.append(scores[:-1], [lower, upper]), 0.0, size)[2]

    patch.setattr(scoremaps, "build", build)


@variant("levels", "stored scores are those of one network")
def _scores_of_any_network(patch: Patch) -> None:
    def score_map(evidence: Evidence, key: Any, sources: Sequence[str | None]) -> Any:
        return next((m for m in evidence.scores if m.columns == tuple(sources)), None)

    patch.setattr(score_tests, "score_map", score_map)


@variant("levels", "stored scores are those of one order of columns")
def _scores_of_any_order(patch: Patch) -> None:
    def score_map(evidence: Evidence, key: Any, sources: Sequence[str | None]) -> Any:
        mine = (m for m in evidence.scores if (m.model, m.output) == (key.model, key.output))
        return next((m for m in mine if sorted(m.columns) == sorted(map(str, sources))), None)

    patch.setattr(score_tests, "score_map", score_map)


@variant("levels", "a row that is NULL or NaN has a score of its own, or none")
def _scores_speak_of_every_row(patch: Patch) -> None:
    patch.setattr(score_tests, "_with_flags", lambda outcome, seen, on_nan: outcome)


@variant("levels", "a network has other scores at each output")
def _scores_of_any_output(patch: Patch) -> None:
    def score_map(evidence: Evidence, key: Any, sources: Sequence[str | None]) -> Any:
        return next((m for m in evidence.scores if (m.model, m.columns) == (key.model, tuple(sources))), None)

    patch.setattr(score_tests, "score_map", score_map)


@variant("coarser", "a merged hull holds all of its hulls")
def _hull_of_the_first(patch: Patch) -> None:
    real = hulls.merge

    def merge(payloads: Any, lower: Floats, upper: Floats, size: int) -> Any:
        _, low, high = real(payloads, lower, upper, size)
        return payloads[0], low, high

    patch.setattr(hulls, "merge", merge)


@variant("coarser", "a file's limits hold for all of its row groups")
def _limits_of_the_first_row_group(patch: Patch) -> None:
    real = footers.ColumnStats.merged
    patch.setattr(
        footers.ColumnStats,
        "merged",
        lambda stats, starts: replace(real(stats, starts), lower=stats.lower[starts], upper=stats.upper[starts]),
    )
    patch.setattr(merging, "_reduced", lambda ufunc, values, starts: values[starts])


@variant("levels", "a decision is passed on to the blocks it is about")
def _decisions_of_other_blocks(patch: Patch) -> None:
    real = decisions.decide

    def decide(predicate: Any, regions: Any, *given: Any) -> Any:
        if regions.parent is not None:
            regions = replace(regions, parent=np.roll(regions.parent, 40))
        return real(predicate, regions, *given)

    patch.setattr(decisions, "decide", decide)


@variant("blocks in DuckDB", "a row group is skipped only if all of its blocks are")
def _row_groups_of_a_skipped_block(patch: Patch) -> None:
    def merged(found: Decisions, group: NDArray[np.int64]) -> Decisions:
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        lowest = {name: np.minimum.reduceat(getattr(found, name), starts) for name in _ARRAYS}
        return replace(found, **cast("Any", lowest))

    patch.setattr(Decisions, "merged", merged)


@variant("blocks in DuckDB", "what is stored of a column is not of a partition column of its name")
def _scores_of_columns_that_are_not_read(patch: Patch) -> None:
    real = score_tests.ScoreTest._from_evidence
    patch.setattr(
        score_tests.ScoreTest,
        "_from_evidence",
        lambda test, seen, is_open: real(test, seen, np.ones(len(seen), np.bool_)),
    )
    patch.setattr(score_tests, "_with_flags", lambda outcome, seen, on_nan: outcome)


@variant("levels", "the rows of a block are where its row group has them")
def _rows_of_other_blocks(patch: Patch) -> None:
    def divided(real: Any) -> Any:
        return lambda found, group, n_rows: replace(real(found, group, n_rows), n_rows=n_rows[::-1].copy())

    patch.setattr(footers.Footers, "divided", divided(footers.Footers.divided))


@variant("levels", "a block with a row that does not pass is not KEEP")
def _keep_of_stored_scores(patch: Patch) -> None:
    real = import_module("skipml.bounds.evidence").by_scores

    def by_scores(known: Any, test: Any) -> NDArray[np.int8]:
        found: NDArray[np.int8] = real(known, test)
        return np.where(found == EVALUATE, KEEP, found).astype(np.int8)

    patch.setattr(score_tests, "by_scores", by_scores)


@variant("levels", "a class that a row may have is stored")
def _labels_of_the_others(patch: Patch) -> None:
    patch.setattr(
        score_tests,
        "by_labels",
        lambda known, label, is_not: np.full(len(known.labels), SKIP if label else KEEP, np.int8),
    )


@variant("scores", "a score map is of the outputs of the network that is asked")
def _scores_of_fewer_rows(patch: Patch) -> None:
    real = Network.forward
    patch.setattr(Network, "forward", lambda network, x: real(network, np.asarray(x) * (1 - 2.0**-18)))
