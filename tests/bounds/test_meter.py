"""What a run may spend, to the box: the clock stands, so that only the arithmetic counts."""

from __future__ import annotations

import numpy as np
import pytest

from skipml.bounds import leaves as leaves_module
from skipml.bounds.budget import Budget, Ledger, Meter
from skipml.bounds.evidence import witness_rows
from skipml.bounds.leaves import Leaves, nearness
from skipml.metadata.evidence import Evidence, Witnesses
from tests.bounds.test_branch import Above, Below

_SECONDS = 0.001
"""Of a box, so that a wave costs as much as one box."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "seconds", 0.0)


def free(boxes: int, ledger: Ledger | None = None) -> Meter:
    """A meter that grants so many boxes, and two waves."""
    return Meter(Budget(0.0, free_boxes=boxes, ledger=ledger), np.array([100]), _SECONDS)


def test_waves_take_a_part_of_what_is_left() -> None:
    meter = free(1000)
    assert [meter.next_wave(deep=False), meter.next_wave(deep=True), meter.next_wave(deep=False)] == [500, 250, 499]


def test_a_wave_is_not_too_small_and_not_too_large() -> None:
    assert free(100).next_wave(deep=False) == 101
    assert free(200).next_wave(deep=True) == 128
    assert free(10**6).next_wave(deep=True) == 1024


def test_nothing_is_left_when_all_was_bounded() -> None:
    meter = free(1000)
    meter.bounded(1000)
    assert meter.next_wave(deep=False) == 1
    assert meter.next_wave(deep=False) == 0
    meter = free(1000)
    meter.spent(1.0001)
    assert meter.next_wave(deep=False) == 0


def test_the_clock_stops_a_run_that_takes_much_longer_than_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, goes_on in ((1 + 8 * 1.002 - 0.01, True), (1 + 8 * 1.002 + 0.01, False)):
        monkeypatch.setattr(Meter, "seconds", seconds)
        assert bool(free(1000).next_wave(deep=False)) == goes_on


def test_what_is_granted_is_a_share_of_what_scoring_costs() -> None:
    ledger = Ledger(pace=2.0, granted=1.0, estimated=1.0, spent=1.0)
    meter = Meter(Budget(1.0, share=0.03, free_boxes=10, ledger=ledger), np.array([100, 300]), _SECONDS)
    meter.close()
    assert ledger.granted == pytest.approx(1 + (0.03 * 400 / 0.002 + 1.5) * 0.002)
    meter.saved(50)
    meter.saved(0)
    meter.close()
    assert ledger.granted == pytest.approx(1 + 2 * (0.03 * 400 / 0.002 + 1.5) * 0.002 + 0.5 * 50)


def test_a_run_is_entered_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(pace=2.0, granted=1.0, estimated=1.0, spent=1.0)
    meter = free(10, ledger)
    meter.bounded(10_000)
    meter.spent(0.005)
    monkeypatch.setattr(Meter, "seconds", 7.0)
    meter.close()
    assert ledger.estimated == pytest.approx(1 + 10.005)
    assert ledger.granted == pytest.approx(1 + 2 * 10.005), "what was spent was granted"
    assert ledger.spent == 8.0


def test_how_many_blocks_can_be_given_boxes() -> None:
    meter = free(998)
    assert [meter.affordable(n) for n in (10, 400, 5000)] == [100, 2, 1]
    assert free(10**6).affordable(1) == 1024


def test_a_part_of_a_budget() -> None:
    part = Budget(1.0, share=0.04, free_boxes=101).part(0.25)
    assert (part.share, part.free_boxes, part.cost_per_row) == (0.01, 26, 1.0)


def test_a_stopped_run_grants_nothing_but_for_studies() -> None:
    meter, study = free(1000), Meter(Budget.unlimited(), np.array([1]), _SECONDS)
    meter.stop()
    study.stop()
    assert meter.next_wave(deep=False) == 0
    assert study.next_wave(deep=False) == 1024


def leaves(low: list[float], high: list[float]) -> Leaves:
    n = len(low)
    box, number, low_, high_ = np.zeros((n, 1)), np.arange(n), np.array(low)[:, None], np.array(high)[:, None]
    return Leaves(box, box, number, number, low_, high_, np.ones(n, np.bool_), box, np.zeros(n))


def test_nearness_is_the_part_of_the_gap_that_may_stay() -> None:
    gaps = leaves_module._GAPS.ravel()
    some = leaves([-4.0, -4.0, -np.inf], [2.0, 8.0, np.inf])
    seen = np.zeros((3, 1))
    up, down = nearness(Above(1.0), some, seen, seen), nearness(Below(-1.0), some, seen, seen)
    np.testing.assert_allclose(up, [(2 * gaps <= 1).mean(), (8 * gaps <= 1).mean(), 0])
    np.testing.assert_allclose(down, [(4 * gaps <= 1).mean(), (4 * gaps <= 1).mean(), 0])
    unseen = np.full((3, 1), np.inf)
    middle = nearness(Above(1.0), some, unseen, -unseen)
    np.testing.assert_allclose(middle[:2], [(-1 + 3 * gaps <= 1).mean(), (2 + 6 * gaps <= 1).mean()])


def test_rows_that_are_stored_come_in_the_order_of_the_inputs() -> None:
    rows = np.arange(12.0).reshape(2, 2, 3)
    known = Evidence(witnesses=Witnesses(("a", "b", "c"), rows, 1))
    found = witness_rows(known, ["c", "a"])
    assert found is not None
    assert found.tolist() == rows[:, :, [2, 0]].tolist()
    assert witness_rows(known, ["a", "d"]) is None
    assert witness_rows(known, []) is None
    assert witness_rows(known, [None]) is None
    assert witness_rows(Evidence(), ["a"]) is None
