"""Variants of what is remembered between predicates that are unsound on purpose."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml import score_tests
from skipml.bounds import memory
from skipml.bounds.leaves import Leaves
from skipml.bounds.memory import Known
from skipml.bounds.verdicts import Verdicts
from tests.soundness import memory_battery
from tests.soundness.map_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


def _key(patch: Patch, change: Any) -> None:
    """Make keys of something less."""
    real = memory.key_of

    def key_of(verifier: Any, blocks: Any) -> Any:
        return real(*change(verifier, blocks))

    patch.setattr(score_tests, "key_of", key_of)
    patch.setattr(memory_battery, "key_of", key_of)


@variant("memory", "what is remembered is about one network")
def _any_network(patch: Patch) -> None:
    _key(patch, lambda v, blocks: (SimpleNamespace(content=v.functionals.tobytes()), blocks))


@variant("memory", "what is remembered is about one output")
def _any_output(patch: Patch) -> None:
    _key(patch, lambda v, blocks: (SimpleNamespace(content=f"{v.network.hash} {len(v.functionals)}".encode()), blocks))


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
    real = Leaves.put_into

    def put_into(leaves: Leaves, known: Known, *others: Any) -> Known:
        return real(replace(leaves, root=np.roll(leaves.root, 1)), known, *others)

    patch.setattr(Leaves, "put_into", put_into)


@variant("memory", "leaves are kept only if they were not divided")
def _divided_leaves(patch: Patch) -> None:
    real = Leaves.put_into

    def put_into(leaves: Leaves, known: Known, kept: NDArray[np.bool_], *others: Any) -> Known:
        return real(leaves.take(slice(len(leaves) // 2)), known, kept, *others)

    patch.setattr(Leaves, "put_into", put_into)


@variant("memory", "the leaves of a box hold all its rows")
def _some_leaves(patch: Patch) -> None:
    def unfinished(verdicts: Any, leaves: Any) -> Any:
        return ~verdicts.finished[leaves.block]

    patch.setattr(Verdicts, "unfinished", unfinished)


@variant("memory", "a leaf in place of many holds all of them")
def _one_of_many_leaves(patch: Patch) -> None:
    def compacted(known: Known, most: int) -> Known:
        _, first = np.unique(known.root, return_index=True)
        one = {name: getattr(known, name)[first] for name in memory.OF_LEAVES}
        return Known(**one, lowest=known.lowest, highest=known.highest)

    patch.setattr(Known, "compacted", compacted)
