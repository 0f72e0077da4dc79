"""Variants of what bounds pipelines that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from skipml import score_tests
from skipml.bounds import reading, through
from skipml.bounds.features import FeatureMap
from skipml.bounds.prepared import PreparedVerifier
from skipml.bounds.through import Through
from skipml.engines import pushdown
from skipml.preparation import Feature
from tests.soundness.variants import Patch, Variant

PIPELINE_VARIANTS: list[Variant] = []


def variant(battery: str, rule: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a variant to the list; `rule` is what it breaks."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        PIPELINE_VARIANTS.append(Variant(rule, battery, apply))
        return apply

    return add


def _middle(low: Any, high: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return (low + high) / 2, (low + high) / 2


def _as_read(patch: Patch, change: Callable[[Any], Any]) -> None:
    patch.setattr(score_tests, "as_read", lambda regions, function: change(reading._read(regions, function)))


@variant("pipelines", "text reaches to the place of its upper limit")
def _upper_text_left_out(patch: Patch) -> None:
    real = reading._places
    patch.setattr(reading, "_places", lambda *given: (real(*given)[0], real(*given)[0]))
    _as_read(patch, lambda regions: regions)


@variant("pipelines", "NULL has the value that the pipeline gives it")
def _null_has_no_value(patch: Patch) -> None:
    _as_read(patch, lambda regions: replace(regions, may_be_nan=np.zeros_like(regions.may_be_nan)))


@variant("pipelines", "what is missing may be there as well")
def _all_is_missing(patch: Patch) -> None:
    real = FeatureMap._flags

    def flags(self: Any, lower: Any, upper: Any) -> Any:
        number, missing = real(self, lower, upper)
        return number & ~missing, missing

    patch.setattr(FeatureMap, "_flags", flags)


@variant("pipelines", "a row may be in any cell between the ends of a box")
def _last_cell_left_out(patch: Patch) -> None:
    real = Feature.cells
    patch.setattr(Feature, "cells", lambda self, low, high: (real(self, low, high)[0],) * 2)


@variant("pipelines", "a form is largest at any of the cells, what is missing among them")
def _first_cell_alone(patch: Patch) -> None:
    real = FeatureMap._allowed

    def allowed(self: Any, *given: Any) -> Any:
        found = real(self, *given)
        return found & (np.cumsum(found, axis=1) == 1)

    patch.setattr(FeatureMap, "_allowed", allowed)


@variant("pipelines", "softmax of a class is least where the other margins are largest")
def _softmax_at_one_end(patch: Patch) -> None:
    real = through._softmax
    patch.setattr(through, "_softmax", lambda low, high, *rest: real(*_middle(low, high), *rest))


@variant("pipelines", "a logistic rises from the lower to the upper margin")
def _logistic_at_one_end(patch: Patch) -> None:
    real = Through.outputs

    def outputs(self: Any, low: Any, high: Any) -> Any:
        return real(self, low, high) if self.way != "each" else real(self, *_middle(low, high))

    patch.setattr(Through, "outputs", outputs)


@variant("pipelines", "both parts of a divided box are looked at")
def _left_half_lost(patch: Patch) -> None:
    real = PreparedVerifier._halves

    def halves(self: Any, leaves: Any) -> Any:
        found = real(self, leaves)
        first = np.zeros(len(found), np.bool_)
        first[np.unique(found.root, return_index=True)[1]] = True
        return found.take(first)

    patch.setattr(PreparedVerifier, "_halves", halves)


@variant("hulls of pipelines", "polygons say nothing of rows that lack a number")
def _polygons_cut_missing(patch: Patch) -> None:
    patch.setattr(PreparedVerifier, "may_cut", lambda self, lower, upper: np.ones(len(lower), np.bool_))


@variant("pipelines", "a row that is refused does not pass")
def _refused_rows_pass(patch: Patch) -> None:
    _as_read(patch, lambda regions: replace(regions, may_be_null=np.zeros_like(regions.may_be_null)))


@variant("joins of pipelines", "a row of NULLs may have a score")
def _null_has_no_score_in_joins(patch: Patch) -> None:
    real = pushdown.rejects_null
    patch.setattr(pushdown, "rejects_null", lambda expr, answer_null: real(expr))
