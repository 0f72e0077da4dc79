"""Filters to judge metadata by: thresholds on the scores of given models, or of probes that stand in for them.

A filter that lets a share of the rows pass finds them in few row groups only where the table is in some order. A limit
beyond all sampled scores stands for filters that are rarer than the sample shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Shift
from skipml.samples import Sample
from skipml.score_tests import Threshold
from skipml.scores import Model, ModelScore

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

SELECTIVITIES = (0.01, 0.001, 0.0001)
_MOST_PASSING = 0.05
"""The share of the rows that a filter may pass if many rows have the same score."""
_MOST_FILTERS = 64
_HIDDEN = 8
"""As many kinks as small trained networks show; deeper random ones are wilder than what anyone trains."""
_MOST_INPUTS = 4
_SEED = 0
PROBED_WAY = 0.25
"""For filters on probes: where columns follow each other closely, filters need not be as close as the rows are."""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A predicate, and which of the sampled row groups hold no row that passes [G]."""

    predicate: Threshold
    skippable: Bools


def probe_models(sample: Sample, pairs: Sequence[tuple[str, str]], networks: int) -> list[Model]:
    """Models over standardised columns: of each of the pairs the sum and the difference, as a hull helps no model that
    lacks one of its columns, and at least so many random ReLU networks over all columns, of more than four columns over
    four at a time.
    """
    rng = np.random.default_rng(_SEED)
    models = [_model(sample, pair, _sum(sign)) for pair in pairs for sign in (1.0, -1.0)]
    wanted = len(models) + networks
    while len(models) < wanted:
        order = sample.columns
        if len(order) > _MOST_INPUTS:
            order = tuple(order[i] for i in rng.permutation(len(order)))
        sets = [order[i : i + _MOST_INPUTS] for i in range(0, len(order), _MOST_INPUTS)]
        models += [_model(sample, chosen, _random(len(chosen), rng)) for chosen in sets]
    return models


def _model(sample: Sample, columns: Sequence[str], ops: Sequence[Op]) -> Model:
    centre, scale = _standard(sample.values[:, [sample.columns.index(name) for name in columns]])
    network = Network(len(columns), 1, np.dtype(np.float64), (Shift(-centre), Divide(scale), *ops))
    return Model(network, tuple(columns))


def _sum(sign: float) -> list[Op]:
    return [Affine(np.array([[1.0, sign]]), np.zeros(1))]


def _random(n_inputs: int, rng: np.random.Generator) -> list[Op]:
    """One hidden layer with weights as He et al. (2015) begin training."""
    hidden = Affine(rng.normal(size=(_HIDDEN, n_inputs)) * np.sqrt(2 / n_inputs), rng.normal(size=_HIDDEN))
    return [hidden, LeakyRelu(0.0), Affine(rng.normal(size=(1, _HIDDEN)), np.zeros(1))]


def _standard(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation [d] of the finite values [n, d], 0 and 1 where they say nothing."""
    finite = np.isfinite(values)
    largest = np.maximum(np.abs(np.where(finite, values, 0.0)).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    unit = np.where(finite, values, 0.0) / largest  # so that no sum overflows
    n = np.maximum(finite.sum(axis=0), 1)
    mean = unit.sum(axis=0) / n
    spread = np.sqrt((np.where(finite, unit - mean, 0.0) ** 2).sum(axis=0) / n) * largest
    return mean * largest, np.where(spread > np.finfo(np.float64).tiny, spread, 1.0)


def filters_of(
    models: Sequence[Model], sample: Sample, *, selectivities: Sequence[float] = SELECTIVITIES, way: float = 0.0
) -> list[Filter]:
    """Thresholds on every output of the models, in both directions, that leave some row group of the sample out.

    Those beyond all sampled scores are at least that share of the `way` to what limits alone allow away. Models read
    the sample's columns, whatever their case; KeyError otherwise.
    """
    spelled = {name.lower(): name for name in sample.columns}
    found: list[Filter] = []
    for model in models:
        inputs = [spelled[name.lower()] for name in model.columns]
        for i in range(model.n_outputs):
            found += _filters(model.output(i, inputs), sample, selectivities, way)
    found = [f for f in found if f.skippable.any()]
    kept = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_FILTERS)).astype(np.int64))
    return [found[i] for i in kept.tolist()]


def _filters(score: ModelScore, sample: Sample, selectivities: Sequence[float], way: float) -> list[Filter]:
    inputs = [sample.columns.index(name) for name in score.inputs]
    scored = ~sample.null[:, inputs].any(axis=1)
    values = score.evaluate(sample.values[:, inputs])
    usable = np.sort(values[scored & np.isfinite(values[:, 0]), 0])
    if not len(usable):
        return []
    found = []
    for test in (*_within(score, usable, selectivities), *_beyond(score, usable, _allowed(score, sample, inputs), way)):
        passing = test.holds(values) & scored
        if passing.mean() <= _MOST_PASSING:
            matches = np.bincount(sample.group[passing], minlength=len(sample))
            found.append(Filter(test, matches == 0))
    return found


def _within(score: ModelScore, ordered: Floats, selectivities: Sequence[float]) -> list[Threshold]:
    """Limits among the sampled scores."""
    counts = sorted({max(1, round(share * len(ordered))) for share in selectivities})
    above = [Threshold(score, ">=", limit) for limit in dict.fromkeys(float(ordered[-k]) for k in counts)]
    below = [Threshold(score, "<=", limit) for limit in dict.fromkeys(float(ordered[k - 1]) for k in counts)]
    return above + below


def _beyond(score: ModelScore, ordered: Floats, allowed: tuple[float, float], way: float) -> list[Threshold]:
    """Limits as far beyond the extremes as these are from the first selectivity, or farther; none where all scores are
    one and nothing else is allowed.
    """
    k = max(1, round(SELECTIVITIES[0] * len(ordered)))
    low, high = float(ordered[0]), float(ordered[-1])
    below = min(2 * low - float(ordered[k - 1]), low + way * min(allowed[0] - low, 0.0))
    above = max(2 * high - float(ordered[-k]), high + way * max(allowed[1] - high, 0.0))
    found = [Threshold(score, ">", above), Threshold(score, "<", below)]
    apart = 1e-9 * max(abs(low), 1.0)
    return [test for test in found if np.isfinite(test.limit) and (low < high or abs(test.limit - low) > apart)]


def _allowed(score: ModelScore, sample: Sample, inputs: Sequence[int]) -> tuple[float, float]:
    """Bounds of the score over the limits of all sampled row groups together; 0 where there are none."""
    lower, upper = sample.limits.lower[:, inputs].min(axis=0), sample.limits.upper[:, inputs].max(axis=0)
    bounds = score.verifier.linear(lower[None], upper[None])
    low, high = float(bounds.lower[0, 0]), float(bounds.upper[0, 0])
    return (low, high) if np.isfinite(low) and np.isfinite(high) else (0.0, 0.0)
