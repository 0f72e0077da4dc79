"""Variants of compaction that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skipml.bounds import compaction, folding
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.over_domain import OverDomain
from skipml.network import Affine, Shift
from tests.soundness.pulled_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


def _folds(patch: Patch, change: Any) -> None:
    real = folding._folded
    patch.setattr(folding, "_folded", lambda onward, *given: change(onward, *real(onward, *given)))


@variant("compaction", "what is folded into a bias keeps the rounding of the sum that it was in")
def _folds_round_nothing(patch: Patch) -> None:
    _folds(patch, lambda onward, layer, terms: (layer, None))


@variant("compaction", "a constant goes into the bias behind it")
def _constants_are_dropped(patch: Patch) -> None:
    _folds(patch, lambda onward, layer, terms: (Affine(layer.weight, onward.bias), terms))


@variant("compaction", "a neuron is dead where nothing of its range is above 0")
def _nearly_dead(patch: Patch) -> None:
    real = folding._flat
    patch.setattr(
        folding, "_flat", lambda op, read: real(op, [replace(v, upper=v.upper - 0.001, lower=v.lower) for v in read])
    )


@variant("compaction", "a ReLU is linear where nothing of its range is below 0")
def _nearly_linear(patch: Patch) -> None:
    real = folding._gives_on
    patch.setattr(
        folding,
        "_gives_on",
        lambda node, known, kept: real(node, [replace(v, lower=v.lower + 0.001) for v in known], kept),
    )


@variant("compaction", "a shift makes another number of 0")
def _shifted_zeros(patch: Patch) -> None:
    real = folding._flat
    patch.setattr(
        folding,
        "_flat",
        lambda op, read: (read[0].constant, read[0].zero) if isinstance(op, Shift) else real(op, read),
    )


@variant("compaction", "0 times infinity is not 0")
def _nothing_overflows(patch: Patch) -> None:
    real = GraphVerifier.ranges

    def ranges(self: Any, lower: Any, upper: Any) -> Any:
        found, finite = real(self, lower, upper)
        return found, np.ones_like(finite)

    patch.setattr(GraphVerifier, "ranges", ranges)


@variant("compaction", "what holds over a domain says nothing of boxes outside of it")
def _any_box_is_in_the_domain(patch: Patch) -> None:
    patch.setattr(OverDomain, "_outside", lambda self, lower, upper: np.zeros((len(lower), 1), np.bool_))
    real = compaction._domain
    patch.setattr(compaction, "_domain", lambda *given: (found := real(*given)) and (found[0], found[0]))
