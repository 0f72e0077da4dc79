"""Elementwise functions: near the exact ones and torch's, with the slopes they say, whatever stands beside a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from skipml import activations
from skipml.activations import RELATIVE, Kind, curve, erf, is_placeless
from tests.graphs import KINDS, elementwise

TORCH: dict[Kind, tuple[tuple[float, ...], Callable[[Any], Any]]] = {
    "elu": ((1.0,), F.elu),
    "erf": ((), torch.erf),
    "exp": ((), torch.exp),
    "gelu": ((), F.gelu),
    "gelu_tanh": ((), lambda x: F.gelu(x, approximate="tanh")),
    "hardsigmoid": ((1 / 6, 0.5), F.hardsigmoid),
    "hardswish": ((), F.hardswish),
    "log": ((), lambda x: torch.log(x.abs())),
    "mish": ((), F.mish),
    "selu": ((), F.selu),
    "sigmoid": ((), torch.sigmoid),
    "silu": ((), F.silu),
    "softplus": ((1.0, 20.0), F.softplus),
    "softsign": ((), F.softsign),
    "tanh": ((), torch.tanh),
}


def _sweep(rng: np.random.Generator) -> Any:
    wide = rng.normal(size=20_000) * 10.0 ** rng.uniform(-20, 1.8, 20_000)
    return np.concatenate([np.linspace(-40, 40, 20_001), wide, [0.0, -0.0, 6.0, -6.0, 1.25, -0.84375, 80.0, -80.0]])


@pytest.mark.parametrize("kind", TORCH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_is_within_the_error_that_bounds_allow_for(kind: Kind, dtype: torch.dtype) -> None:
    """Two computers of a function are near each other, so each of them is near the exact one."""
    parameters, reference = TORCH[kind]
    bent = curve(kind, parameters)
    x = torch.tensor(_sweep(np.random.default_rng(0)).clip(-80, 80)).to(dtype)
    x = x[x.abs() > 1e-30] if kind == "log" else x
    wide = x.double().numpy()
    ours = bent.value(np.abs(wide) if kind == "log" else wide)
    info = torch.finfo(dtype)
    size = np.abs(wide)
    allowed = info.eps * (RELATIVE * np.abs(ours) + bent.of_input * size + bent.absolute) + 4 * info.tiny * (1 + size)
    theirs = reference(x).double().numpy()
    fine = np.isfinite(theirs) & np.isfinite(ours)
    assert fine.all()
    assert (np.abs(theirs - ours) <= allowed + bent.jump)[fine].all()


def test_erf_is_that_of_the_c_library() -> None:
    x = _sweep(np.random.default_rng(1))
    assert np.abs(erf(x) - np.array([math.erf(v) for v in x])).max() <= 2.0**-52


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_values(kind: Kind) -> None:
    op = elementwise(kind, np.random.default_rng(3))
    bent = curve(op.kind, op.parameters)
    x = np.random.default_rng(2).normal(size=2000) * 3
    x = np.abs(x) + 0.1 if kind == "log" else x
    step = 1e-6
    numeric = (bent.value(x + step) - bent.value(x - step)) / (2 * step)
    off = np.abs(numeric - bent.slope(x)) > 1e-4 * (1 + np.abs(numeric))
    assert off.sum() <= 2, "but at kinks"
    low, high = bent.steepest
    assert (bent.slope(x) >= low).all()
    assert (bent.slope(x) <= high).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_nan(kind: Kind) -> None:
    op = elementwise(kind, np.random.default_rng(3))
    assert np.isnan(curve(op.kind, op.parameters).value(np.array([np.nan, 1.0]))).tolist() == [True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_does_not_depend_on_its_place(kind: Kind) -> None:
    op = elementwise(kind, np.random.default_rng(3))
    with np.errstate(all="ignore"):
        assert is_placeless(curve(op.kind, op.parameters).value)


def test_functions_that_depend_on_the_place_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_place(x: Any) -> Any:
        found = np.exp(x)
        found[4::8] = np.nextafter(found[4::8], 0)
        return found

    assert not is_placeless(by_place)
    monkeypatch.setattr(activations, "is_placeless", lambda function: False)
    x = np.array([0.5, 2.0, np.nan, np.inf, 800.0])
    for name in ("exp", "expm1", "log", "log1p", "tanh"):
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x)
            found = activations._trusted.__wrapped__(name)(x)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    alone = activations._trusted.__wrapped__("log")(np.array([0.0, -1.0]))
    assert alone[0] == -np.inf
    assert np.isnan(alone[1])
