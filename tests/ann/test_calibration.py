from __future__ import annotations

import json

import numpy as np
import pytest

from skipml.ann.calibration import Calibration, broken, choose, curve, lower_bound, record, refuted
from skipml.ann.drift import compare
from skipml.ann.rules import NEARNESS, NPROBE, family
from tests.ann.searches import made_up

EVERYONE = made_up(3000, 100, seed=5)
CURVE = curve(family(NPROBE, 100, {}), EVERYONE)
TARGET = 0.95


def misses(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    """Shares of ten, most of them 0, a few large."""
    hit = rng.random(shape) < 5 * mean
    return np.where(hit, rng.integers(1, 4, shape) / 10, 0).astype(np.float32)


@pytest.mark.parametrize("allowed", [0.1, 0.05, 0.01])
def test_a_mean_just_at_the_limit_is_seldom_certified(allowed: float) -> None:
    drawn = misses(np.random.default_rng(1), allowed, (2000, 1000))  # the mean of 1, 2, 3 tenths in five of a hundred
    assert refuted(drawn, allowed).mean() <= 0.065
    plugged_in = drawn.mean(1) <= allowed
    assert plugged_in.mean() > 0.3, "the simulation must catch a bound that is none"


@pytest.mark.parametrize("allowed", [0.1, 0.05, 0.01])
def test_enough_queries_certify_a_mean_well_below_the_limit(allowed: float) -> None:
    drawn = misses(np.random.default_rng(2), allowed * 0.5, (200, 2000))
    assert refuted(drawn, allowed).mean() > 0.8


def violations(target: float, certify: bool, splits: int = 300, n: int = 500) -> float:
    """How often the setting chosen on n queries has a mean recall below the target over all queries."""
    truth, missed = 1 - CURVE.miss.mean(1), 0
    for split in range(splits):
        chosen = np.random.default_rng(split).choice(CURVE.miss.shape[1], n, replace=True)
        miss = CURVE.miss[:, chosen]
        setting = choose(miss, target) if certify else int((miss.mean(1) <= 1 - target).cumprod().sum()) - 1
        missed += setting is not None and truth[setting] < target
    return missed / splits


def test_the_promise_holds_over_simulated_splits_and_a_plugged_in_mean_does_not() -> None:
    # targets just above what a setting attains are the hardest to keep
    targets = [float(1 - miss.mean()) + 1e-4 for miss in CURVE.miss[10:24:3]]
    kept = [violations(target, True) for target in targets]
    plugged = [violations(target, False) for target in targets]
    assert max(kept) <= 0.08
    assert max(plugged) > 0.3


def test_what_reads_more_is_chosen_where_less_was_certified() -> None:
    strict, loose = choose(CURVE.miss, 0.97), choose(CURVE.miss, 0.85)
    assert strict is not None
    assert loose is not None
    assert CURVE.lists[strict].mean() > CURVE.lists[loose].mean()


def test_no_setting_is_better_than_a_wrong_promise() -> None:
    assert choose(np.full((4, 1000), 0.2, np.float32), 0.95) is None
    assert choose(CURVE.miss[:, :5], 0.95) is None, "five queries confirm nothing"
    assert choose(CURVE.miss[:, :0], 0.95) is None


def test_every_group_must_reach_the_target() -> None:
    hard = np.argsort(-CURVE.miss.mean(0))[:600]
    easy = np.setdiff1d(np.arange(CURVE.miss.shape[1]), hard)
    together, apart = choose(CURVE.miss, 0.9), choose(CURVE.miss, 0.9, groups=[hard, easy])
    assert together is not None
    assert apart is not None
    assert apart < together
    assert 1 - CURVE.miss[apart][hard].mean() >= 0.9


def test_the_bound_is_what_the_test_confirms() -> None:
    miss = misses(np.random.default_rng(3), 0.03, (2000,))
    bound = lower_bound(miss)
    assert 0.9 < bound < 1 - miss.mean()
    assert refuted(miss, 1 - bound + 1e-4)[0]
    assert not refuted(miss, 1 - bound - 1e-4)[0]


def promise() -> Calibration:
    setting = choose(CURVE.miss, TARGET)
    assert setting is not None
    return record(CURVE, setting, k=10, target=TARGET, rule=NPROBE, queries="a log")


def test_a_record_tells_what_it_rests_on_and_survives_json() -> None:
    made = promise()
    assert made.mean >= made.bound >= TARGET
    assert made.n == 3000
    assert 0 < made.share <= 1
    assert Calibration.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_a_rule_without_training_is_calibrated_too() -> None:
    found = curve(family(NEARNESS, 100, {}), EVERYONE)
    setting = choose(found.miss, TARGET)
    assert setting is not None
    assert 1 - found.miss[setting].mean() >= TARGET


def test_drift_is_seen_and_its_absence_seldom_denied() -> None:
    rng = np.random.default_rng(4)
    made = promise()
    assert compare(made, misses(rng, 0.12, (400,))).is_broken
    assert "looks broken" in str(compare(made, misses(rng, 0.12, (400,))))
    false = np.mean([broken(misses(rng, 0.05, (300,)), 0.05) for _ in range(500)])
    assert false <= 0.08
    assert not compare(made, misses(rng, 0.02, (300,))).is_broken
    assert not compare(made, np.empty(0, np.float32)).is_broken
