"""Variants of the search for the first rows that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skipml import threshold_search
from skipml.bounds.outcome import EVALUATE, SKIP
from skipml.engines import ordering, visit_query, visits
from skipml.score_tests import Threshold
from skipml.topk import TopK
from tests.soundness.memory_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


@variant("top-k", "the threshold is the n-th best score, not the one before it")
def _threshold_of_the_row_before(patch: Patch) -> None:
    patch.setattr(
        threshold_search._Best, "limit", property(lambda best: int(best.rank[-2:][0]) if len(best.rank) else None)
    )


@variant("top-k", "there is no threshold until n rows are found")
def _threshold_of_too_few(patch: Patch) -> None:
    patch.setattr(
        threshold_search._Best, "limit", property(lambda best: int(best.rank[-1]) if len(best.rank) else None)
    )


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
    real = threshold_search._Search._rule_out

    def rule_out(search: Any) -> None:
        real(search)
        some = np.bincount(search._group[search._outcome.decision == SKIP], minlength=len(search._open)) > 0
        search._open &= ~some

    patch.setattr(threshold_search._Search, "_rule_out", rule_out)


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


# In DuckDB


def _wanted(patch: Patch, change: Any) -> None:
    """Change what is wanted of a scan."""
    real = ordering._top_orders
    patch.setattr(
        ordering,
        "_top_orders",
        lambda limit: [(table, replace(order, **change(order))) for table, order in real(limit)],
    )


@variant("top-k in DuckDB", "further keys tell rows of equal score apart")
def _ties_do_not_matter(patch: Patch) -> None:
    _wanted(patch, lambda order: {"breaks_ties": False})


@variant("top-k in DuckDB", "the query says whether NULL comes first")
def _default_null_order(patch: Patch) -> None:
    _wanted(patch, lambda order: {"nulls_first": False})


@variant("top-k in DuckDB", "the query says in which direction rows are ordered")
def _always_descending(patch: Patch) -> None:
    _wanted(patch, lambda order: {"ascending": False})


@variant("top-k in DuckDB", "rows behind an offset follow those that it leaves out")
def _no_offset(patch: Patch) -> None:
    _wanted(patch, lambda order: {"offset": 0})


@variant("top-k in DuckDB", "only rows that pass the conditions count")
def _conditions_left_out(patch: Patch) -> None:
    real = visit_query.scores_query

    def scores_query(parser: Any, query: Any, *given: Any) -> str:
        text: str = real(parser, query, *given)
        before, where, _ = text.partition(" WHERE ")
        return before + ") AS x" if where else text

    patch.setattr("skipml.engines.planner.scores_query", scores_query)


@variant("top-k in DuckDB", "a score that equals the threshold may come before it by further keys")
def _only_better_scores_are_told(patch: Patch) -> None:
    real = visits._not_behind
    patch.setattr(visits, "_not_behind", lambda worst: real(worst).replace("=", ""))


@variant("top-k in DuckDB", "NULL may come before the threshold")
def _nulls_are_not_told(patch: Patch) -> None:
    real = visits._not_behind
    patch.setattr(visits, "_not_behind", lambda worst: real(replace(worst, nulls_first=False)))


@variant("top-k in DuckDB", "a row lies in the row group that its place in the listed file says")
def _neighbouring_places(patch: Patch) -> None:
    real = visits.Visits._places

    def places(self: Any, groups: Any, *given: Any) -> Any:
        group, row = real(self, groups, *given)
        return np.where(group == groups[0], groups[-1], group), row

    patch.setattr(visits.Visits, "_places", places)


@variant("top-k in DuckDB", "row groups that are neither scored nor ruled out are read")
def _open_row_groups_are_left_out(patch: Patch) -> None:
    real = threshold_search._Search.found
    patch.setattr(threshold_search._Search, "found", lambda search: _without_open(real(search)))


def _without_open(found: threshold_search.Found) -> threshold_search.Found:
    return replace(found, needed=found.needed & found.visited) if found.visited.any() else found
