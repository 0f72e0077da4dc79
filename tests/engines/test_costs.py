"""Measured costs: they steer how much is verified, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import skipml
from skipml.bounds.budget import Budget, Ledger, Meter
from skipml.engines.costs import Paces, measured_seconds_per_row
from skipml.engines.functions import ModelFunction
from tests.engines.conftest import Lake
from tests.oracle import linear, model

_FUNCTION = ModelFunction("minus", model(linear([[1, -1]], [0])), "score")


def test_a_call_is_measured(con: skipml.Connection) -> None:
    private = con._planner.parser.private
    assert 1e-9 <= measured_seconds_per_row(_FUNCTION, 4e-9, private) <= 16e-9
    nobody = ModelFunction("nobody", _FUNCTION.model, "score")
    assert measured_seconds_per_row(nobody, 4e-9, private) == 4e-9


@pytest.mark.parametrize(
    ("ratios", "pace"), [([], 1), ([50], 1), ([50, 2, 2], 2), ([0.7] * 9, 0.7), ([100] * 9, 4), ([0.01] * 9, 0.5)]
)
def test_the_pace_is_that_of_the_last_runs(ratios: list[float], pace: float) -> None:
    paces = Paces()
    for ratio in ratios:
        paces.learn([_FUNCTION], Ledger(estimated=0.01, spent=0.01 * ratio))
    paces.learn([_FUNCTION], Ledger(estimated=1e-6, spent=1.0))
    paces.learn([_FUNCTION], None)
    assert paces.ledger([_FUNCTION]).pace == pytest.approx(pace)


def test_a_slow_verifier_is_granted_fewer_boxes_but_a_first_look() -> None:
    granted, first = [], []
    for pace in (1.0, 4.0):
        ledger = Ledger(pace)
        meter = Meter(Budget(1e-6, ledger=ledger), np.array([1_000_000]), 1e-5)
        first.append(meter.next_wave(deep=False))
        granted.append(meter.affordable(1))
        meter.close()
        assert ledger.granted > 0
        assert ledger.estimated > 0
    assert granted[1] < granted[0]
    assert min(first) >= 128


def test_the_report_tells_costs_apart(con: skipml.Connection, lake: Lake) -> None:
    report = con.explain(lake.sql("SELECT id FROM {one} WHERE minus(a, b) > 370"))
    scan = report.scans[0]
    assert 0 < scan.saved_seconds < scan.scoring_seconds
    assert scan.budget_seconds > 0
    assert scan.to_dict()["scoring_seconds"] == scan.scoring_seconds
    assert "scoring every row takes about" in str(report)
