"""Every unsound variant of what bounds tree ensembles is caught, and the code as it is is not.

As in test_unsound_variants.py an ordinary run takes a quick one of each battery.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soundness.tree_battery import TREE_BATTERIES
from tests.soundness.tree_variants import TREE_VARIANTS
from tests.soundness.variants import Variant, marked, name_of

_ONE_SIDED = {"_unknown_is_known": ("SKIP",)}
"""What is unknown is never KEEP, whatever the bounds say."""

_QUICK = {"upper_cell_left_out", "nothing_is_missing", "polygons_cut_missing", "unknown_is_known", "maps_without_nan"}

pytestmark = pytest.mark.usefixtures("patient")


@pytest.mark.parametrize("name", TREE_BATTERIES)
def test_the_code_as_it_is_breaks_no_rule(name: str, tmp_path: Path) -> None:
    assert TREE_BATTERIES[name](tmp_path) == []


@pytest.mark.parametrize("variant", [marked(v, name_of(v) in _QUICK, name_of(v)) for v in TREE_VARIANTS])
def test_an_unsound_variant_is_caught_for_a_wrong_skip_and_a_wrong_keep(variant: Variant, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        variant.apply(patch)
        findings = TREE_BATTERIES[variant.battery](tmp_path)
    for decision in _ONE_SIDED.get(variant.apply.__name__, ("SKIP", "KEEP")):
        wrong = [text for text in findings if f"is {decision}" in text]
        assert wrong, f"no wrong {decision} was found although this was broken: {variant.rule}"


def test_every_variant_breaks_a_rule_of_its_own() -> None:
    assert len({variant.rule for variant in TREE_VARIANTS}) == len(TREE_VARIANTS)


def test_the_quick_variants_are_of_every_battery() -> None:
    quick = [variant for variant in TREE_VARIANTS if name_of(variant) in _QUICK]
    assert [variant.battery for variant in quick] == list(TREE_BATTERIES)
