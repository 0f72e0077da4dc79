from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.ann import learned, regression
from skipml.ann.regression import Trees
from skipml.ann.rules import LEVELED, MARGINAL, NPROBE, family
from skipml.ann.stopping import Progress
from skipml.ann.traces import replay
from tests.ann.searches import made_up

LOG, LATER = made_up(600, 200, seed=1), made_up(400, 200, seed=2)


@pytest.fixture(scope="module")
def models() -> dict[str, Trees]:
    return {LEVELED: learned.train_leveled(LOG), MARGINAL: learned.train_marginal(LOG)}


def test_trees_learn_a_product_and_survive_json() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2]).astype(np.float32)
    trees = regression.fit(x[:3000], y[:3000])
    assert np.mean((trees.predict(x[3000:]) - y[3000:]) ** 2) < 0.2 * y.var()
    again = Trees.from_dict(json.loads(json.dumps(trees.to_dict())))
    assert (again.predict(x) == trees.predict(x)).all()


def test_arrays_that_do_not_fit_are_refused() -> None:
    stored = regression.fit(np.zeros((10, 2), np.float32), np.zeros(10, np.float32)).to_dict()
    stored["leaf"] = stored["leaf"][1:]
    with pytest.raises(ValueError, match="do not fit"):
        Trees.from_dict(stored)


def test_constant_features_and_targets_are_no_trouble() -> None:
    trees = regression.fit(np.ones((5, 3), np.float32), np.full(5, 2.0, np.float32))
    assert trees.predict(np.zeros((2, 3), np.float32)) == pytest.approx(2)


@given(st.integers(1, 300), st.integers(1, 20), st.data())
@settings(max_examples=50, deadline=None)
def test_features_are_finite_whatever_was_found(lists: int, k: int, data: st.DataObject) -> None:
    floats = st.floats(0, 1e10)
    route = np.sort(np.array([data.draw(st.lists(floats, min_size=lists, max_size=lists))], np.float32))
    best = np.sort(np.array([data.draw(st.lists(floats | st.just(np.inf), min_size=k, max_size=k))], np.float32))
    read = np.array([data.draw(st.integers(1, lists))])
    progress = Progress(read, route, best, np.ones(1, np.float32), np.ones((1, lists), np.int64))
    assert np.isfinite(learned.during(progress)).all()
    assert np.isfinite(learned.before(route)).all()


def test_a_feature_is_a_ratio_where_its_name_says_so() -> None:
    progress = LATER.progress(6, np.arange(5))
    found = learned.during(progress)
    rows, read = np.arange(5), progress.lists
    assert found[:, 0] == pytest.approx(np.log(read))
    kth = np.log(np.minimum(progress.best[:, -1], 1e30))
    assert found[:, 3] == pytest.approx(kth - np.log(progress.best[:, 0]), abs=1e-4)
    assert found[:, 5] == pytest.approx(kth - np.log(progress.route[rows, read - 1]), abs=1e-4)
    later = np.log(progress.route[rows, 2 * read - 1]) - np.log(progress.route[rows, read - 1])
    assert found[:, 7] == pytest.approx(later, abs=1e-4)
    assert found[:, 9:] == pytest.approx(learned.before(progress.route)[:, 1:], abs=1e-4)


@pytest.mark.parametrize("name", [LEVELED, MARGINAL])
def test_a_learned_rule_reads_less_than_a_fixed_number_for_the_same_recall(name: str, models: dict[str, Trees]) -> None:
    def least(which: str) -> float:
        stops = family(which, 200, models).stops(LATER)
        recall = np.take_along_axis(LATER.recall, stops.T, 1).mean(0)
        return float(LATER.looks[stops].mean(1)[recall >= 0.95].min())

    assert least(name) < 0.9 * least(NPROBE)


@pytest.mark.parametrize("name", [LEVELED, MARGINAL])
def test_a_served_rule_stops_where_its_family_says(name: str, models: dict[str, Trees]) -> None:
    rules = family(name, 200, models)
    stops = rules.stops(LATER)
    for number in range(0, len(rules.settings), 40):
        assert (replay(rules.rule(float(rules.settings[number])), LATER) == stops[number]).all()


def test_a_prediction_takes_microseconds(models: dict[str, Trees]) -> None:
    rule = family(MARGINAL, 200, models).rule(0.1)
    progress = LATER.progress(6, np.arange(1))

    def once() -> float:
        started = time.process_time()
        for _ in range(50):
            rule.more(progress)
        return (time.process_time() - started) / 50

    assert min(once() for _ in range(20)) < 500e-6  # the promise is 50; a busy machine is allowed ten times as much
