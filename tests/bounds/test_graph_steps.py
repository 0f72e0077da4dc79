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
from skipml.bounds.graph_steps import Chosen, Dense, Diagonal, Form, Product, Range, Step, Sum
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
    mass: Callable[[Sequence[Floats]], Floats] | None = None
    """What the magnitudes of its terms add up to, for those of what it reads."""


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
        "dense": Case(lambda a: Dense(weight, bias, a), (4,), dense, lambda m: m[0] @ np.abs(weight).T + np.abs(bias)),
        "scale": Case(
            lambda a: Diagonal(factor, np.zeros(4), a),
            (4,),
            lambda x, r: r(x[0] * factor),
            lambda m: m[0] * np.abs(factor),
        ),
        "shift": Case(
            lambda a: Diagonal(np.ones(4), 3 * factor, a),
            (4,),
            lambda x, r: r(x[0] + 3 * factor),
            lambda m: m[0] + 3 * np.abs(factor),
        ),
        "add": Case(lambda a: Sum(1.0, a), (4, 4), lambda x, r: r(x[0] + x[1]), lambda m: m[0] + m[1]),
        "subtract": Case(lambda a: Sum(-1.0, a), (4, 4), lambda x, r: r(x[0] - x[1]), lambda m: m[0] + m[1]),
        "multiply": Case(Product, (4, 4), lambda x, r: r(x[0] * x[1]), lambda m: m[0] * m[1]),
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
LINEAR = [name for name, case in CASES.items() if case.mass is not None]


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


def split(whole: Floats, case: Case) -> list[Floats]:
    """The values of each source, of all of them one behind the other."""
    return np.split(whole, np.cumsum(case.widths)[:-1], axis=whole.ndim - 1)


def ranges(lower: Floats, upper: Floats, case: Case) -> list[Range]:
    """The ranges of what a case reads."""
    return [Range(low, high) for low, high in zip(split(lower, case), split(upper, case), strict=True)]


def forms_of(form: Form, case: Case) -> list[Form]:
    """The forms of what a case reads."""
    return list(zip(split(form[0], case), split(form[1], case), strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("arithmetic", [EXACT, COARSE, FLUSHING], ids=["exact", "rounding", "underflow"])
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["of inputs", "behind a layer", "behind a kink"])
def test_what_a_step_says_holds_for_every_execution(name: str, arithmetic: Arithmetic, depth: int) -> None:
    case, rng = CASES[name], np.random.default_rng(3)
    d, step = sum(case.widths), case.step(arithmetic)
    mix, moved, slope = rng.normal(size=(d, d)), rng.normal(size=d), np.full(d, -0.4)
    lower, upper = boxes(rng, 60, d)
    whole, form = Range(lower, upper), _identity(lower, upper)
    for behind in (Dense(mix, moved, arithmetic), Kinked(slope, arithmetic))[:depth]:
        found, state = prepared(behind, [whole])
        form = behind.form(state, [form])
        whole = found.within(_concrete(form, 0.0))
    reached, state = prepared(step, ranges(whole.lower, whole.upper, case))
    made = step.form(state, forms_of(form, case))
    a = rng.normal(size=(5, 60, reached.lower.shape[1]))
    back, constant = step.back(state, a)
    assert [part.shape[2] for part in back] == list(case.widths)
    room = 1e-9
    for way in (-1, 1, 0, 0):
        for shares in (*rng.choice([-1.0, 1.0], (6, 60, d)), rng.uniform(-1, 1, (60, d))):
            rounded = rounding(arithmetic, rng, way)
            x = (lower + upper) / 2 + shares * (upper - lower) / 2
            if depth:
                total = np.zeros(x.shape)
                for k in range(d):
                    total = rounded(total + rounded(x[:, k, None] * mix[:, k]))
                x = rounded(total + moved)
            if depth == 2:
                x = np.where(x < 0, rounded(slope * x), x)
            values = split(x, case)
            y = case.execute(values, rounded)
            assert (reached.lower <= y + room).all()
            assert (y <= reached.upper + room).all()
            low, high = at(made, shares)
            assert (low <= y + room).all()
            assert (y <= high + room).all()
            bound = constant + sum(np.einsum("fmn,mn->fm", b, v) for b, v in zip(back, values, strict=True))
            assert ((a * y).sum(axis=2) <= bound + room).all()


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("tanh", "gelu")])
def test_forms_and_coefficients_touch_what_they_bound(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(7)
    d, step = sum(case.widths), case.step(EXACT)
    lower, upper = boxes(rng, 60, d)
    reached, state = prepared(step, ranges(lower, upper, case))
    made = step.form(state, forms_of(_identity(lower, upper), case))
    n = reached.lower.shape[1]
    units = np.broadcast_to(np.concatenate([np.eye(n), -np.eye(n)])[:, None], (2 * n, 60, n))
    back, constant = step.back(state, units)
    above, below, behind = np.full((60, n), np.inf), np.full((60, n), np.inf), np.full((2 * n, 60), np.inf)
    half = np.concatenate([np.ones(d // 2), -np.ones(d - d // 2)])
    for share in (0 * half, half, -half, np.abs(half), -np.abs(half)):
        shares = np.broadcast_to(share, (60, d))
        values = split((lower + upper) / 2 + shares * (upper - lower) / 2, case)
        y, (low, high) = case.execute(values, lambda v: v), at(made, shares)
        above, below = np.minimum(above, high - y), np.minimum(below, y - low)
        bound = constant + sum(np.einsum("fmn,mn->fm", b, v) for b, v in zip(back, values, strict=True))
        behind = np.minimum(behind, bound - (units * y).sum(axis=2))
    for gap in (above, below, behind):
        assert (np.abs(gap) < 1e-6).all()


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
    exact, _ = prepared(case.step(EXACT), ranges(x, x, case))
    found, _ = prepared(case.step(arithmetic), ranges(x, x, case))
    magnitudes = split(np.abs(x), case)
    mass = case.mass(magnitudes) if case.mass is not None else 20.0 + np.exp(np.abs(x).max(axis=1, keepdims=True))
    mass = np.asarray(mass + 10.0 * (arithmetic is FLUSHING))
    width = (found.upper - found.lower) - (exact.upper - exact.lower)
    assert (width <= 2 * 7 * max(UNIT, arithmetic.tiny) * mass).all()


@pytest.mark.parametrize("name", LINEAR)
def test_bounds_make_room_for_what_their_own_arithmetic_rounds(name: str) -> None:
    """A form loses what the range does, and the verifier's roundoff times what its own terms add up to."""
    case, rng = CASES[name], np.random.default_rng(6)
    assert case.mass is not None
    d = sum(case.widths)
    lower, upper = boxes(rng, 50, d)
    form = rng.normal(size=(5, 50, d)), np.abs(rng.normal(size=(5, 50, d)))
    (reached, (p, q)), (wider, (careful_p, careful_q)) = (
        (found, step.form(state, forms_of(form, case)))
        for step in (case.step(EXACT), case.step(CAREFUL))
        for found, state in [prepared(step, ranges(lower, upper, case))]
    )
    np.testing.assert_allclose(p, careful_p, atol=1e-9)
    np.testing.assert_allclose(q[:-1], careful_q[:-1], atol=1e-9)
    mass = UNIT * case.mass(split(np.maximum(np.abs(lower), np.abs(upper)), case))
    for lost in (wider.upper - reached.upper, reached.lower - wider.lower):
        assert (lost >= 0.999 * mass).all()
        assert (lost <= 6 * mass).all()
    lost = (4 if name == "multiply" else 1) * (wider.upper - reached.upper)
    room = careful_q[-1] - q[-1] - lost
    sums = [np.abs(f).sum(axis=0) + np.abs(g).sum(axis=0) for f, g in forms_of(form, case)]
    if name == "multiply":
        centres = [np.abs(r.lower + r.upper) / 2 for r in ranges(lower, upper, case)]
        expected = sums[0] * centres[1] + sums[1] * centres[0] + centres[0] * centres[1]
    else:
        expected = case.mass(sums)
    np.testing.assert_allclose(room, UNIT * expected, rtol=1e-3)
    a = rng.normal(size=(3, 50, reached.lower.shape[1]))
    constants = [
        step.back(prepared(step, ranges(lower, upper, case))[1], a)[1]
        for step in (case.step(EXACT), case.step(CAREFUL))
    ]
    np.testing.assert_allclose(constants[1] - constants[0], np.einsum("fmn,mn->fm", np.abs(a), lost), rtol=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_a_box_fits_where_no_sum_of_magnitudes_passes_the_limit(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(8)
    assert case.mass is not None
    lower, upper = boxes(rng, 200, sum(case.widths))
    mass = case.mass(split(np.maximum(np.abs(lower), np.abs(upper)), case)).max(axis=1)
    limit = float(np.median(mass))
    fits = case.step(Arithmetic(0.0, 0.0, 0.0, limit)).reach(ranges(lower, upper, case))[2]
    assert fits.tolist() == (mass <= limit).tolist()


@pytest.mark.parametrize("name", ["kinked", "square", "exp", "tanh"])
def test_a_function_fits_where_its_values_do(name: str) -> None:
    case = CASES[name]
    limit = Arithmetic(0.0, 0.0, 0.0, 100.0)
    for size, fits in ((1.0, True), (1000.0, name == "tanh")):
        read = [Range(np.array([[-size, 0.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 0.0, size]]))]
        with np.errstate(over="ignore"):
            assert case.step(limit).reach(read)[2].tolist() == [fits]


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("arithmetic", [EXACT, COARSE, FLUSHING], ids=["exact", "rounding", "underflow"])
def test_normalisation_holds_for_every_execution(n: int, arithmetic: Arithmetic) -> None:
    """It is executed in float64 and rounded once."""
    rng = np.random.default_rng(n)
    centred, step = Centred(n, arithmetic), Normalised(n, 1e-3, arithmetic)
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
            y = rounding(arithmetic, rng, way)(c / np.sqrt((c * c).mean(axis=1, keepdims=True) + 1e-3))
            assert (reached.lower <= y).all()
            assert (y <= reached.upper).all()
            assert arithmetic is not EXACT or (reached.magnitude <= np.sqrt(n) * (1 + 1e-9)).all()
            low, high = at(made, shares)
            assert (low <= y + 1e-9).all()
            assert (y <= high + 1e-9).all()
            assert ((a * y).sum(axis=2) <= constant + np.einsum("fmn,mn->fm", back, c) + 1e-9).all()
