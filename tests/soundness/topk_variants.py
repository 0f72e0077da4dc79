"""Variants of the search for the first rows that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skipml import topk
from skipml.bounds.outcome import EVALUATE, SKIP
from skipml.score_tests import Threshold
from skipml.topk import TopK
from tests.soundness.memory_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


@variant("top-k", "the threshold is the n-th best score, not the one before it")
def _threshold_of_the_row_before(patch: Patch) -> None:
    patch.setattr(topk._Best, "limit", property(lambda best: int(best.rank[-2:][0]) if len(best.rank) else None))


@variant("top-k", "there is no threshold until n rows are found")
def _threshold_of_too_few(patch: Patch) -> None:
    patch.setattr(topk._Best, "limit", property(lambda best: int(best.rank[-1]) if len(best.rank) else None))


@variant("top-k", "rows that the offset leaves out are looked for too")
def _offset_forgotten(patch: Patch) -> None:
    patch.setattr(TopK, "n", property(lambda asked: asked.k))


@variant("top-k", "NULL may come first")
def _nulls_are_last(patch: Patch) -> None:
    patch.setattr(TopK, "rule_out", TopK._without_scores_before)


@variant("top-k", "NaN comes before every number where the order falls")
def _nan_is_nothing(patch: Patch) -> None:
    patch.setattr(Threshold, "on_nan", property(lambda test: False))
    patch.setattr(Threshold, "never", _fails)


def _fails(test: Threshold, low: Any, high: Any) -> Any:
    ends = high if test.operator in (">", ">=") else low
    return ~test.holds(ends) & np.isfinite(low[:, 0]) & np.isfinite(high[:, 0])


@variant("top-k", "NaN comes behind every number where the order rises")
def _nan_is_small(patch: Patch) -> None:
    real = TopK.ranks
    patch.setattr(TopK, "ranks", lambda asked, values, null: real(asked, np.nan_to_num(values, nan=-np.inf), null))


@variant("top-k", "-0.0 equals 0.0")
def _zeros_have_signs(patch: Patch) -> None:
    real = TopK.ranks
    patch.setattr(TopK, "ranks", lambda asked, values, null: real(asked, values, null) - np.signbit(values))


@variant("top-k", "a row group is ruled out only if all its blocks are")
def _ruled_out_by_one_block(patch: Patch) -> None:
    real = topk._Search._rule_out

    def rule_out(search: Any) -> None:
        real(search)
        some = np.bincount(search._group[search._outcome.decision == SKIP], minlength=len(search._open)) > 0
        search._open &= ~some

    patch.setattr(topk._Search, "_rule_out", rule_out)


@variant("top-k", "bounds for another direction prove nothing")
def _other_direction(patch: Patch) -> None:
    real = TopK.rule_out

    def rule_out(asked: TopK, regions: Any, limit: int, *given: Any) -> Any:
        return real(replace(asked, ascending=not asked.ascending), regions, ~limit, *given)

    patch.setattr(TopK, "rule_out", rule_out)


@variant("top-k", "blocks that were not asked about are not ruled out")
def _everything_else_is_ruled_out(patch: Patch) -> None:
    real = TopK.rule_out

    def rule_out(asked: TopK, regions: Any, limit: int, budget: Any, chosen: Any) -> Any:
        found = real(asked, regions, limit, budget, chosen)
        return found.replace_decision(np.where(found.decision == EVALUATE, SKIP, found.decision))

    patch.setattr(TopK, "rule_out", rule_out)
