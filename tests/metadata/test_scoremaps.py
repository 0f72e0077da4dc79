"""Score maps contain every score and its margin, exclude what is empty, and answer nonsense with nothing known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.metadata import bitmaps
from skipml.metadata.runs import Intervals
from skipml.metadata.scoremaps import build, build_labels, decode, decode_labels

Floats = NDArray[np.float64]
INF = float("inf")
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e300, -1e300, 1.7e308, -1.7e308, 2.0**1000, 2.0**53 - 1, 1.0]
sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 32, 256]) | st.integers(0, 2048)
margins = st.sampled_from([0.0, 0.0, 5e-324, 1e-300, 1e-16, 1e-6, 0.1, 1.0, 1e300])


@st.composite
def scores(draw: st.DrawFn) -> Floats:
    """Scores [n] on all scales: any numbers, neighbours, equal ones, clusters, numbers on the edges of cells."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["any", "neighbours", "denormal", "clusters", "equal", "edges"]))
    if kind == "any":
        return np.array(draw(st.lists(st.sampled_from(EXTREMES) | st.floats(-1.7e308, 1.7e308), min_size=1)))
    if kind == "neighbours":
        start = draw(st.sampled_from(EXTREMES[:-2]))
        return np.asarray(start + rng.integers(-9, 10, n) * np.spacing(start))
    if kind == "denormal":
        return np.asarray(rng.integers(-40, 40, n) * 5e-324)
    if kind == "clusters":
        return np.asarray(rng.choice([0.0, 1.0, 1e6], n) + rng.random(n) * 1e-6)
    if kind == "equal":
        return np.full(n, draw(st.sampled_from(EXTREMES)))
    low, high = sorted(draw(st.tuples(st.floats(-1.7e308, 1.7e308), st.floats(-1.7e308, 1.7e308))))
    share = rng.integers(0, 17, n) / 16
    near = low * (1 - share) + high * share
    near = np.clip(np.nextafter(near, rng.choice([-INF, INF], n)), low, high)
    return np.concatenate([[low, high], near, np.nextafter(near, 0)])


def decoded(lower: float, upper: float, payload: NDArray[np.uint8]) -> Intervals:
    return decode(np.array([lower]), np.array([upper]), payload[None])


def covered(intervals: Intervals, low: Fraction, high: Fraction) -> bool:
    """Whether the intervals, some of which touch, contain everything between two numbers."""
    reached = low
    for start, end in zip(intervals.lower.tolist(), intervals.upper.tolist(), strict=True):
        if start == -INF and end == INF:
            return True
        if Fraction(start) <= reached <= Fraction(end):
            reached = Fraction(end)
        if reached >= high:
            return True
    return False


@given(scores(), margins, sizes)
@settings(max_examples=300, deadline=None)
def test_every_score_and_its_margin_is_in_the_intervals(values: Floats, margin: float, size: int) -> None:
    lower, upper, payload = build(values, margin, size)
    assert payload.shape == (size,)
    assert payload.dtype == np.uint8
    intervals = decoded(lower, upper, payload)
    for value in values.tolist():
        assert covered(intervals, Fraction(value) - Fraction(margin), Fraction(value) + Fraction(margin))
    assert (intervals.lower <= intervals.upper).all()
    assert intervals.lower[0] == lower
    assert intervals.upper[-1] == upper
    assert (intervals.upper[:-1] <= intervals.lower[1:]).all()
    assert len(intervals.block) <= len(values)


@given(scores(), margins, sizes)
@settings(max_examples=200, deadline=None)
def test_every_interval_is_within_a_cell_of_a_score(values: Floats, margin: float, size: int) -> None:
    lower, upper, payload = build(values, margin, size)
    if not size or max(-lower, upper) > 2.0**1000 or upper - lower < 2.0**-900:
        return
    intervals = decoded(lower, upper, payload)
    cell = (Fraction(upper) - Fraction(lower)) / (8 * size - 1)
    rounding = 4 * Fraction(float(np.spacing(max(abs(lower), abs(upper)))))
    exact = [Fraction(value) for value in values.tolist()]
    for start, end in zip(intervals.lower.tolist(), intervals.upper.tolist(), strict=True):
        for limit in (Fraction(start), Fraction(end)):
            assert min(abs(limit - value) for value in exact) <= Fraction(margin) + cell + rounding


@given(st.lists(st.tuples(scores(), margins), min_size=1, max_size=5), sizes)
@settings(deadline=None)
def test_blocks_decode_together_as_each_alone(blocks: list[tuple[Floats, float]], size: int) -> None:
    built = [build(values, margin, size) for values, margin in blocks]
    together = decode(np.array([b[0] for b in built]), np.array([b[1] for b in built]), np.array([b[2] for b in built]))
    assert (np.diff(together.block) >= 0).all()
    for i, one in enumerate(built):
        alone = decoded(*one)
        assert np.array_equal(together.lower[together.block == i], alone.lower)
        assert np.array_equal(together.upper[together.block == i], alone.upper)


def test_what_lies_between_clusters_is_excluded() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([centre + rng.random(1000) * 0.01 for centre in (0.0, 0.3, 0.9)])
    for size in (2, 32):
        intervals = decoded(*build(values, 1e-6, size))
        assert not ((intervals.lower < 0.8) & (intervals.upper > 0.4)).any()
        assert not ((intervals.lower < 0.2) & (intervals.upper > 0.1)).any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 64, 65, 255, 256, 257, 700, 2048])
@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential", "tails", "few", "grid", "far"])
def test_many_scores_in_any_number_of_bytes(kind: str, size: int) -> None:
    rng = np.random.default_rng(size)
    values = {
        "normal": rng.normal(size=1000),
        "uniform": rng.random(1000),
        "exponential": rng.exponential(size=5000),
        "tails": rng.standard_cauchy(1000),
        "few": rng.choice([-3.5, 0.0, 0.1, 7.0, 1e4], 1000),
        "grid": rng.integers(0, 4096, 300) / 4,
        "far": 1e9 + rng.random(1000),
    }[kind]
    for margin in (0.0, 1e-7, 1e-3):
        lower, upper, payload = build(values, margin, size)
        found = decoded(lower, upper, payload)
        assert payload.shape == (size,)
        assert (found.lower <= found.upper).all()
        assert (found.upper[:-1] < found.lower[1:]).all()
        at = np.searchsorted(found.lower, values - margin, side="right") - 1
        assert (at >= 0).all()
        assert (values + margin <= found.upper[at]).all()
        bitmap = bitmaps.build(np.sort(values - margin), np.sort(values + margin), size)[1]
        free = 1 - (found.upper - found.lower).sum() / (upper - lower)
        assert free >= 0.95 * bitmap - 1e-9


def test_more_bytes_keep_more_free() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    sizes = [2**k for k in range(12)]
    found = [decoded(*build(values, 0.0, size)) for size in sizes]
    occupied = [float((each.upper - each.lower).sum()) for each in found]
    assert occupied == sorted(occupied, reverse=True)
    assert occupied[-1] < 0.01 * occupied[0]


def test_few_scores_are_told_apart_exactly() -> None:
    values = np.array([0.0, 1e-4, 0.3, 0.3001, 1.0])
    found = decoded(*build(np.repeat(values, 50), 0.0, 32))
    assert len(found.block) == len(values)
    assert (found.upper - found.lower).sum() < 1e-5


def test_blocks_of_both_forms_are_decoded_in_order() -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.random(1000), rng.normal(size=1000), np.empty(0), rng.random(900), np.full(3, 2.0), np.array([INF])]
    built = [build(block, 0.0, 256) for block in blocks]
    assert len({bool(payload[0] & 0x80) for _, _, payload in built[:2]}) == 2, "one of each form"
    found = decode(*(np.array([each[k] for each in built]) for k in range(3)))
    for i, one in enumerate(built):
        alone = decoded(*one)
        assert np.array_equal(found.lower[found.block == i], alone.lower)
        assert np.array_equal(found.upper[found.block == i], alone.upper)
    assert (np.diff(found.block) >= 0).all()


def test_many_blocks_are_decoded_in_parts() -> None:
    built = 2_223 * [build(np.arange(n + 1.0) ** 2, 0.0, 64) for n in range(9)]
    found = decode(*(np.array([each[k] for each in built]) for k in range(3)))
    assert np.array_equal(np.bincount(found.block)[:90], np.tile(np.bincount(found.block)[:9], 10))
    ninth = found.block == 19_997
    alone = decoded(*built[19_997])
    assert np.array_equal(found.lower[ninth], alone.lower)


def test_equal_scores_without_a_margin_are_one_number() -> None:
    intervals = decoded(*build(np.full(5, 0.1), 0.0, 32))
    assert (intervals.lower.tolist(), intervals.upper.tolist()) == ([0.1], [0.1])


@pytest.mark.parametrize("size", [0, 3])
def test_no_row_has_no_interval(size: int) -> None:
    lower, upper, payload = build(np.empty(0), 1.0, size)
    assert (lower, upper, payload.tolist()) == (INF, -INF, [0] * size)
    assert len(decoded(lower, upper, payload).block) == 0


@pytest.mark.parametrize(
    ("values", "margin"),
    [
        ([0.0, np.nan], 1.0),
        ([INF], 0.0),
        ([1.0, -INF], 0.0),
        ([INF, -INF], INF),
        ([1.0], INF),
        ([1.0], np.nan),
        ([1.0], -1.0),
        ([1.7e308], 1e308),
        ([1.7e308, -1.7e308], 1.7e308),
    ],
)
@pytest.mark.parametrize("size", [0, 3])
def test_what_is_not_finite_is_unknown(values: list[float], margin: float, size: int) -> None:
    lower, upper, payload = build(np.array(values), margin, size)
    assert (lower, upper, payload.tolist()) == (-INF, INF, [255] * size)
    intervals = decoded(lower, upper, payload)
    assert (intervals.lower.tolist(), intervals.upper.tolist()) == ([-INF], [INF])


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1.0, 2.0), [(1.0, 2.0)]),  # rows, but no bit
        ((-1.7e308, 1.7e308), [(-1.7e308, 1.7e308)]),
        ((-INF, 3.0), [(-INF, 3.0)]),
        ((2.0, 1.0), [(-INF, INF)]),
        ((np.nan, 1.0), [(-INF, INF)]),
        ((1.0, np.nan), [(-INF, INF)]),
        ((INF, INF), [(-INF, INF)]),
        ((-INF, -INF), [(-INF, INF)]),
        ((INF, -INF), []),
    ],
)
@pytest.mark.parametrize("size", [0, 2])
def test_nonsense_is_what_the_limits_say_or_unknown(
    limits: tuple[float, float], expected: list[tuple[float, float]], size: int
) -> None:
    found = decoded(*limits, np.zeros(size, np.uint8))
    assert list(zip(found.lower.tolist(), found.upper.tolist(), strict=True)) == expected


@given(st.binary(max_size=40), st.integers(0, 3), st.floats() | st.just(0.0), st.floats() | st.just(1.0))
def test_any_bytes_and_limits_decode(data: bytes, n: int, lower: float, upper: float) -> None:
    payloads = np.tile(np.frombuffer(data, dtype=np.uint8), (n, 1))
    found = decode(np.full(n, lower), np.full(n, upper), payloads)
    empty = lower == INF and upper == -INF
    assert np.unique(found.block).tolist() == ([] if empty else list(range(n)))
    assert (found.lower <= found.upper).all()


numbers = st.sampled_from([0.0, -0.0, 1.0, np.nextafter(1.0, 2), 1.5, 2.0, -1.0, 1e300, 1.7e308, -1.7e308, 5e-324])


def labels(outputs: Floats, margin: Floats) -> list[bool]:
    """Which labels [m] can win, from the definition: a label at its highest, the others at their lowest."""
    possible = [False] * outputs.shape[1]
    room = [Fraction(value) for value in margin.tolist()]
    for row in outputs.tolist():
        low = [Fraction(value) - r for value, r in zip(row, room, strict=True)]
        for j, value in enumerate(row):
            high = Fraction(value) + room[j]
            wins = (high > low[k] if k < j else high >= low[k] for k in range(len(row)) if k != j)
            possible[j] = possible[j] or all(wins)
    return possible


@given(st.data(), st.integers(1, 6), st.integers(1, 20), st.booleans())
@settings(max_examples=200)
def test_every_label_that_can_win_is_there(data: st.DataObject, n: int, m: int, exact: bool) -> None:
    outputs = np.array(data.draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n)))
    room = st.just(0.0) if exact else st.sampled_from([0.0, 5e-324, 1e-16, 0.5, 1e300, 1.7e308])
    margin = np.array(data.draw(st.lists(room, min_size=m, max_size=m)))
    found = decode_labels(build_labels(outputs, margin)[None], m)[0]
    needed = np.array(labels(outputs, margin))
    assert (found >= needed).all()
    assert found[np.argmax(outputs, axis=1)].all()
    if exact:
        assert np.array_equal(found, needed)


def test_the_first_of_equals_wins_and_margins_let_others_win() -> None:
    outputs = np.array([[1.0, 1.0, 0.0], [1.0, 0.9, 0.0]])
    assert build_labels(outputs, np.zeros(3)).tolist() == [0b10000000]
    assert build_labels(outputs, np.array([1e-9, 0.0, 0.0])).tolist() == [0b11000000]
    assert build_labels(outputs, np.full(3, 0.06)).tolist() == [0b11000000]
    assert build_labels(outputs, np.full(3, 0.51)).tolist() == [0b11100000]
    assert build_labels(np.arange(9.0)[None], np.zeros(9)).tolist() == [0, 0b10000000]


@pytest.mark.parametrize("bad", [np.nan, INF, -INF])
def test_labels_of_what_is_not_finite_are_all(bad: float) -> None:
    assert build_labels(np.array([[1.0, bad, 0.0]]), np.zeros(3)).tolist() == [0b11100000]
    assert build_labels(np.ones((1, 3)), np.array([0.0, abs(bad), 0.0])).tolist() == [0b11100000]


def test_no_row_has_no_label_and_a_payload_that_does_not_fit_has_all() -> None:
    assert build_labels(np.empty((0, 9)), np.zeros(9)).tolist() == [0, 0]
    assert not decode_labels(np.zeros((2, 2), np.uint8), 9).any()
    for size in (0, 1, 3):
        assert decode_labels(np.zeros((2, size), np.uint8), 9).tolist() == [[True] * 9] * 2
    assert decode_labels(np.zeros((0, 2), np.uint8), 9).shape == (0, 9)
