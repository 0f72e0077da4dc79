"""How many posting lists each stop rule reads for a mean recall, on the same lists and the same queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ann.lists import Searches
from skipml.ann import learned, regression
from skipml.ann.calibration import CONFIDENCE, choose
from skipml.ann.learned import Gain, Level
from skipml.ann.regression import Trees
from skipml.ann.rules import LEVELED, MARGINAL, NEARNESS, PRICES, Family, PricedFamily, family
from skipml.ann.stopping import IntMatrix, IntVector, Progress

FIXED, SPANN = "fixed nprobe", "SPANN (1+eps)"
TARGETS = (0.9, 0.95, 0.99)
TRAINING, CALIBRATION, SPLITS = 5_000, 1_000, 200
OTHER_SHARE = 0.1
"""Of each group but the first in a mixed workload of three groups: 80, 10 and 10 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What s settings of a rule do for q queries: `lists` and `recall` (s, q), the one that reads most first."""

    lists: NDArray[np.int32]
    recall: NDArray[np.float32]

    def take(self, queries: IntVector) -> Reading:
        """Some of the queries."""
        return Reading(self.lists[:, queries], self.recall[:, queries])

    def cheapest(self, target: float, groups: Sequence[IntVector] | None = None) -> int:
        """The last setting before the mean recall (of each group) falls below the target."""
        reached = np.ones(len(self.recall), np.bool_)
        for group in groups if groups is not None else [np.arange(self.recall.shape[1])]:
            reached &= self.recall[:, group].mean(1) >= target
        return int(np.append(reached, False).argmin()) - 1


Models = Mapping[str, Trees]


def train(searches: Searches, queries: IntVector) -> Models:
    """The learned rules, from a log of queries."""
    trace = searches.trace.take(queries)
    return {LEVELED: learned.train_leveled(trace), MARGINAL: learned.train_marginal(trace)}


def readings(searches: Searches, models: Models) -> dict[str, Reading]:
    """Every rule on every query. The baselines may stop after any number of lists, ours only at looks."""
    route = searches.trace.route
    m = route.shape[1]
    numbers = np.unique(np.round(1.02 ** np.arange(np.log(m) / np.log(1.02) + 1)).clip(1, m)).astype(np.int64)[::-1]
    fixed = [np.full(len(route), number) for number in numbers]
    ratios = np.geomspace(8, 1.0001, 400)  # of squared distances
    spann = [np.maximum(1, (route <= ratio * route[:, :1]).sum(1)) for ratio in ratios]
    found = {FIXED: _reading(searches, fixed), SPANN: _reading(searches, spann)}
    return found | {name: _of_family(searches, family(name, m, models)) for name in (NEARNESS, LEVELED, MARGINAL)}


def _reading(searches: Searches, lists: Sequence[IntVector]) -> Reading:
    recall = np.stack([searches.recall(one).astype(np.float32) for one in lists])
    return Reading(np.stack(lists).astype(np.int32), recall)


def _of_family(searches: Searches, rule: Family) -> Reading:
    trace = searches.trace
    lists = [trace.looks[stops] for stops in rule.stops(trace)]
    return _reading(searches, lists)


def one_distribution(rules: Mapping[str, Reading], sizes: IntMatrix) -> list[dict[str, Any]]:
    """Each rule set on half of the queries to reach each target and measured on the other half."""
    found = []
    number = next(iter(rules.values())).lists.shape[1]
    tuning, test = _halves(number)
    rows = np.cumsum(sizes[test], 1)
    for target in TARGETS:
        lists = {}
        for name, reading in rules.items():
            setting = reading.take(tuning).cheapest(target)
            read, recall = reading.lists[setting, test], reading.recall[setting, test]
            lists[name] = float(read.mean())
            found.append(
                {
                    "target": target,
                    "rule": name,
                    "recall": float(recall.mean()),
                    "share_of_queries_at_target": float((recall >= target - 1e-6).mean()),
                    "lists": lists[name],
                    "lists_p99": float(np.percentile(read, 99)),
                    "rows": float(rows[np.arange(len(test)), read - 1].mean()),
                    "fixed_reads_times": lists[FIXED] / lists[name],
                }
            )
    return found


def mixed(groups: Sequence[Mapping[str, Reading]], calibration: int = 300) -> list[dict[str, Any]]:
    """Every group must reach the target; the lists are those of 80 % of the first group and 10 % of each other."""
    found = []
    weights = np.array([1 - OTHER_SHARE * (len(groups) - 1)] + [OTHER_SHARE] * (len(groups) - 1))
    for target in TARGETS:
        lists = {}
        for name in groups[0]:
            tuning, tests, start = [], [], 0
            parts = [group[name] for group in groups]
            joined = Reading(np.concatenate([p.lists for p in parts], 1), np.concatenate([p.recall for p in parts], 1))
            for number, part in enumerate(parts):
                order = np.random.default_rng(number).permutation(part.lists.shape[1]) + start
                tuning.append(order[:calibration])
                tests.append(order[calibration:])
                start += len(order)
            setting = joined.cheapest(target, tuning)
            means = np.array([joined.lists[setting, test].mean() for test in tests])
            lists[name] = float(weights @ means)
            found.append(
                {
                    "target": target,
                    "rule": name,
                    "recall_of_groups": [float(joined.recall[setting, test].mean()) for test in tests],
                    "lists_of_groups": means.tolist(),
                    "lists": lists[name],
                    "fixed_reads_times": lists[FIXED] / lists[name],
                }
            )
    return found


def promises(rules: Mapping[str, Reading], splits: int = SPLITS) -> list[dict[str, Any]]:
    """How often a calibrated target is missed over random splits into calibration and test queries, and what the
    bound costs against plugging in the mean.
    """
    found = []
    for target in TARGETS:
        for name, every in rules.items():
            thin = slice(None, None, max(1, len(every.lists) // 150))
            reading = Reading(every.lists[thin], every.recall[thin])
            missed, plugged, lists, cheap, recalls = 0, 0, [], [], []
            for split in range(splits):
                order = np.random.default_rng(split).permutation(reading.lists.shape[1])
                calibration, test = order[:CALIBRATION], order[CALIBRATION:]
                chosen = choose(1 - reading.recall[:, calibration], target)
                setting = 0 if chosen is None else chosen
                plain = reading.take(calibration).cheapest(target)
                recalls.append(float(reading.recall[setting, test].mean()))
                missed += recalls[-1] < target
                plugged += float(reading.recall[plain, test].mean()) < target
                lists.append(float(reading.lists[setting, test].mean()))
                cheap.append(float(reading.lists[plain, test].mean()))
            found.append(
                {
                    "target": target,
                    "rule": name,
                    "confidence": CONFIDENCE,
                    "missed": missed / splits,
                    "missed_by_plugging_in_the_mean": plugged / splits,
                    "recall_5th_percentile": float(np.percentile(recalls, 5)),
                    "lists": float(np.mean(lists)),
                    "lists_more": float(np.mean(lists) / np.mean(cheap) - 1),
                }
            )
    return found


def seconds_per_prediction(searches: Searches, models: Models) -> dict[str, float]:
    """What one prediction takes, features included, for one query: the best of some runs, in processor time."""
    gain, level = Gain(models[MARGINAL]), Level(models[LEVELED])
    progress = searches.trace.progress(4, np.arange(1))

    def best(predict: Callable[[], Any]) -> float:
        runs = []
        for _ in range(40):
            started = time.process_time()
            for _ in range(100):
                predict()
            runs.append((time.process_time() - started) / 100)
        return min(runs)

    return {MARGINAL: best(lambda: gain(progress)), LEVELED: best(lambda: level(progress.route))}


def against_lightgbm(searches: Searches, training: IntVector, test: IntVector) -> list[dict[str, Any]]:
    """Lists read by marginal gain with our regression and with LightGBM's; empty where that is not installed."""
    if find_spec("lightgbm") is None:
        return []
    from lightgbm import LGBMRegressor

    trace = searches.trace.take(training)
    features, gains = learned.gains(trace)
    theirs = LGBMRegressor(n_estimators=200, num_leaves=31, learning_rate=0.06, n_jobs=1, verbose=-1)
    theirs.fit(features, gains)
    ours = regression.fit(features, gains)
    found = []
    for name, predict in (("ours", ours.predict), ("LightGBM", theirs.booster_.predict)):

        def worth(progress: Progress, predict: Callable[..., Any] = predict) -> Any:
            return (predict(learned.during(progress)) / progress.lists).astype(np.float32)

        part = Searches(searches.trace.take(test), searches.found[test])
        reading = _of_family(part, PricedFamily(worth, *PRICES))
        lists = {str(target): float(reading.lists[reading.cheapest(target)].mean()) for target in TARGETS}
        found.append({"regression": name, "lists": lists})
    return found


def _halves(number: int) -> tuple[IntVector, IntVector]:
    order = np.random.default_rng(7).permutation(number)
    return order[: number // 2], order[number // 2 :]
