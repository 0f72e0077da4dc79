"""Variants of what is remembered between predicates that are unsound on purpose."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml import predicates
from skipml.bounds import branch, memory
from skipml.bounds.memory import Known
from tests.soundness import memory_battery
from tests.soundness.evidence_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


def _key(patch: Patch, change: Any) -> None:
    """Make keys of something less."""
    real = memory.key_of

    def key_of(verifier: Any, blocks: Any) -> Any:
        return real(*change(verifier, blocks))

    patch.setattr(predicates, "key_of", key_of)
    patch.setattr(memory_battery, "key_of", key_of)


def _verifier(real: Any, **changes: Any) -> Any:
    return SimpleNamespace(**{"network": real.network, "functionals": real.functionals, **changes})


@variant("memory", "what is remembered is about one network")
def _any_network(patch: Patch) -> None:
    _key(patch, lambda v, blocks: (_verifier(v, network=SimpleNamespace(hash="")), blocks))


@variant("memory", "what is remembered is about one output")
def _any_output(patch: Patch) -> None:
    _key(patch, lambda v, blocks: (_verifier(v, functionals=np.zeros(v.functionals.shape)), blocks))


@variant("memory", "what is remembered is about these boxes")
def _any_boxes(patch: Patch) -> None:
    def without_boxes(verifier: Any, blocks: Any) -> Any:
        return verifier, replace(blocks, lower=np.zeros(blocks.lower.shape), upper=np.zeros(blocks.upper.shape))

    _key(patch, without_boxes)


@variant("memory", "what is remembered is about these polygons")
def _any_polygons(patch: Patch) -> None:
    _key(patch, lambda v, blocks: (v, replace(blocks, hulls=())))


@variant("memory", "what was found out is about the boxes that were asked for")
def _of_other_boxes(patch: Patch) -> None:
    real = Known.tightened

    def tightened(known: Known, other: Known, chosen: NDArray[np.bool_]) -> Known:
        return real(known, other, np.roll(chosen, 1))

    patch.setattr(Known, "tightened", tightened)


@variant("memory", "the bounds of a box are those of all its leaves")
def _some_leaves(patch: Patch) -> None:
    patch.setattr(branch._Search, "_unfinished", lambda search, leaves: ~search._finished[leaves.block])
