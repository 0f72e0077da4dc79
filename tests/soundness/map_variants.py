"""Variants of how score maps are coded that are unsound on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import bitmaps, gaps, widest
from skipml.metadata.runs import Runs, edges
from tests.soundness.evidence_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Payload = NDArray[np.uint8]


class _Fitting:
    """Edges that are wherever they should be."""

    def __ge__(self, other: Any) -> bool:
        return True

    def __le__(self, other: Any) -> bool:
        return True


@variant("gap lists", "an edge is where rounding puts it")
def _edges_that_are_not_compared(patch: Patch) -> None:
    patch.setattr(widest, "edges", lambda *given: _Fitting())
    patch.setattr(widest, "_NUDGE", 5e-324)
    real = widest._Between.ranges

    def ranges(between: Any, cells: int) -> Any:
        found = real(between, cells)
        return replace(found, end=np.minimum(found.end, np.int32(cells - 1)))

    patch.setattr(widest._Between, "ranges", ranges)


@variant("score maps", "a free range begins in the cell behind that of a score")
def _ranges_from_the_cell_of_a_score_on(patch: Patch) -> None:
    real = widest._Between.ranges

    def ranges(between: Any, cells: int) -> Any:
        found = real(between, cells)
        before = np.append(0, found.end)[: len(found.end)]
        return replace(found, start=np.maximum(found.start - 1, before + 1).astype(np.int32))

    patch.setattr(widest._Between, "ranges", ranges)


@variant("score maps", "a score ends the range before it")
def _ranges_between_some_scores(patch: Patch) -> None:
    real = widest._Between.widest

    def between(low: Floats, high: Floats, most: int) -> Any:
        some = np.unique(np.append(np.arange(0, len(low), 2), len(low) - 1))
        return real(low[some], high[some], most)

    patch.setattr(widest._Between, "widest", between)


@variant("score maps", "a range is that of a score and what it may be off")
def _ranges_up_to_the_scores(patch: Patch) -> None:
    real = widest._Between.widest

    def between(low: Floats, high: Floats, most: int) -> Any:
        middle = (low + high) / 2
        middle[0], middle[-1] = low[0], high[-1]
        return real(middle, middle, most)

    patch.setattr(widest._Between, "widest", between)


@variant("score maps", "a run has a cell more than its number")
def _runs_of_a_cell_less(patch: Patch) -> None:
    real = gaps.decode

    def decode(payloads: Payload) -> Runs:
        found = real(payloads)
        return replace(found, edges=np.asarray(found.edges - [0, 1], np.int32))

    patch.setattr(gaps, "decode", decode)


@variant("score maps", "a block has runs of its own")
def _runs_of_other_blocks(patch: Patch) -> None:
    def interleaved(some: Runs, others: Runs, chosen: Bools) -> Runs:
        return Runs(*(np.concatenate([getattr(some, k), getattr(others, k)]) for k in ("cells", "count", "edges")))

    patch.setattr(Runs, "interleaved", staticmethod(interleaved))


@variant("score maps", "a bitmap has a bit less than its bytes")
def _cells_that_are_narrower(patch: Patch) -> None:
    patch.setattr(bitmaps, "edges", lambda index, lower, upper, cells: edges(index, lower, upper, cells + 1))


@variant("damaged maps", "bytes that make no sense exclude nothing")
def _lists_of_a_neighbour(patch: Patch) -> None:
    def without(payloads: Payload, unusable: Bools) -> Payload:
        return np.where(unusable[:, None], payloads[~unusable][:1], payloads)

    patch.setattr(gaps, "_without", without)
