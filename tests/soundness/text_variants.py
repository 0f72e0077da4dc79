"""Variants of what is stored of texts, and of how it is read, that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from skipml.bounds import occurring, reading
from skipml.metadata import loading, refine, texts
from skipml.metadata.format import decode
from tests.soundness.variants import Patch, Variant

TEXT_VARIANTS: list[Variant] = []


def variant(battery: str, rule: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a variant to the list; `rule` is what it breaks."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        TEXT_VARIANTS.append(Variant(rule, battery, apply))
        return apply

    return add


@variant("texts", "a set is that of its own block")
def _set_of_a_neighbour(patch: Patch) -> None:
    real = texts.decode
    patch.setattr(texts, "decode", lambda known: np.roll(real(known), 1))


@variant("texts", "a block with a word beyond the limit is not known")
def _word_beyond_the_limit_forgotten(patch: Patch) -> None:
    real = texts.build

    def build(column: str, sets: Any, null_count: Any, most: int) -> Any:
        told = frozenset(real(column, sets, null_count, most).words)
        cut = [found and ((found & told) or None) for found in sets]
        return real(column, cut, null_count, most)

    patch.setattr(texts, "build", build)


@variant("texts", "a word is stored whole")
def _long_words_cut_off(patch: Patch) -> None:
    real = texts.decode

    def cut(known: Any) -> Any:
        found = real(known)
        for k, several in enumerate(found.tolist()):
            found[k] = several and tuple(sorted({word[:300] for word in several}))
        return found

    patch.setattr(texts, "decode", cut)


@variant("texts", "NULL is no text, and is counted")
def _no_null(patch: Patch) -> None:
    real = refine._told

    def told(*given: Any) -> Any:
        found = real(*given)
        return replace(found, null_count=np.where(found.all_null, found.null_count, 0))

    patch.setattr(refine, "_told", told)


@variant("texts", "a row group has the words of all its blocks")
def _words_of_every_block(patch: Patch) -> None:
    def merged(known: Any, starts: Any) -> Any:
        some = np.bitwise_and.reduceat(known.sets, starts, axis=0)
        return np.where((some[:, :1] & 0x7F) > 0, some, 0)

    patch.setattr(texts, "merged", merged)
    patch.setattr(texts, "decode", _without_empty_sets(texts.decode))


def _without_empty_sets(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decoded(known: Any) -> Any:
        found = real(known)
        found[:] = [several or None for several in found.tolist()]
        return found

    return decoded


@variant("texts", "words that no encoder knows occur too")
def _unknown_words_forgotten(patch: Patch) -> None:
    real = reading._occurring

    def known(*given: Any) -> Any:
        return {
            i: [several and (tuple(place for place in several if place % 2) or several) for several in places]
            for i, places in real(*given).items()
        }

    patch.setattr(reading, "_occurring", known)


@variant("texts", "a row may be in any of the runs")
def _last_run_lost(patch: Patch) -> None:
    real = occurring._runs
    patch.setattr(occurring, "_runs", lambda places: real(places)[:-1] if len(real(places)) > 2 else real(places))


@variant("texts", "closing a gap keeps what lies on both sides")
def _runs_beyond_the_most_lost(patch: Patch) -> None:
    patch.setattr(occurring, "_MOST_BOXES", 2)
    patch.setattr(occurring, "_joined", lambda runs, most: runs[:most])


@variant("texts", "the last text that occurs is among them")
def _tightened_too_far(patch: Patch) -> None:
    def tighten(low: Any, high: Any, places: Any) -> None:
        for k, several in enumerate(places):
            if several:
                low[k] = high[k] = several[0]

    patch.setattr(reading, "_tighten", tighten)
    patch.setattr(reading, "divided", lambda regions, places: regions)


@variant("texts", "a block is accepted if each of its texts is")
def _one_accepted_text_is_enough(patch: Patch) -> None:
    def any_among(places: Any, numbers: Any, n: int) -> Any:
        found = [bool(several) and not set(numbers.tolist()).isdisjoint(several) for several in places]
        return np.array(found or [False] * n, np.bool_)

    patch.setattr(reading, "_all_among", any_among)


@variant("stale texts", "texts are those of one state of a file")
def _stale_texts(patch: Patch) -> None:
    patch.setattr(loading, "_valid", lambda place, read, expected: decode(read())[0])
    patch.setattr(loading, "_is_older", lambda sidecar, state: False)
