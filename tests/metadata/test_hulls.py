"""Hulls contain every row, in float64 and in real numbers, and are as tight as their bytes allow."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from skipml.errors import EnrichmentError
from skipml.metadata.hulls import SIZES, build, decode, merge, to_unit, vertices

Floats = NDArray[np.float64]
SHAPES = (
    "line", "lattice", "normal", "circle", "cluster", "needle", "curve", "staircase", "wide", "near 2**53", "denormal",
    "few distinct", "any",
)  # fmt: skip
sizes = st.sampled_from(SIZES)


@st.composite
def columns(draw: st.DrawFn, max_size: int = 60) -> Floats:
    """Rows [n, 2] of one of the shapes, with duplicates, moved, scaled and mirrored."""
    shape, seed = draw(st.sampled_from(SHAPES)), draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(1, max_size))
    rng = np.random.default_rng(seed)
    if shape == "any":
        number = st.floats(-1e300, 1e300) | st.sampled_from(
            [1e-300, -1e300, 1e300, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308]
        )
        return np.array(draw(st.lists(st.tuples(number, number), min_size=1, max_size=max_size)))
    points = _shape(shape, n, rng)
    if draw(st.booleans()):
        points = points[rng.integers(0, n, n)]
    if shape not in ("near 2**53", "denormal", "wide"):
        points = points * 10.0 ** rng.integers(-290, 290, 2) if draw(st.booleans()) else points
        points = points + rng.normal(size=2) * 10.0 ** rng.integers(-5, 9) if draw(st.booleans()) else points
    mirror: Floats = rng.choice([-1.0, 1.0], 2)
    return points * mirror


def _shape(shape: str, n: int, rng: np.random.Generator) -> Floats:
    i = rng.integers(-50, 50, n).astype(np.float64)
    angle, pair = rng.random(n) * 2 * np.pi, rng.random((n, 2))
    points: NDArray[np.floating]
    match shape:
        case "line":
            points = np.stack([i, i * rng.choice([1.0, -1.0, 3.0, 0.1, -1 / 3, 0.0])], axis=1)
        case "lattice":
            points = rng.integers(0, rng.integers(1, 6), (n, 2)).astype(np.float64)
        case "normal":
            points = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 2))
        case "circle":
            points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        case "cluster":
            points = rng.choice([0.0, 1.0, 1e-9, 1e6], (n, 2)) + pair * 1e-7
        case "needle":
            points = np.stack(
                [0.5 + (pair[:, 0] - 0.5) * (1 - pair[:, 1]) * 10.0 ** -rng.integers(0, 12), pair[:, 1]], 1
            )
        case "curve":
            points = np.stack([pair[:, 0], pair[:, 0] ** rng.integers(2, 40)], axis=1)
        case "staircase":
            points = np.exp2(-np.stack([np.abs(i), 50 - np.abs(i)], axis=1))
        case "wide":
            points = (pair - 0.5) * 10.0 ** rng.integers(-300, 309, (n, 2))
        case "near 2**53":
            points = 2.0**53 - rng.integers(0, rng.integers(1, 9), (n, 2))
        case "denormal":
            points = rng.integers(0, rng.integers(1, 9), (n, 2)) * 5e-324
        case _:
            points = np.stack([i, rng.choice([1.0, 7.0], n)], axis=1)
    return points.astype(np.float64)


def limits(points: Floats) -> tuple[Floats, Floats]:
    return points.min(axis=0), points.max(axis=0)


def area(polygon: Floats) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def assert_contains(payload: NDArray[np.uint8], points: Floats, lower: Floats, upper: Floats) -> None:
    planes = decode(payload[None])
    normal, offset = planes.normal[0], planes.offset[0]
    assert (np.abs(normal) <= 1).all()
    unit = to_unit(points, lower, upper)
    assert (unit @ normal.T <= offset).all()
    assert (unit[:, :1] * normal[:, 0] + unit[:, 1:] * normal[:, 1] <= offset).all()
    for point in np.unique(points, axis=0):
        u, v = (
            (Fraction(x) - Fraction(a)) / (Fraction(b) - Fraction(a) or 1)
            for x, a, b in zip(point, lower, upper, strict=True)
        )
        for (a, b), limit in zip(normal, offset, strict=True):
            # half of what the decoder adds: the other half is the evaluation's
            assert Fraction(a) * u + Fraction(b) * v <= Fraction(limit) - Fraction(1, 2**45)


@given(columns(), st.sampled_from([0.0, 0.0, 1e-3, 3.0]), sizes)
@settings(max_examples=300)
def test_every_row_is_inside(points: Floats, room: float, size: int) -> None:
    """`room`: rows that are NULL in the other column may reach further than those of the pair."""
    lower, upper = limits(points)
    if (np.abs(points) < 1e300).all():
        lower, upper = lower - room * (upper - lower), upper + 2 * room * (upper - lower)
    payload = build(points, lower, upper, size)
    assert payload.shape == (size,)
    assert payload.dtype == np.uint8
    assert_contains(payload, points, lower, upper)
    assert 0 <= area(vertices(payload)) <= 1 + 1e-12


@given(st.lists(columns(15), min_size=1, max_size=5), sizes, sizes)
@settings(max_examples=150)
def test_a_merged_hull_contains_the_rows_of_all_blocks(blocks: list[Floats], size: int, merged_size: int) -> None:
    lower, upper = (np.array(side) for side in zip(*map(limits, blocks), strict=True))
    payloads = np.array([build(*rest, size) for rest in zip(blocks, lower, upper, strict=True)])
    half = len(blocks) // 2 + 1
    first = merge(payloads[:half], lower[:half], upper[:half], size)
    payload, low, high = merge(
        np.array([first[0], *payloads[half:]]),
        np.array([first[1], *lower[half:]]),
        np.array([first[2], *upper[half:]]),
        merged_size,
    )
    points = np.concatenate(blocks)
    assert (low == points.min(axis=0)).all()
    assert (high == points.max(axis=0)).all()
    assert_contains(payload, points, low, high)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("power", [2, 3, 9])
def test_hulls_of_very_many_vertices(size: int, power: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 3000)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curve = np.stack([np.arange(3000.0), np.arange(3000.0) ** power], axis=1)
    for points in (circle, curve, -curve):
        lower, upper = limits(points)
        unit = to_unit(points, lower, upper)
        planes = decode(build(points, lower, upper, size)[None])
        assert (unit @ planes.normal[0].T <= planes.offset[0]).all()
        exact = ConvexHull(unit).volume
        polygon = vertices(build(points, lower, upper, size))
        assert exact - 1e-9 <= area(polygon) <= exact + {4: 0.5, 8: 0.25, 13: 0.17, 45: 0.035}[size] * (1 - exact)


@given(st.binary(min_size=0, max_size=50), st.integers(1, 3))
def test_any_bytes_decode(data: bytes, n: int) -> None:
    payloads = np.tile(np.frombuffer(data, dtype=np.uint8), (n, 1))
    planes = decode(payloads)
    assert planes.normal.shape == (*planes.offset.shape, 2)
    assert len(planes.offset) == n
    assert (np.abs(planes.normal) <= 1).all()
    assert not np.isnan(planes.offset).any()
    assert len(vertices(payloads[0])) >= 1


@pytest.mark.parametrize("size", [0, 1, 7, 44, 46])
def test_another_size_is_no_constraint(size: int) -> None:
    assert decode(np.full((3, size), 7, dtype=np.uint8)).offset.shape == (3, 0)
    with pytest.raises(EnrichmentError, match="use 4, 8, 13, 45"):
        build(np.zeros((1, 2)), np.zeros(2), np.zeros(2), size)


@pytest.mark.parametrize("size", [8, 13, 45])  # every payload of 4 bytes means something
def test_an_unknown_code_and_zero_bytes_are_no_constraint(size: int) -> None:
    unknown = decode(np.full((2, size), 255, dtype=np.uint8))
    assert unknown.offset.shape == decode(np.zeros((2, size), dtype=np.uint8)).offset.shape == (2, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slope", [1.0, -1.0, 3.0, -1 / 3, 0.1, 1e9])
@pytest.mark.parametrize("start", [0.0, 1.0, -7.0, 1e6])
def test_a_line_has_no_area(size: int, slope: float, start: float) -> None:
    x = np.arange(1000.0) + start
    points = np.stack([x, slope * x], axis=1)
    lower, upper = limits(points)
    payload = build(points, lower, upper, size)
    if slope != round(slope):  # the products are rounded: these are no lines
        assert area(vertices(payload)) < {4: 1e-3, 8: 1e-3, 13: 1e-6, 45: 1e-9}[size]
    else:
        assert area(vertices(payload)) < 1e-9
        halves = [points[:300], points[700:]]
        low, high = (np.array(side) for side in zip(*map(limits, halves), strict=True))
        payloads = np.array([build(*rest, size) for rest in zip(halves, low, high, strict=True)])
        assert area(vertices(merge(payloads, low, high, size)[0])) < {4: 1e-3, 8: 1e-3, 13: 1e-6, 45: 1e-9}[size]


@pytest.mark.parametrize("size", SIZES)
def test_integers_on_a_line_near_2_to_53(size: int) -> None:
    x = 2.0**53 - np.arange(5.0)
    points = np.stack([x, -x], axis=1)
    assert area(vertices(build(points, *limits(points), size))) < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("points", [[[3, 4]], [[3, 4], [3, 4]], [[3, 4], [3, 9], [3, 5]], [[-2, 4], [1, 4]]])
def test_one_distinct_value_needs_no_hull(size: int, points: list[list[float]]) -> None:
    rows = np.array(points, dtype=np.float64)
    lower, upper = limits(rows)
    assert not build(rows, lower, upper, size).any()
    assert (to_unit(rows, lower, upper)[:, lower == upper] == 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_two_rows_are_a_line(size: int) -> None:
    rows = np.array([[5.0, 1e-3], [7.5, 12.0]])
    assert area(vertices(build(rows, *limits(rows), size))) < 1e-9


def test_more_bytes_are_tighter() -> None:
    rng = np.random.default_rng(1)
    excess = {size: list[float]() for size in SIZES}
    for _ in range(20):
        points = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 2))
        lower, upper = limits(points)
        exact = ConvexHull(to_unit(points, lower, upper)).volume
        for size in SIZES:
            polygon = vertices(build(points, lower, upper, size))
            excess[size].append((area(polygon) - exact) / (1 - exact))
    mean = {size: float(np.mean(values)) for size, values in excess.items()}
    assert all(min(values) > -1e-9 for values in excess.values())
    assert mean[45] < 0.005 < mean[13] < 0.05 < mean[8] < 0.12 < mean[4] < 0.45


def test_slivers_at_the_corners_are_cut_off() -> None:
    """Where rows nearly fill their box, cuts are very short: equal steps would miss them."""
    points = np.random.default_rng(2).random((5000, 2))
    lower, upper = limits(points)
    free = 1 - ConvexHull(to_unit(points, lower, upper)).volume
    assert free < 0.005
    assert 1 - area(vertices(build(points, lower, upper, 13))) > 0.6 * free


def test_the_bytes_stay_what_they_are() -> None:
    diagonal = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert build(diagonal, *limits(diagonal), 8).tobytes().hex() == "04" + "ff" * 7
    assert build(diagonal, *limits(diagonal), 45).tobytes().hex() == "0600" + "ff" * 21 + "f0" + "00" * 21
    notch = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.125], [0.25, 0.125]])
    payload = build(notch, *limits(notch), 13)
    assert payload.tobytes().hex() == "00" + "e89767" + "ffffff" + "00" * 6
    assert int("e89767", 16) == int(0.75 ** (1 / 3) * (2**24 - 1))


@given(st.floats(-1.7e308, 1.7e308), st.floats(-1.7e308, 1.7e308), st.floats(0, 1))
@settings(max_examples=300)
def test_to_unit(a: float, b: float, share: float) -> None:
    low, high = min(a, b), max(a, b)
    x = min(max(low * (1 - share) + high * share, low), high)
    unit = float(to_unit(x, low, high))
    exact = (Fraction(x) - Fraction(low)) / (Fraction(high) - Fraction(low)) if high > low else Fraction(0)
    assert 0 <= unit <= 1
    assert abs(Fraction(unit) - exact) < Fraction(1, 2**51)
    assert to_unit(low, low, high) == 0
    assert to_unit(high, low, high) == (1 if high > low else 0)
