"""The filters on a model at given selectivities."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.tpc.suite import ModelSpec
from benchmarks.tpc.tables.limits import Limits, NoLimitError

Kind = Literal["above", "middle", "tail", "class"]
Bools = NDArray[np.bool_]
Outputs = NDArray[np.float32]

SELECTIVITIES = (0.1, 0.01, 0.001, 0.0001)
_CENTRES = (0.5, 0.45, 0.55, 0.4, 0.6, 0.35, 0.65, 0.3, 0.7, 0.25, 0.75)
FEW = 0.001
"""Filters of this selectivity and below are those that skipping is for."""


@dataclass(frozen=True, slots=True)
class Filter:
    """An output of a model above `low`, or between `low` and `high`; or, of kind class, the largest of all outputs.

    `selectivity` is what was asked for; of a class, what it has.
    """

    model: str
    kind: Kind
    selectivity: float
    output: int
    low: float = -np.inf
    high: float = np.inf
    is_list: bool = False
    """Whether a call of the model gives the list of its outputs."""

    def condition(self, call: str) -> str:
        """SQL for a call of the model such as `m(x, y)`; a class is asked for by `m_class(x, y)`."""
        name, _, arguments = call.partition("(")
        if self.kind == "class":
            return f"{name}_class({arguments} = {self.output}"
        score = f"{call}[{self.output + 1}]" if self.is_list else call
        return f"{score} > {self.low}" if self.kind == "above" else f"{score} BETWEEN {self.low} AND {self.high}"

    def passes(self, outputs: Outputs, known: Bools) -> Bools:
        """Which rows [n] pass, for outputs [n, m] of rows whose inputs are `known`."""
        if self.kind == "class":
            return np.asarray((outputs.argmax(axis=1) == self.output) & known)
        scores = outputs[:, self.output].astype(np.float64)
        passed: Bools = (scores > self.low) & (scores < self.high) & known  # no score is equal to a limit
        return passed


def filters_of(spec: ModelSpec, outputs: Sequence[Outputs], known: Bools) -> list[Filter]:
    """One-sided filters and ranges in the middle at every selectivity, ranges in the tail at the small ones; for a
    classifier one-sided filters on the output of the rarest class, and that class.

    `outputs` are those [n, m] of every row as each scorer computes them: all select the same rows, so a class that
    rounding gives to other rows is not asked for. Raises NoLimitError where ties leave no limit.
    """
    labels = [one.argmax(axis=1)[known] for one in outputs] if spec.classes else []
    output = _rarest(labels, spec.classes) if spec.classes else 0
    limits = Limits.of(*(one[known, output] for one in outputs))

    def between(kind: Kind, share: float, selectivity: float) -> Filter:
        low, high = limits.limit(share + selectivity, selectivity), limits.limit(share, selectivity)
        return Filter(spec.name, kind, selectivity, output, low, high)

    is_list = spec.classes > 0
    above = [Filter(spec.name, "above", s, output, limits.limit(s, s), is_list=is_list) for s in SELECTIVITIES]
    if spec.classes:
        members = [label == output for label in labels]
        agree = all(np.array_equal(members[0], other) for other in members[1:])
        return [*above, Filter(spec.name, "class", float(members[0].mean()), output)] if agree else above
    middle = [_first_with_limits(partial(between, "middle", selectivity=s), s) for s in SELECTIVITIES]
    return [*above, *middle, *(between("tail", s, s) for s in SELECTIVITIES if s <= FEW)]


def _first_with_limits(between: Callable[..., Filter], selectivity: float) -> Filter:
    """The range nearest to the middle of the scores that has limits: where rows lie dense, rounding leaves none."""
    for centre in _CENTRES:
        with contextlib.suppress(NoLimitError):
            return between(share=centre - selectivity / 2)
    raise NoLimitError(f"the scores leave no limits for {selectivity:.3%} of the rows in their middle")


def _rarest(labels: Sequence[NDArray[np.int64]], classes: int) -> int:
    """The class that the fewest rows are given, but some; of those that every scorer gives to the same rows, if any."""
    counts = np.bincount(labels[0], minlength=classes)
    agree = [all(np.array_equal(labels[0] == i, other == i) for other in labels[1:]) for i in range(classes)]
    wanted = (counts > 0) & (np.array(agree) if any(agree) else True)
    return int(np.argmin(np.where(wanted, counts, counts.sum() + 1)))
