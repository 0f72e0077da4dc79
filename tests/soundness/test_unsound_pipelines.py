"""Every unsound variant of what bounds pipelines is caught, and the code as it is is not.

As in test_unsound_variants.py an ordinary run takes a quick one of each battery.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soundness.pipeline_battery import PIPELINE_BATTERIES
from tests.soundness.pipeline_variants import PIPELINE_VARIANTS
from tests.soundness.variants import Variant, marked, name_of

_ONE_SIDED = {"_refused_rows_pass": "is KEEP"}
"""A row without a score is never TRUE, so only KEEP can be wrong."""

_QUICK = {"null_has_no_value", "polygons_cut_missing", "null_has_no_score_in_joins"}

pytestmark = pytest.mark.usefixtures("patient")


@pytest.mark.parametrize("name", PIPELINE_BATTERIES)
def test_the_code_as_it_is_breaks_no_rule(name: str, tmp_path: Path) -> None:
    assert PIPELINE_BATTERIES[name](tmp_path) == []


@pytest.mark.parametrize("variant", [marked(v, name_of(v) in _QUICK, name_of(v)) for v in PIPELINE_VARIANTS])
def test_an_unsound_variant_is_caught(variant: Variant, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        variant.apply(patch)
        findings = PIPELINE_BATTERIES[variant.battery](tmp_path)
    wanted = _ONE_SIDED.get(variant.apply.__name__, "is SKIP")
    assert any(wanted in text for text in findings), f"nothing was found although this was broken: {variant.rule}"


def test_every_variant_breaks_a_rule_of_its_own() -> None:
    assert len({variant.rule for variant in PIPELINE_VARIANTS}) == len(PIPELINE_VARIANTS)


def test_the_quick_variants_are_of_every_battery() -> None:
    quick = [variant for variant in PIPELINE_VARIANTS if name_of(variant) in _QUICK]
    assert [variant.battery for variant in quick] == list(PIPELINE_BATTERIES)
