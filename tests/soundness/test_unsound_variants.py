"""The suite can fail: every unsound variant in `variants.py` is caught, and the code as it is is not.

`make mutants` asks it of all of them, an ordinary run of a quick one of each battery, so that the machinery is tested.
"""

from __future__ import annotations

from ctypes import CDLL
from pathlib import Path

import pytest

from skipml.bounds import compiled
from tests.compiled import build
from tests.soundness.battery import BATTERIES
from tests.soundness.compaction_battery import COMPACTION_BATTERIES
from tests.soundness.compaction_variants import VARIANTS
from tests.soundness.compiled_battery import passes
from tests.soundness.compiled_variants import COMPILED_VARIANTS, CompiledVariant
from tests.soundness.engine_battery import ENGINE_BATTERIES
from tests.soundness.enriched_battery import ENRICHED_BATTERIES
from tests.soundness.evidence_battery import EVIDENCE_BATTERIES
from tests.soundness.map_battery import MAP_BATTERIES
from tests.soundness.memory_battery import MEMORY_BATTERIES
from tests.soundness.places_battery import PLACES_BATTERIES
from tests.soundness.pulled_battery import PULLED_BATTERIES
from tests.soundness.topk_battery import TOPK_BATTERIES
from tests.soundness.variants import Variant, marked, name_of

pytestmark = pytest.mark.usefixtures("patient")

_ALL = {
    **BATTERIES,
    **COMPACTION_BATTERIES,
    **ENGINE_BATTERIES,
    **ENRICHED_BATTERIES,
    **EVIDENCE_BATTERIES,
    **MAP_BATTERIES,
    **MEMORY_BATTERIES,
    **PLACES_BATTERIES,
    **PULLED_BATTERIES,
    **TOPK_BATTERIES,
    "passes": passes,
}


_QUICK = {
    "any_output",
    "bits_of_the_first_row",
    "edges_that_are_not_compared",
    "folds_round_nothing",
    "every_writer_is_trusted",
    "hull_of_the_first",
    "inputs_of_another_call",
    "lists_of_a_neighbour",
    "multipliers_of_any_sign",
    "no_margin",
    "no_margin_of_scores",
    "not_mirrored",
    "null_is_kept",
    "other_direction",
    "row_groups_of_a_skipped_block",
    "runs_of_other_blocks",
    "scores_of_any_network",
    "stale_metadata",
    "ties_do_not_matter",
}
_QUICK_COMPILED = {"a layer adds its bias", "each layer rounds"}


@pytest.mark.parametrize("name", _ALL)
def test_the_code_as_it_is_breaks_no_rule(name: str, tmp_path: Path) -> None:
    assert _ALL[name](tmp_path) == []


def test_every_unsound_variant_changes_what_is_there() -> None:
    """An ordinary run breaks few of them, and would not see that a name has gone."""
    for variant in VARIANTS:
        with pytest.MonkeyPatch.context() as patch:
            variant.apply(patch)


@pytest.mark.parametrize("variant", [marked(v, name_of(v) in _QUICK, name_of(v)) for v in VARIANTS])
def test_an_unsound_variant_is_caught(variant: Variant, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)  # what is broken is Python
        variant.apply(patch)
        findings = _ALL[variant.battery](tmp_path)
    assert findings, f"nothing was found wrong although this was broken: {variant.rule}"


@pytest.mark.parametrize("name", ["bounds", "metadata", "passes"])
def test_the_compiled_bounds_as_they_are_break_no_rule(name: str, tmp_path: Path) -> None:
    assert _findings(name, tmp_path, build(tmp_path / "compiled")) == []


@pytest.mark.parametrize(
    "variant", [marked(v, v.rule in _QUICK_COMPILED, v.rule.replace(" ", "_")) for v in COMPILED_VARIANTS]
)
def test_an_unsound_variant_of_the_compiled_bounds_is_caught(variant: CompiledVariant, tmp_path: Path) -> None:
    library = build(tmp_path / "compiled", variant.file, variant.old, variant.new)
    findings = _findings(variant.battery, tmp_path, library)
    assert findings, f"nothing was found wrong although this was broken: {variant.rule}"


def _findings(battery: str, folder: Path, library: CDLL) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: library)
        return _ALL[battery](folder)


def test_every_variant_breaks_a_rule_of_its_own() -> None:
    assert len({variant.rule for variant in VARIANTS}) == len(VARIANTS) >= 12


def test_the_quick_variants_are_of_every_battery() -> None:
    quick = [variant for variant in VARIANTS if name_of(variant) in _QUICK]
    assert len(quick) == len(_QUICK)
    assert {variant.battery for variant in quick} | {"passes"} == set(_ALL)
    assert {v.rule for v in COMPILED_VARIANTS} > _QUICK_COMPILED
