from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml import enclosing
from skipml.bounds import enclosures as bounds_of
from skipml.bounds import heads as bounds_of_heads
from skipml.bounds.heads import HeadVerifier
from skipml.bounds.reading import as_read
from skipml.enclosing import Directions, enclose, metadata_of_vectors, principal, unit
from skipml.heads import Head
from skipml.links import Link
from skipml.metadata.contents import Metadata, contradiction
from skipml.metadata.enclosures import Vectors, enclosures
from skipml.metadata.format import decode, encode
from skipml.metadata.tie import Tie
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from skipml.regions import Regions
from tests.bounds.executions import ORDERS, execute

Matrix = NDArray[Any]


def stored(blocks: list[tuple[Matrix, NDArray[np.bool_]]], wanted: Directions) -> Vectors:
    """What a reader of the sidecar knows of blocks of vectors and which of them are there."""
    found, boxes = metadata_of_vectors([enclose(rows, usable, wanted) for rows, usable in blocks], wanted)
    n_rows = np.array([len(rows) for rows, _ in blocks], np.int64)
    metadata = Metadata(
        row_group=np.arange(len(blocks)),
        first_row=np.cumsum(n_rows) - n_rows,
        n_rows=n_rows,
        columns=(),
        pairs=(),
        boxes=(),
        settings={},
        vectors=(found,),
        projections=tuple(boxes),
    )
    assert contradiction(metadata) == ""
    read, _ = decode(encode(metadata, Tie(1, 1, bytes(16))))
    vectors = enclosures(wanted.column.upper(), [read], [len(blocks)])
    assert vectors is not None
    return vectors


def regions_of(vectors: Vectors) -> Regions:
    n = len(vectors.known)
    flags = np.ones((n, 1), np.bool_)
    nothing = np.full((n, 1), np.inf)
    return Regions(
        ("e",), -nothing, nothing, np.arange(n), np.full(n, 9), flags, ~flags, flags, flags, vectors={0: vectors}
    )


def random_head(rng: np.random.Generator, d: int, *, scaled: bool) -> Head:
    dtype = np.dtype(rng.choice(["f4", "f8"]))

    def numbers(*shape: int, scale: float = 1.0) -> Any:
        return (rng.normal(size=shape) * scale).astype(dtype)

    ops: list[Op] = []
    if scaled:
        ops += [Shift(numbers(d)), Divide(np.exp(numbers(d))), Scale(numbers(d)), Shift(numbers(d, scale=10.0))]
        ops = ops[: rng.integers(1, 5)]
    hidden = int(rng.integers(0, 3))
    width = d
    for _ in range(hidden):
        ops += [Affine(numbers(6, width), numbers(6)), LeakyRelu(float(rng.choice([0.0, 0.25])))]
        width = 6
    n_outputs = int(rng.integers(1, 4))
    ops.append(Affine(numbers(n_outputs, width), numbers(n_outputs)))
    link = Link("softmax" if n_outputs > 1 else "logistic") if rng.random() < 0.5 else Link()
    return Head(Network(d, n_outputs, dtype, tuple(ops)), link)


def random_blocks(rng: np.random.Generator, d: int) -> list[Matrix]:
    """Blocks far from the origin and near it, wide, narrow, of one vector, of single values, of float32 and float64."""
    dtype, found = rng.choice(["f4", "f8"]), []
    for _ in range(6):
        center = rng.normal(size=d) * 10.0 ** rng.integers(-3, 4)
        spread = 10.0 ** rng.integers(-5, 3)
        rows = center + spread * rng.normal(size=(int(rng.integers(1, 30)), d)) * rng.choice([1.0, 0.0], d)
        found.append(rows.astype(dtype))
    return found


def outputs_of(head: Head, rows: Matrix) -> list[Matrix]:
    """What executions of a head make of rows, with functionals that are the outputs."""
    margins = [execute(head.network, rows.astype(np.float64), order) for order in ORDERS]
    linked = [np.asarray(head.link.apply(np.ascontiguousarray(m.T))).T for m in margins]
    return [head.forward(rows), *linked]


def worst_directions(rng: np.random.Generator, d: int, head: Head) -> tuple[Any, ...]:
    """Bases over what the head looks at, over something else, and over both."""
    weight = head.first.weight.astype(np.float64)
    return unit(weight[:2]), unit(rng.normal(size=(min(3, d), d))), unit(np.vstack([weight, rng.normal(size=(2, d))]))


def lost(seed: int) -> int:
    """How many outputs lie outside of the bounds of their block."""
    rng = np.random.default_rng(seed)
    d = int(rng.choice([1, 2, 5, 16, 48]))
    head = random_head(rng, d, scaled=bool(rng.random() < 0.4))
    blocks = random_blocks(rng, d)
    bases = [basis for basis in worst_directions(rng, d, head) if rng.random() < 0.5]
    bases += [principal(np.vstack(blocks), 3)] if rng.random() < 0.5 else []
    wanted = Directions("e", d, int(rng.integers(0, min(d, 4) + 1)), tuple(bases))
    vectors = stored([(rows, np.ones(len(rows), np.bool_)) for rows in blocks], wanted)
    verifier = HeadVerifier(head)
    boxes = verifier.blocks(as_read(regions_of(vectors), head))
    found = 0
    for bounds in (verifier.interval(boxes.lower, boxes.upper), verifier.linear(boxes.lower, boxes.upper)):
        low, high = bounds if isinstance(bounds, tuple) else (bounds.lower, bounds.upper)
        low, high = verifier.outputs(low, high)
        for i, rows in enumerate(blocks):
            found += sum(int(((out < low[i]) | (out > high[i])).sum()) for out in outputs_of(head, rows))
    return found


@settings(max_examples=120)
@given(st.integers(0, 2**32 - 1))
def test_bounds_hold_for_every_execution(seed: int) -> None:
    assert lost(seed) == 0


def scaled_by(factor: float, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*args) * factor


UNSOUND = {
    "radius too small": (enclosing, "_longest", scaled_by(0.9, enclosing._longest)),
    "no room for rounding": (bounds_of_heads._First, "error", lambda first, length: np.zeros((len(length), 1))),
    "weights too short": (bounds_of, "lengths", scaled_by(0.8, bounds_of.lengths)),
    "slices added wrongly": (bounds_of, "_of_slices", scaled_by(0.7, bounds_of._of_slices)),
    "offsets forgotten": (
        bounds_of_heads._First,
        "of",
        lambda network, first, of=bounds_of_heads._First.of: replace(
            of(network, first), offset=np.zeros(len(first.bias))
        ),
    ),
}


@pytest.mark.parametrize("name", list(UNSOUND))
def test_what_is_unsound_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*UNSOUND[name])
    assert any(lost(seed) for seed in range(60))


def test_an_unsound_box_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    box = enclosing._box

    def narrow(away: Any, basis: Any) -> Any:
        lower, upper, rest = box(away, basis)
        return lower * np.float32(0.9), upper * np.float32(0.9), rest

    monkeypatch.setattr(enclosing, "_box", narrow)
    assert any(lost(seed) for seed in range(60))
    monkeypatch.setattr(enclosing, "_box", lambda away, basis: (*box(away, basis)[:2], 0.0))
    assert any(lost(seed) for seed in range(60))


def linear_head(weight: Matrix, bias: float = 0.25) -> Head:
    kind = np.dtype(np.float32)
    weights = weight.astype(kind)
    return Head(Network(len(weight), 1, kind, (Affine(weights[None], np.array([bias], kind)),)))


def bounds_over(head: Head, vectors: Vectors) -> tuple[Any, Any]:
    verifier = HeadVerifier(head)
    boxes = verifier.blocks(regions_of(vectors))
    bounds = verifier.linear(boxes.lower, boxes.upper)
    return bounds.lower[:, 0], bounds.upper[:, 0]


def test_each_kind_of_metadata_bounds_as_it_should() -> None:
    rng = np.random.default_rng(1)
    d, weight = 64, rng.normal(size=64)
    rows = rng.normal(size=(500, d)) * np.linspace(0.1, 2, d) + 3
    everything = np.ones(len(rows), np.bool_)
    head = linear_head(weight)
    scores = rows @ weight + 0.25
    middle, away = rows.mean(axis=0) @ weight + 0.25, rows - rows.mean(axis=0)
    ball = np.sqrt((away**2).sum(axis=1).max() * (weight**2).sum())
    parts = [(np.sqrt((a**2).sum(axis=1).max()), np.sqrt((w**2).sum())) for a, w in _slices(away, weight, 8)]
    expected = {
        Directions("e", d): ball,
        Directions("e", d, 8): min(ball, sum(r * w for r, w in parts)),
        Directions("e", d, 0, (unit(weight[None]),)): scores.max() - middle,
    }
    for wanted, reach in expected.items():
        _, upper = bounds_over(head, stored([(rows, everything)], wanted))
        assert upper[0] >= scores.max()
        np.testing.assert_allclose(upper[0] - middle, reach, rtol=2e-4)


def _slices(away: Matrix, weight: Matrix, n: int) -> list[tuple[Matrix, Matrix]]:
    return list(zip(np.array_split(away, n, axis=1), np.array_split(weight, n), strict=True))


def test_a_block_of_one_vector_has_one_score() -> None:
    rng = np.random.default_rng(2)
    rows, weight = rng.normal(size=(1, 384)), rng.normal(size=384)
    lower, upper = bounds_over(linear_head(weight), stored([(rows, np.ones(1, np.bool_))], Directions("e", 384)))
    margin = 390 * 2.0**-24 * np.sqrt((rows**2).sum() * (weight**2).sum())
    assert upper[0] - lower[0] < 2.2 * margin
    assert lower[0] <= rows[0] @ weight + 0.25 <= upper[0]


def test_a_direction_near_the_head_bounds_it() -> None:
    rng = np.random.default_rng(4)
    rows, weight = rng.normal(size=(400, 128)), rng.normal(size=128)
    other, everything = weight + 0.05 * rng.normal(size=128), np.ones(400, np.bool_)
    ball = bounds_over(linear_head(weight), stored([(rows, everything)], Directions("e", 128)))
    near = bounds_over(linear_head(weight), stored([(rows, everything)], Directions("e", 128, 0, (unit(other[None]),))))
    assert (rows @ weight).max() + 0.25 <= near[1][0] < 0.5 * ball[1][0]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300])
def test_nothing_is_concluded_of_odd_vectors(odd: float) -> None:
    rows = np.ones((4, 3))
    rows[2, 1] = odd
    vectors = stored([(rows, np.ones(4, np.bool_)), (np.ones((2, 3)), np.ones(2, np.bool_))], Directions("e", 3))
    lower, upper = bounds_over(linear_head(np.ones(3)), vectors)
    assert np.isinf([lower[0], upper[0]]).all()
    assert np.isfinite([lower[1], upper[1]]).all()
    seen = as_read(regions_of(vectors), linear_head(np.ones(3)))
    assert seen.unknown[:, 0].tolist() == [True, False]
    assert seen.may_be_null[:, 0].tolist() == [True, False]


def test_rows_without_a_vector_are_flags() -> None:
    rows, some, none = np.ones((4, 3)), np.array([True, True, False, True]), np.zeros(4, np.bool_)
    vectors = stored([(rows, some), (0 * rows, none), (rows, ~none)], Directions("e", 3))
    seen = as_read(regions_of(vectors), linear_head(np.ones(3)))
    assert seen.may_be_null[:, 0].tolist() == [True, True, False]
    assert seen.all_null[:, 0].tolist() == [False, True, False]
    assert not seen.unknown.any()
    assert not seen.may_be_nan.any()


def test_vectors_of_another_dimension_are_unknown() -> None:
    vectors = stored([(np.zeros((4, 3)), np.zeros(4, np.bool_))], Directions("e", 3))
    head = linear_head(np.ones(2))
    seen = as_read(regions_of(vectors), head)
    assert seen.unknown.all()
    assert not seen.all_null.any()
    lower, upper = bounds_over(head, vectors)
    assert np.isinf([lower, upper]).all()


def test_sums_that_may_overflow_are_not_bounded() -> None:
    vectors = stored([(np.full((2, 3), 1e14, np.float32), np.ones(2, np.bool_))], Directions("e", 3))
    lower, upper = bounds_over(linear_head(np.full(3, 1e25)), vectors)
    assert np.isinf([lower, upper]).all()


@pytest.mark.parametrize(("weight", "fits"), [(1e27, True), (2.5e28, False), (4e28, False)])
def test_sums_near_the_largest_number_are_bounded_up_to_half_of_it(weight: float, fits: bool) -> None:
    vectors = stored([(np.full((2, 1), 1e10, np.float32), np.ones(2, np.bool_))], Directions("e", 1))
    lower, upper = bounds_over(linear_head(np.full(1, weight)), vectors)
    assert np.isfinite([lower, upper]).all() == fits


@pytest.mark.parametrize("ops", [(Scale, 1e30), (Shift, 3e38)], ids=["scaled", "moved"])
def test_scaled_inputs_that_may_overflow_are_not_bounded(ops: tuple[Any, float]) -> None:
    """One input of two is beyond float32 before a layer that would make it small again."""
    kind = np.dtype(np.float32)
    step = ops[0](np.array([ops[1], 1.0], kind))
    layer = Affine(np.array([[1e-30, 1.0]], kind), np.zeros(1, kind))
    vectors = stored([(np.full((2, 2), 1e10, np.float32), np.ones(2, np.bool_))], Directions("e", 2))
    lower, upper = bounds_over(Head(Network(2, 1, kind, (step, layer))), vectors)
    assert np.isinf([lower, upper]).all()


def test_evaluations_of_one_sum_are_apart_by_roundings_only() -> None:
    rng = np.random.default_rng(8)
    rows, weight = rng.normal(size=(50, 16)), rng.normal(size=16)
    mass = 20 * 2.0**-24 * np.sqrt((rows**2).sum(axis=1).max() * (weight**2).sum())
    assert 0 < HeadVerifier(linear_head(weight)).apart(rows, np.zeros(1))[0] < 10 * mass


def test_blocks_are_taken_with_their_boxes() -> None:
    rng = np.random.default_rng(5)
    blocks = [(rng.normal(size=(5, 4)) + i, np.ones(5, np.bool_)) for i in range(4)]
    vectors = stored(blocks, Directions("e", 4, 2, (unit(np.ones((1, 4))),)))
    head, mask = linear_head(np.ones(4)), np.array([False, True, False, True])
    for whole, part in zip(bounds_over(head, vectors), bounds_over(head, vectors.take(mask)), strict=True):
        np.testing.assert_array_equal(whole[mask], part)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_other_evaluations_are_not_further_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.choice([1, 5, 48]))
    head = random_head(rng, d, scaled=bool(rng.random() < 0.4))
    rows = np.vstack(random_blocks(rng, d)).astype(np.float64)
    apart = HeadVerifier(head).apart(rows, np.zeros(1))
    found = outputs_of(head, rows)
    assert all((np.abs(out.astype(np.float64) - found[0]) <= apart).all() for out in found)


def test_lengths_are_rounded_up_and_hardly() -> None:
    rows = np.random.default_rng(6).normal(size=(200, 7)) * 10.0 ** np.arange(-3, 4)
    exact = np.sqrt((rows.astype(np.longdouble) ** 2).sum(axis=1))
    assert (bounds_of.lengths(rows) >= exact * (1 + 2.0**-31)).all()
    assert (bounds_of.lengths(rows) <= exact * (1 + 2.0**-29)).all()


def test_boxes_over_directions_make_room_for_what_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    blocks = [(rng.normal(size=(5, 4)) + i, np.ones(5, np.bool_)) for i in range(3)]
    vectors = stored(blocks, Directions("e", 4, 0, (unit(rng.normal(size=(2, 4))),)))
    (box,), weight = vectors.projections, rng.normal(size=(3, 4))
    found = []
    for share in (0.0, 0.125):
        monkeypatch.setattr(bounds_of, "rounding", lambda _, share=share: share)
        low, high = np.full((3, 3), -np.inf), np.full((3, 3), np.inf)
        bounds_of._tighten(low, high, np.zeros((3, 3)), box, weight)
        found.append((low, high))
    size = np.maximum(np.abs(box.lower), np.abs(box.upper)).sum(axis=1, dtype=np.float64) + box.rest
    room = 0.125 * 3 * np.outer(size, np.sqrt((weight**2).sum(axis=1)))
    np.testing.assert_allclose(found[0][0] - found[1][0], room, rtol=1e-6)
    np.testing.assert_allclose(found[1][1] - found[0][1], room, rtol=1e-6)
