"""The compiled passes against those in numpy: the same bounds, the same boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.bounds import compiled
from skipml.bounds.leaves import Leaves, halved
from skipml.bounds.polygons import Polygons
from skipml.bounds.verifier import Verifier
from skipml.library import NoExtensionError, find_extension, open_library
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.bounds.test_polygons import hull
from tests.compiled import build

Floats = NDArray[np.float64]
DTYPES: list[np.dtype[np.floating]] = [np.dtype(np.float32), np.dtype(np.float64)]


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled from the sources as they are."""
    with pytest.MonkeyPatch.context() as patch:
        found = build(tmp_path_factory.mktemp("compiled"))
        patch.setattr(compiled, "library", lambda: found)
        yield


@contextmanager
def in_numpy() -> Iterator[None]:
    """Without the library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        yield


@st.composite
def networks(draw: st.DrawFn) -> Network:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    n_inputs, n_outputs = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    ops: list[Op] = []
    width = n_inputs
    for kind in draw(st.lists(st.sampled_from(["affine", "scale", "divide", "shift", "relu", "leaky"]), max_size=8)):
        numbers = (rng.standard_normal(width) * 2.0 ** rng.integers(-2, 3)).astype(dtype)
        match kind:
            case "affine":
                out = int(rng.integers(1, 20))
                weight = (rng.standard_normal((out, width)) * (rng.random((out, width)) < 0.8)).astype(dtype)
                ops.append(Affine(weight, rng.standard_normal(out).astype(dtype)))
                width = out
            case "scale":
                ops.append(Scale(numbers))
            case "divide":
                ops.append(Divide(np.where(np.abs(numbers) < 0.1, dtype.type(1), numbers)))
            case "shift":
                ops.append(Shift(numbers))
            case _:
                ops.append(LeakyRelu(0.0 if kind == "relu" else 0.01))
    last = rng.standard_normal((n_outputs, width)).astype(dtype)
    ops.append(Affine(last, rng.standard_normal(n_outputs).astype(dtype)))
    return Network(n_inputs, n_outputs, dtype, tuple(ops))


def boxes(rng: np.random.Generator, n: int, d: int) -> tuple[Floats, Floats]:
    """Points, thin and wide boxes, some that may overflow."""
    lower = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, (n, 1))
    upper = lower + rng.random((n, d)) * rng.choice([0.0, 1e-6, 1.0, 100.0], (n, d))
    lower[:2], upper[:2] = [[-1e39], [-np.inf]], [[1e30], [np.inf]]
    return lower, upper


def alike(found: Floats, expected: Floats, size: Floats) -> None:
    """Equal where not finite, else within rounding of numbers of that size."""
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite])
    assert (np.abs(found[finite] - expected[finite]) <= 1e-9 * (1 + size[finite])).all()


@given(networks(), st.integers(0, 2**32 - 1))
def test_bounds_are_those_of_numpy(network: Network, seed: int) -> None:
    lower, upper = boxes(np.random.default_rng(seed), 40, network.n_inputs)
    functionals = np.eye(network.n_outputs) if seed % 2 else np.ones((1, network.n_outputs))
    ours = Verifier(network, functionals)
    with in_numpy():
        theirs = Verifier(network, functionals)
    low, high = theirs.interval(lower, upper)
    size = np.where(np.isfinite(high - low), np.maximum(np.abs(low), np.abs(high)), 0.0)
    for found, expected in zip(ours.interval(lower, upper), (low, high), strict=True):
        alike(found, expected, size)
    mine, others = ours.crown(lower, upper), theirs.crown(lower, upper)
    for name in ("lower", "upper", "linear_lower", "linear_upper"):
        alike(getattr(mine, name), getattr(others, name), size * 1e3)
    for name in ("slope_lower", "slope_upper"):
        assert np.allclose(getattr(mine, name), getattr(others, name), rtol=1e-9, atol=1e-9)


@given(networks(), st.integers(0, 2**32 - 1))
def test_computed_values_lie_within_the_bounds(network: Network, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = boxes(rng, 20, network.n_inputs)
    verifier = Verifier(network)
    share = rng.choice([0.0, 0.5, 1.0, rng.random()], (30, *lower[2:].shape))
    rows = lower[2:] + share * (upper[2:] - lower[2:])
    values = network.forward(rows.reshape(-1, network.n_inputs)).reshape(30, len(lower) - 2, -1)
    for low, high in (verifier.interval(lower, upper), _sides(verifier, lower, upper)):
        assert ((low[2:] <= values) & (values <= high[2:])).all()


def test_boxes_may_be_of_any_type_and_order_but_fit_the_network() -> None:
    network = Network(2, 1, np.dtype(np.float32), (Affine(np.array([[1, -2]], np.float32), np.zeros(1, np.float32)),))
    verifier = Verifier(network)
    lower = np.array([[0.0, 1.0], [0.5, -1.0], [2.0, 2.0]])
    expected = verifier.interval(lower, lower + 1)
    others: list[Any] = [np.asfortranarray(lower), lower.astype(np.float32), np.repeat(lower, 2, axis=0)[::2]]
    for of in others:
        found = verifier.interval(of, of + 1)
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
        assert np.array_equal(verifier.crown(of, of + 1).lower, verifier.crown(lower, lower + 1).lower)
    for wrong in (lower[:, :1], np.zeros((3, 3))):
        with pytest.raises(ValueError, match="do not fit 2 inputs"):
            verifier.crown(wrong, wrong)


def _sides(verifier: Verifier, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    bounds = verifier.crown(lower, upper)
    return bounds.lower, bounds.upper


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(20))
def test_polygons_cut_boxes_as_in_numpy(seed: int, dtype: np.dtype[np.floating]) -> None:
    rng = np.random.default_rng(seed)
    n, pairs, n_planes, d = 10, int(rng.integers(1, 4)), int(rng.integers(1, 9)), 4
    angle = rng.random((n, pairs, n_planes)) * 2 * np.pi
    normal = np.stack([np.cos(angle), np.sin(angle)])
    planes = np.stack([*normal, 0.4 + rng.random(angle.shape), *(1 / normal)])
    inputs = np.array([rng.permutation(d)[:2] for _ in range(pairs)])
    width = (1 + rng.random((n, pairs, 2))) * (rng.random((n, pairs, 2)) < 0.9)
    polygons = Polygons(dtype, inputs, rng.standard_normal((n, pairs, 2)) * 0.2 - 1, width, planes)
    lower = rng.standard_normal((200, d))
    upper = lower + rng.random((200, d)) * rng.choice([0.0, 0.3, 3.0], (200, d))
    block = rng.integers(0, n, 200)
    found = polygons.shrink(lower, upper, block)
    with in_numpy():
        expected = polygons.shrink(lower, upper, block)
    assert np.array_equal(found[2], expected[2])
    assert 0 < found[2].sum() < 200
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        assert np.allclose(mine[~found[2]], theirs[~found[2]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_leaves_are_halved_as_in_numpy(times: int, dtype: np.dtype[np.floating]) -> None:
    rng = np.random.default_rng(times)
    n, d = 300, 3
    lower = rng.standard_normal((n, d)).astype(dtype).astype(np.float64)
    upper = lower + rng.choice([0.0, 1e-3, 5e-324, 1.0], (n, d))
    upper = np.maximum(lower, upper.astype(dtype).astype(np.float64))
    upper[:20] = np.nextafter(lower[:20].astype(dtype), dtype.type(np.inf))  # two numbers a side
    lower[20], upper[20] = -np.finfo(dtype).max / 4, np.finfo(dtype).max / 4
    slope = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.7)
    block = np.arange(n)
    nothing = np.zeros((n, 1))
    leaves = Leaves(lower, upper, block, block, nothing, nothing, np.ones(n, np.bool_), slope, np.zeros(n))
    found = halved(leaves, times, dtype)
    with in_numpy():
        expected = halved(leaves, times, dtype)
    assert len(found) > n
    assert np.array_equal(_in_order(found), _in_order(expected))
    assert np.array_equal(found.slope, slope[found.block])


def _in_order(leaves: Leaves) -> Floats:
    rows = np.column_stack([leaves.block, leaves.lower, leaves.upper])
    ordered: Floats = rows[np.lexsort(rows.T[::-1])]
    return ordered


def test_an_extension_with_other_functions_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipml.library._INTERFACE", -1)
    with pytest.raises(NoExtensionError, match="another version of skipml"):
        open_library(find_extension())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("without", [nullcontext, in_numpy])
def test_what_is_left_of_a_box_is_rounded_to_the_float_type_and_no_further(
    dtype: np.dtype[np.floating], without: Callable[[], AbstractContextManager[None]]
) -> None:
    """Of the triangle below x + y = 1 the rows with y >= 0.9 are left, so x is at most a tenth."""
    triangle = hull(np.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]), (0, 1))
    with without():
        polygons = Polygons.of((triangle,), dtype)
        lower, upper, empty = polygons.shrink(np.array([[0.0, 0.9]]), np.ones((1, 2)), np.zeros(1, np.int64))
    assert not empty.any()
    assert upper[0, 0] == pytest.approx(0.1, rel=1e-5)
    is_rounded = all(float(np.float32(end)) == end for end in (lower[0, 1], upper[0, 0]))
    assert is_rounded == (dtype == np.float32)
