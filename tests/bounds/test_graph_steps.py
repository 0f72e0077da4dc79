"""Each step's ranges, forms and coefficients hold in an arithmetic so coarse that every rounding shows.

Executions round every product and sum by up to UNIT, and lose up to LOST by underflow, to the side that hurts most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.activations import RELATIVE, Kind, curve
from skipml.bounds.bent_steps import Bent, Curved, Kinked
from skipml.bounds.graph import _concrete, _identity
from skipml.bounds.graph_steps import Chosen, Dense, Diagonal, Form, Product, Range, Step, Sum, mass_of
from skipml.bounds.normalised_steps import Centred, Normalised
from skipml.bounds.rounding import Arithmetic

Floats = NDArray[np.float64]
Rounded = Callable[[Floats], Floats]
UNIT, LOST, LIMIT = 2.0**-5, 2.0**-4, 1e9
EXACT = Arithmetic(0.0, 0.0, 0.0, LIMIT)
COARSE = Arithmetic(UNIT, 0.0, 0.0, LIMIT)
FLUSHING = Arithmetic(0.0, 0.0, LOST, LIMIT)
CAREFUL = Arithmetic(0.0, UNIT, 0.0, LIMIT)


@dataclass(frozen=True)
class Case:
    """A step of some arithmetic, how many values it reads from each source, and how it is executed."""

    step: Callable[[Arithmetic], Step]
    widths: tuple[int, ...]
    execute: Callable[[Sequence[Floats], Rounded], Floats]


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(5)
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    factor, slope = rng.normal(size=4), np.array([-0.7, 0.0, 0.3, 1.8])

    def dense(read: Sequence[Floats], rounded: Rounded) -> Floats:
        total = np.zeros((len(read[0]), 3))
        for k in range(4):
            total = rounded(total + rounded(read[0][:, k, None] * weight[:, k]))
        return rounded(total + bias)

    positions = np.array([5, 0, 5, 2])
    found = {
        "dense": Case(lambda a: Dense(weight, bias, a), (4,), dense),
        "scale": Case(lambda a: Diagonal(factor, np.zeros(4), a), (4,), lambda x, r: r(x[0] * factor)),
        "shift": Case(lambda a: Diagonal(np.ones(4), 3 * factor, a), (4,), lambda x, r: r(x[0] + 3 * factor)),
        "add": Case(lambda a: Sum(1.0, a), (4, 4), lambda x, r: r(x[0] + x[1])),
        "subtract": Case(lambda a: Sum(-1.0, a), (4, 4), lambda x, r: r(x[0] - x[1])),
        "multiply": Case(Product, (4, 4), lambda x, r: r(x[0] * x[1])),
        "take": Case(lambda a: Chosen(positions, (4, 2), a), (4, 2), lambda x, r: np.hstack(x)[:, positions]),
        "reorder": Case(lambda a: Chosen(np.array([2, 0, 3]), (4,), a), (4,), lambda x, r: x[0][:, [2, 0, 3]]),
        "kinked": Case(
            lambda a: Kinked(slope, a), (4,), lambda x, r: np.where(x[0] < 0, np.where(slope, r(slope * x[0]), 0), x[0])
        ),
    }
    for kind in ("tanh", "square", "exp", "gelu"):
        found[kind] = _curved(kind)
    return found


def _curved(kind: Kind) -> Case:
    bent = curve(kind)

    def execute(read: Sequence[Floats], rounded: Rounded) -> Floats:
        y = bent.value(read[0])
        off = np.maximum(RELATIVE * np.abs(y) + bent.of_input * np.abs(read[0]) + bent.absolute, 1e-300)
        return y + (rounded(off) - off)

    return Case(lambda a: Curved(bent, a), (4,), execute)


CASES = _cases()


def rounding(arithmetic: Arithmetic, rng: np.random.Generator, way: int) -> Rounded:
    """Everything up, everything down, or each its own way."""

    def rounded(x: Floats) -> Floats:
        side = float(way) if way else rng.choice([-1.0, 1.0], x.shape)
        return np.asarray(x * (1 + arithmetic.unit * side) + arithmetic.tiny * side, np.float64)

    return rounded


def boxes(rng: np.random.Generator, n: int, d: int) -> tuple[Floats, Floats]:
    """Points, narrow and wide boxes, around 0 and away from it."""
    centre, radius = rng.normal(size=(n, d)), rng.random((n, d)) * rng.choice([0.0, 0.1, 1.0], (n, 1))
    return centre - radius, centre + radius


def prepared(step: Step, read: Sequence[Range]) -> tuple[Range, object]:
    """The range of a step's output, and the state that its forms take."""
    found, state, fits = step.reach(read)
    assert fits.all()
    return found, step.prepared(state) if isinstance(step, Bent) else state


def at(form: Form, shares: Floats) -> tuple[Floats, Floats]:
    """The lower and the upper bound of a form [M, n] for shares [M, d] of the radii."""
    p, q = form
    along = np.hstack([shares, np.ones((len(shares), 1))])
    return np.einsum("dmn,md->mn", p - q, along), np.einsum("dmn,md->mn", p + q, along)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("arithmetic", [COARSE, FLUSHING], ids=["rounding", "underflow"])
@pytest.mark.parametrize("behind", [False, True], ids=["of inputs", "behind a layer"])
def test_what_a_step_says_holds_for_every_execution(name: str, arithmetic: Arithmetic, behind: bool) -> None:
    case, rng = CASES[name], np.random.default_rng(3)
    d, step = sum(case.widths), case.step(arithmetic)
    mix, moved = rng.normal(size=(d, d)), rng.normal(size=d)
    layer = Dense(mix, moved, arithmetic)
    lower, upper = boxes(rng, 60, d)
    whole: Range = Range(lower, upper)
    form = _identity(lower, upper)
    if behind:
        found, state = prepared(layer, [whole])
        form = layer.form(state, [form])
        whole = found.within(_concrete(form, 0.0))
    edges = np.cumsum(case.widths)[:-1]
    sides = zip(*(np.split(side, edges, axis=1) for side in (whole.lower, whole.upper)), strict=True)
    read = [Range(low, high) for low, high in sides]
    forms = list(zip(*(np.split(side, edges, axis=2) for side in form), strict=True))
    reached, state = prepared(step, read)
    made = step.form(state, forms)
    a = rng.normal(size=(5, 60, reached.lower.shape[1]))
    back, constant = step.back(state, a)
    assert [part.shape[2] for part in back] == list(case.widths)
    room = 1e-9
    for way in (-1, 1, 0, 0):
        for shares in (*rng.choice([-1.0, 1.0], (6, 60, d)), rng.uniform(-1, 1, (60, d))):
            rounded = rounding(arithmetic, rng, way)
            x = (lower + upper) / 2 + shares * (upper - lower) / 2
            if behind:
                total = np.zeros(x.shape)
                for k in range(d):
                    total = rounded(total + rounded(x[:, k, None] * mix[:, k]))
                x = rounded(total + moved)
            values = np.split(x, edges, axis=1)
            y = case.execute(values, rounded)
            assert (reached.lower <= y + room).all()
            assert (y <= reached.upper + room).all()
            low, high = at(made, shares)
            assert (low <= y + room).all()
            assert (y <= high + room).all()
            bound = constant + sum(np.einsum("fmn,mn->fm", b, v) for b, v in zip(back, values, strict=True))
            assert ((a * y).sum(axis=2) <= bound + room).all()


@pytest.mark.parametrize("name", CASES)
def test_exact_steps_are_tight_at_points_and_nothing_is_widened_for_nothing(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(4)
    step, x = case.step(EXACT), rng.normal(size=(40, sum(case.widths)))
    values = np.split(x, np.cumsum(case.widths)[:-1], axis=1)
    read = [Range(v, v) for v in values]
    reached, state = prepared(step, read)
    y = case.execute(values, lambda v: v)
    np.testing.assert_allclose(step.value(values), y, atol=1e-12)
    a = rng.normal(size=(2, *y.shape))
    back, constant = step.back(state, a)
    bound = constant + sum(np.einsum("fmn,mn->fm", b, v) for b, v in zip(back, values, strict=True))
    np.testing.assert_allclose(bound, (a * y).sum(axis=2), atol=1e-6)
    np.testing.assert_allclose(np.stack([reached.lower, reached.upper]), np.stack([y, y]), atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("arithmetic", [COARSE, FLUSHING, CAREFUL], ids=["rounding", "underflow", "verification"])
def test_the_room_for_rounding_is_no_wider_than_a_few_roundings(name: str, arithmetic: Arithmetic) -> None:
    case, rng = CASES[name], np.random.default_rng(4)
    x = rng.normal(size=(40, sum(case.widths)))
    read = [Range(v, v) for v in np.split(x, np.cumsum(case.widths)[:-1], axis=1)]
    exact, _ = prepared(case.step(EXACT), read)
    found, _ = prepared(case.step(arithmetic), read)
    mass = 20.0 + (np.abs(x) ** 2).sum(axis=1, keepdims=True) + np.exp(np.abs(x).max(axis=1, keepdims=True))
    width = (found.upper - found.lower) - (exact.upper - exact.lower)
    assert (width <= 10 * max(UNIT, LOST) * mass).all()


@pytest.mark.parametrize("name", CASES)
def test_bounds_make_room_for_what_their_own_arithmetic_rounds(name: str) -> None:
    """Each form and each range is widened by the verifier's roundoff times what its terms add up to."""
    case, rng = CASES[name], np.random.default_rng(6)
    if name in ("take", "reorder"):
        return  # nothing is computed
    lower, upper = boxes(rng, 50, sum(case.widths))
    edges = np.cumsum(case.widths)[:-1]
    sides = zip(*(np.split(side, edges, axis=1) for side in (lower, upper)), strict=True)
    read = [Range(low, high) for low, high in sides]
    forms = list(zip(*(np.split(side, edges, axis=2) for side in _identity(lower, upper)), strict=True))
    results = []
    for arithmetic in (EXACT, CAREFUL):
        step = case.step(arithmetic)
        reached, state = prepared(step, read)
        results.append((reached, step.form(state, forms)))
    (reached, (p, q)), (wider, (careful_p, careful_q)) = results
    np.testing.assert_allclose(p, careful_p, atol=1e-9)
    np.testing.assert_allclose(q[:-1], careful_q[:-1], atol=1e-9)
    room = careful_q[-1] - q[-1]
    assert (room >= UNIT * mass_of(p, q) * 0.999).all()
    assert (room <= 20 * UNIT * (1 + mass_of(p, q) + reached.magnitude + sum(r.magnitude.sum() for r in read))).all()
    if not isinstance(case.step(EXACT), Bent):
        assert (wider.upper - reached.upper >= UNIT * reached.magnitude * 0.999).all()
        assert (reached.lower - wider.lower >= UNIT * reached.magnitude * 0.999).all()


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("take", "reorder")])
def test_a_value_beyond_the_limit_does_not_fit(name: str) -> None:
    case = CASES[name]
    limit = Arithmetic(0.0, 0.0, 0.0, 100.0)
    for size, fits in ((1.0, True), (1000.0, name == "tanh")):
        read = [Range(np.full((1, w), -size), np.full((1, w), size)) for w in case.widths]
        with np.errstate(over="ignore"):
            assert case.step(limit).reach(read)[2].tolist() == [fits]
    beside = [Range(np.array([[-1.0] * w, [-1000.0] + [0.0] * (w - 1)]), np.ones((2, w))) for w in case.widths]
    with np.errstate(over="ignore"):
        assert case.step(limit).reach(beside)[2][0]


@pytest.mark.parametrize("n", [1, 3, 8])
def test_normalisation_holds_for_every_execution(n: int) -> None:
    """It is executed in float64 and rounded once."""
    rng = np.random.default_rng(n)
    centred, step = Centred(n, COARSE), Normalised(n, 1e-3, COARSE)
    lower, upper = boxes(rng, 80, n)
    form = _identity(lower, upper)
    middle, state = prepared(centred, [Range(lower, upper)])
    form = centred.form(state, [form])
    middle = middle.within(_concrete(form, 0.0))
    reached, state = prepared(step, [middle])
    made = step.form(state, [form])
    a = rng.normal(size=(5, 80, n))
    (back,), constant = step.back(state, a)
    for way in (-1, 1, 0):
        for shares in (*rng.choice([-1.0, 1.0], (6, 80, n)), rng.uniform(-1, 1, (80, n))):
            x = (lower + upper) / 2 + shares * (upper - lower) / 2
            c = x - x.mean(axis=1, keepdims=True)
            y = rounding(COARSE, rng, way)(c / np.sqrt((c * c).mean(axis=1, keepdims=True) + 1e-3))
            assert (reached.lower <= y).all()
            assert (y <= reached.upper).all()
            low, high = at(made, shares)
            assert (low <= y + 1e-9).all()
            assert (y <= high + 1e-9).all()
            assert ((a * y).sum(axis=2) <= constant + np.einsum("fmn,mn->fm", back, c) + 1e-9).all()
