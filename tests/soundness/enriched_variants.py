"""Variants of enrichment, and of what is made of it, that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml import summaries
from skipml.bounds import linear_over_polygons, polygons
from skipml.engines import scan_regions
from skipml.metadata import loading, refine
from skipml.metadata.format import decode
from tests.soundness.engine_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]

Floats = NDArray[np.float64]


@variant("metadata", "casting an input moves it against the half-planes")
def _polygons_of_uncast_inputs(patch: Patch) -> None:
    real = polygons._polygon
    patch.setattr(polygons, "_polygon", lambda hull, dtype: real(hull, np.dtype(np.float64)))


@variant("metadata", "a box holds a row that lacks another of its columns")
def _boxes_of_complete_rows(patch: Patch) -> None:
    real = summaries._boxes

    def boxes(values: Floats, number: Any, limits: Any, count: int) -> Any:
        complete = number.all(axis=1)
        return (
            real(values[complete], number[complete], limits, count)
            if complete.any()
            else real(values, number, limits, count)
        )

    patch.setattr(summaries, "_boxes", boxes)


@variant("metadata", "a NaN is no number within the limits")
def _no_nan_counts(patch: Patch) -> None:
    real = refine._refined

    def refined(*given: Any) -> Any:
        return replace(real(*given), may_be_nan=np.zeros(len(given[2]), np.bool_))

    patch.setattr(refine, "_refined", refined)


@variant("metadata", "what a half-plane leaves of a side depends on the whole other side")
def _too_greedy_a_sweep(patch: Patch) -> None:
    real = polygons._extreme
    patch.setattr(polygons, "_extreme", lambda planes, low, high, choose: real(planes, low, high, np.maximum))


@variant("metadata", "a half-plane taken the other way round bounds nothing")
def _multipliers_of_any_sign(patch: Patch) -> None:
    real = linear_over_polygons._Program.limited
    patch.setattr(
        linear_over_polygons._Program,
        "limited",
        lambda self, multiplier: real(self, multiplier) - real(self, -multiplier),
    )


@variant("readers", "metadata is about one state of a file")
def _stale_metadata(patch: Patch) -> None:
    patch.setattr(loading, "_valid", lambda place, read, expected: decode(read())[0])
    patch.setattr(loading, "_is_older", lambda sidecar, state: False)


@variant("readers", "an argument that is computed is not the column it reads")
def _hulls_of_computed_arguments(patch: Patch) -> None:
    def plain_columns(arguments: Mapping[str, Any], scan_columns: Sequence[str], _: object) -> dict[str, list[int]]:
        return {scan_columns[next(iter(e.refs()))]: [i] for i, e in enumerate(arguments.values())}

    patch.setattr(scan_regions, "plain_columns", plain_columns)
