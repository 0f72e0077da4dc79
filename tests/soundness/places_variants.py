"""Variants of what answers for rows by their places that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skipml.bounds.outcome import EVALUATE, KEEP
from skipml.engines import conditions, marks, shortcuts
from skipml.engines.places import Places
from tests.soundness.topk_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


def _changed(patch: Patch, change: Any) -> None:
    """Change the places made."""
    real = Places.of
    patch.setattr(Places, "of", staticmethod(lambda *given: change(real, *given)))


@variant("places", "a virtual file counts the rows that it holds")
def _places_of_the_real_file(patch: Patch) -> None:
    _changed(patch, lambda real, blocks, decided, served: real(blocks, decided, [(i, None) for i, _ in served]))


@variant("places", "a place is one of the file that holds it")
def _places_of_another_file(patch: Patch) -> None:
    _changed(patch, lambda real, blocks, decided, served: real(blocks, decided, served[::-1]))


@variant("places", "a run begins with its first row")
def _border_too_late(patch: Patch) -> None:
    def shifted(real: Any, *given: Any) -> Any:
        found = real(*given)
        return replace(found, start=np.where(found.start > 0, found.start + 1, 0))

    _changed(patch, shifted)


@variant("places", "a run ends with its last row")
def _border_too_early(patch: Patch) -> None:
    def shifted(real: Any, *given: Any) -> Any:
        found = real(*given)
        return replace(found, start=np.where(found.start > 0, found.start - 1, 0))

    _changed(patch, shifted)


@variant("places", "only KEEP is TRUE")
def _open_is_kept(patch: Patch) -> None:
    def kept(real: Any, blocks: Any, decided: Any, served: Any) -> Any:
        return real(blocks, np.where(decided == EVALUATE, KEEP, decided), served)

    _changed(patch, kept)


@variant("places", "a block that is SKIP is not TRUE")
def _skipped_blocks_are_kept(patch: Patch) -> None:
    real = Places.rows
    patch.setattr(Places, "rows", lambda p, d: real(p, d) if d == EVALUATE else int(p.n_rows.sum()) - real(p, EVALUATE))


@variant("places", "a bit stands for all its rows")
def _bits_of_the_first_row(patch: Patch) -> None:
    def units(places: Places) -> Any:
        shift = 2
        stride = int((places.start + places.n_rows).max() >> shift) + 1
        of_run = np.zeros((int(places.file[-1]) + 1) * stride, np.int8)
        for file, start, decision in zip(places.file, places.start, places.decision, strict=True):
            of_run[file * stride + (start >> shift) : (file + 1) * stride] = decision
        return of_run, shift, stride

    patch.setattr(Places, "_units", units)


@variant("places", "a row of NULLs that a join makes has no place")
def _outer_joins_have_places(patch: Patch) -> None:
    patch.setattr(marks, "_KEEPS_RIGHT", {"INNER", "RIGHT", "LEFT"})


@variant("places", "a condition that is not understood is asked")
def _all_conjuncts_answered(patch: Patch) -> None:
    real = conditions.ConditionReader.predicate

    def predicate(self: Any, conjuncts: Any) -> Any:
        found = real(self, conjuncts)
        self.understood_conjuncts = set(conjuncts)
        return found

    patch.setattr(conditions.ConditionReader, "predicate", predicate)


@variant("places", "a column may have the name of a place, and files without a partition are not counted")
def _names_are_places(patch: Patch) -> None:
    patch.setattr(shortcuts, "_are_known", lambda *_: True)
