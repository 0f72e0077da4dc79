"""Every unsound variant of what is stored of texts is caught, and the code as it is is not.

As in test_unsound_variants.py an ordinary run takes some of each battery.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soundness.text_battery import TEXT_BATTERIES
from tests.soundness.text_variants import TEXT_VARIANTS
from tests.soundness.variants import Variant, marked, name_of

_ONE_SIDED = {"_one_accepted_text_is_enough": "is KEEP"}
"""A row without a score is never TRUE, so only KEEP can be wrong."""

_QUICK = {"set_of_a_neighbour", "stale_texts"}

pytestmark = pytest.mark.usefixtures("patient")


@pytest.mark.parametrize("name", TEXT_BATTERIES)
def test_the_code_as_it_is_breaks_no_rule(name: str, tmp_path: Path) -> None:
    assert TEXT_BATTERIES[name](tmp_path) == []


@pytest.mark.parametrize("variant", [marked(v, name_of(v) in _QUICK, name_of(v)) for v in TEXT_VARIANTS])
def test_an_unsound_variant_is_caught(variant: Variant, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        variant.apply(patch)
        findings = TEXT_BATTERIES[variant.battery](tmp_path)
    wanted = _ONE_SIDED.get(variant.apply.__name__, "is SKIP")
    assert any(wanted in text for text in findings), f"nothing was found although this was broken: {variant.rule}"


def test_every_variant_breaks_a_rule_of_its_own() -> None:
    assert len({variant.rule for variant in TEXT_VARIANTS}) == len(TEXT_VARIANTS)


def test_the_quick_variants_are_of_every_battery() -> None:
    assert {v.battery for v in TEXT_VARIANTS if name_of(v) in _QUICK} == set(TEXT_BATTERIES)
