from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.ann import looks
from skipml.ann.rules import FixedFamily, PricedFamily, ScaledFamily, nearness
from skipml.ann.stopping import Nprobe, Progress, StopRule
from skipml.ann.traces import Recorder, Trace, joined, replay
from tests.ann.searches import made_up

TRACE = made_up(60, 50)


def level(route: np.ndarray) -> np.ndarray:
    return np.asarray(route[:, -1] / route[:, 0], np.float32)


FAMILIES = [FixedFamily(50), ScaledFamily(level), PricedFamily(nearness, 0.1, 10.0)]


@given(st.integers(1, 5000))
def test_looks_ascend_to_the_last_list_and_four_per_doubling(lists: int) -> None:
    grid = looks.grid(lists)
    assert grid[0] == min(looks.FIRST, lists)
    assert grid[-1] == lists
    assert (np.diff(grid) > 0).all()
    assert len(grid) <= 4 * np.log2(lists) + 4
    assert (looks.rounded(grid[:-2] + 1) == grid[1:-1]).all()
    assert (looks.rounded(grid[:-1]) == grid[:-1]).all()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_rounding_never_reads_less_than_asked(asked: list[float]) -> None:
    numbers = np.array(asked)
    rounded = looks.rounded(numbers)
    assert (rounded >= numbers).all()
    assert (rounded <= np.maximum(1.3 * numbers, numbers + 1)).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_rule_asks_for_what_was_read_or_for_a_later_look(family: object, data: st.DataObject) -> None:
    assert isinstance(family, FixedFamily | ScaledFamily | PricedFamily)
    rule = family.rule(float(data.draw(st.sampled_from(list(family.settings)))))
    look = data.draw(st.integers(0, len(TRACE.looks) - 2))
    progress = TRACE.progress(look, np.arange(len(TRACE)))
    more = rule.more(progress)
    assert (more >= progress.lists).all()
    assert np.isin(more, np.append(looks.grid(), progress.lists)).all()
    first = rule.first(TRACE.route, TRACE.sizes, TRACE.k)
    assert (first >= looks.FIRST).all() or isinstance(family, FixedFamily)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_a_family_tells_where_its_rules_stop_and_reads_most_first(family: object) -> None:
    assert isinstance(family, FixedFamily | ScaledFamily | PricedFamily)
    stops = family.stops(TRACE)
    for number in range(0, len(family.settings), 7):
        assert (replay(family.rule(float(family.settings[number])), TRACE) == stops[number]).all()
    assert (np.diff(TRACE.looks[stops], axis=0) <= 0).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_no_search_stops_with_fewer_than_k_rows_while_lists_remain(family: object) -> None:
    assert isinstance(family, FixedFamily | ScaledFamily | PricedFamily)
    stops = family.stops(TRACE)[-1]
    has_k = np.isfinite(TRACE.best[np.arange(len(TRACE)), stops, -1])
    assert (has_k | (stops == len(TRACE.looks) - 1)).all()


def search(trace: Trace, rule: StopRule) -> None:
    """What a search does, on a recorded one."""
    stop = looks.places(trace.looks, rule.first(trace.route, trace.sizes, trace.k))
    active = np.arange(len(trace))
    while len(active):
        here = int(stop[active[0]])
        more = rule.more(trace.progress(here, active))
        stop[active] = looks.places(trace.looks, np.minimum(more, trace.route.shape[1]))
        active = active[stop[active] > here]


def test_a_recorder_keeps_what_a_search_knew_until_all_is_found() -> None:
    recorded = []
    for start in range(0, len(TRACE), 8):
        batch = TRACE.take(np.arange(start, min(start + 8, len(TRACE))))
        recorder = Recorder(batch.best[:, -1])
        search(batch, recorder)
        recorded.append(recorder.trace(50))
    trace = joined(recorded)
    assert (trace.recall == TRACE.recall).all()
    assert (trace.best == TRACE.best).all()
    assert (trace.late == TRACE.late).all()


def test_a_recorder_leaves_the_query_itself_out() -> None:
    itself = np.zeros((len(TRACE), len(TRACE.looks), 1), np.float32)
    with_self = Trace(
        TRACE.looks, TRACE.route, TRACE.sizes, np.concatenate([itself, TRACE.best], 2), TRACE.late, TRACE.recall
    )
    recorder = Recorder(TRACE.best[:, -1], own=True)
    search(with_self, recorder)
    assert (recorder.trace(50).recall == TRACE.recall).all()


def test_nprobe_reads_no_more_than_there_is() -> None:
    rule = Nprobe(99)
    assert (rule.first(TRACE.route, TRACE.sizes, 10) == 50).all()
    progress = Progress(np.array([50]), TRACE.route[:1], TRACE.best[:1, -1], TRACE.late[:1, -1], TRACE.sizes[:1])
    assert (rule.more(progress) <= progress.lists).all()
