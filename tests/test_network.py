from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml import network as network_module
from skipml.errors import ModelError
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.strategies import networks

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


def mlp(dims: tuple[int, ...], dtype: np.dtype[Any] = F32, seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    ops: list[Op] = []
    for n_in, n_out in pairwise(dims):
        ops += [
            Affine(rng.normal(size=(n_out, n_in)).astype(dtype), rng.normal(size=n_out).astype(dtype)),
            LeakyRelu(0),
        ]
    return Network(dims[0], dims[-1], dtype, tuple(ops[:-1]))


def reference(network: Network, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    h = x.astype(network.dtype).astype(np.float64)
    for op in network.ops:
        match op:
            case Affine(weight, bias):
                h = h @ weight.T.astype(np.float64) + bias
            case Scale(factor):
                h = h * factor
            case Divide(divisor):
                h = h / divisor
            case Shift(offset):
                h = h + offset
            case LeakyRelu(slope):
                h = np.where(h < 0, network.dtype.type(slope) * h, h)
    return h


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_forward_computes_the_ops(network: Network, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(40, network.n_inputs))
    y = network.forward(x)
    assert y.dtype == network.dtype
    expected = reference(network, x)
    tolerance = 1e-3 if network.dtype == F32 else 1e-10
    np.testing.assert_allclose(
        y, expected, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(expected).max())) * 10
    )


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(
    "dims", [(3, 32, 32, 1), (4, 64, 64, 1), (8, 128, 128, 1), (1, 1), (5, 2), (1, 7, 5, 3, 2), (6, 40, 300, 33, 9)]
)
def test_a_score_depends_on_the_row_alone(dims: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    network = mlp(dims, dtype)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2500, dims[0]))
    x[5], x[6, 0], x[7, 0], x[8] = 0.0, np.nan, np.inf, 1e30
    together = network.forward(x)
    for size in (1, 7, 16, 17, 300, 2048):
        n = min(len(x), 40 * size)
        parts = [network.forward(x[i : i + size]) for i in range(0, n, size)]
        assert same_bits(np.concatenate(parts)[:n], together[:n]), size
    order = rng.permutation(len(x))
    assert same_bits(network.forward(x[order]), together[order])
    assert same_bits(network.forward(x[::-1])[::-1].copy(), together)
    assert same_bits(network.forward(np.repeat(x[:1], 100, axis=0)), np.repeat(together[:1], 100, axis=0))
    assert same_bits(network.forward(x.astype(dtype)), together)


def test_a_score_depends_on_the_row_alone_where_blas_sums_columns_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    network = mlp((4, 32, 32, 2))
    x = np.random.default_rng(1).normal(size=(50, 4))
    expected = network.forward(x)
    monkeypatch.setattr(network_module, "usable_lanes", lambda dtype, shapes: 1)
    together = network.forward(x)
    assert same_bits(np.concatenate([network.forward(row[None]) for row in x]), together)
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-4)


def test_a_blas_that_sums_columns_differently_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def uneven(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        product: np.ndarray[Any, Any] = np.einsum("ok,bkl->bol", a, b)
        product[:, :, 6:] *= np.float32(1 + 2**-22)
        return product

    monkeypatch.setattr(np, "matmul", uneven)
    assert network_module.usable_lanes.__wrapped__(F32, ((8, 4),)) == 1


def test_no_rows_have_no_scores() -> None:
    assert mlp((3, 4, 2)).forward(np.zeros((0, 3))).shape == (0, 2)


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_nan_stays_nan_and_infinity_is_followed(slope: float) -> None:
    ops = (Affine(np.eye(2, dtype="f"), np.zeros(2, "f")), LeakyRelu(slope))
    x = np.array([[np.nan, 1.0], [-np.inf, np.inf], [1e300, -1e300], [-2.0, -0.0]])
    y = Network(2, 2, F32, ops).forward(x)
    assert np.isnan(y[0]).all()
    clean = Network(2, 2, F32, (Shift(np.zeros(2, "f")), LeakyRelu(slope))).forward(x)
    low = -np.inf if slope else 0.0
    np.testing.assert_array_equal(clean[1:3], [[low, np.inf], [np.inf, low]])
    assert np.isnan(clean[0, 0])
    assert clean[0, 1] == 1.0
    assert clean[3, 0] == np.float32(-2.0) * np.float32(slope)


def test_a_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="rows of 3 inputs"):
        mlp((3, 4, 1)).forward(np.zeros((5, 2)))


def test_macs_count_the_weights() -> None:
    assert mlp((4, 64, 64, 1)).macs == 4 * 64 + 64 * 64 + 64


def test_hash_identifies_the_content() -> None:
    assert mlp((3, 4, 1)).hash == mlp((3, 4, 1)).hash
    a = Affine(np.ones((2, 2), "f"), np.zeros(2, "f"))
    b = np.array([1, 2], "f")
    different = [
        Network(2, 2, F32, (a,)),
        Network(2, 2, F32, (a, LeakyRelu(0.0))),
        Network(2, 2, F32, (a, LeakyRelu(0.1))),
        Network(2, 2, F32, (LeakyRelu(0.1), a)),
        Network(2, 2, F32, (Scale(b), Shift(b))),
        Network(2, 2, F32, (Shift(b), Scale(b))),
        Network(2, 2, F32, (Divide(b), Shift(b))),
        Network(2, 2, F32, (Affine(a.weight, b),)),
        Network(2, 2, F64, (Affine(a.weight.astype(float), a.bias.astype(float)),)),
    ]
    assert len({n.hash for n in different}) == len(different)
    assert len(different[0].hash) == 64


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, "f")


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((Affine(ones(2, 3), ones(2)),), r"op 0 \(Affine\).*do not fit 2 inputs"),
        ((Affine(ones(3, 2), ones(2)),), r"op 0 \(Affine\)"),
        ((Affine(ones(2), ones(2)),), r"op 0 \(Affine\)"),
        ((LeakyRelu(0.0), Affine(ones(2, 2) * np.nan, ones(2))), r"op 1 \(Affine\).*NaN or infinite"),
        ((Shift(ones(2) * np.inf),), r"op 0 \(Shift\).*NaN or infinite"),
        ((Scale(ones(3)),), r"op 0 \(Scale\).*does not fit 2 values"),
        ((Divide(np.array([1, 0], "f")),), r"op 0 \(Divide\).*zero"),
        ((Shift(np.ones(2)),), r"op 0 \(Shift\).*float64.*float32"),
        ((LeakyRelu(1.5),), r"op 0 \(LeakyRelu\).*slope"),
        ((LeakyRelu(float("nan")),), r"op 0 \(LeakyRelu\).*slope"),
        ((Affine(ones(3, 2), ones(3)),), "3 outputs.*declares 2"),
    ],
)
def test_unusable_graphs_are_refused(ops: tuple[Op, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Network(2, 2, F32, ops)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ModelError, match="float16"):
        Network(1, 1, np.dtype(np.float16), ())
    with pytest.raises(ModelError, match="at least one input"):
        Network(0, 0, F32, ())
