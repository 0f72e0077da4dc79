"""What the compiled passes must hold by themselves, outside of the search: computed values lie within the bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Op, Shift

Floats = NDArray[np.float64]
_FLOAT32 = np.dtype(np.float32)


def passes(_: Path) -> list[str]:
    """The values that lie outside of interval or CROWN bounds."""
    found = []
    for name, (network, lower, upper, rows) in _cases().items():
        values = network.forward(rows.reshape(-1, network.n_inputs)).astype(np.float64).reshape(*rows.shape[:2], -1)
        verifier = Verifier(network)
        linear = verifier.crown(lower, upper)
        for kind, low, high in (
            ("interval", *verifier.interval(lower, upper)),
            ("CROWN", linear.lower, linear.upper),
            ("linear", linear.linear_lower, linear.linear_upper),
        ):
            outside = ~((low <= values) & (values <= high))
            if outside.any():
                found.append(f"{name}: {int(outside.sum())} values outside of {kind} bounds")
    return found


def _cases() -> dict[str, tuple[Network, Floats, Floats, Floats]]:
    """Networks, boxes [M, d] and rows [K, M, d] in them."""
    rng = np.random.default_rng(0)
    sums = rng.standard_normal((300, 64)) * 1000
    near = 1e6 + rng.random((300, 1))
    cases = {
        "sums that cancel": (_network([_affine(rng.choice([-1.0, 1.0], (1, 64)) * 0.1)], 64), sums, sums, sums[None]),
        "inputs near a shift": (
            _network([Shift(np.array([-1e6], np.float32)), _affine(np.eye(1))], 1),
            near,
            near,
            near[None],
        ),
    }
    for slope in (0.0, 0.1):
        ops: list[Op] = []
        for n_in, n_out in ((2, 8), (8, 8), (8, 8)):
            ops += [_affine(rng.standard_normal((n_out, n_in)), rng.standard_normal(n_out)), LeakyRelu(slope)]
        ops.append(_affine(rng.standard_normal((1, 8))))
        lower = rng.standard_normal((200, 2))
        upper = lower + rng.random((200, 2)) * 2
        share = np.stack(np.meshgrid(*[np.linspace(0, 1, 15)] * 2), axis=2).reshape(-1, 1, 2)
        cases[f"three layers, slope {slope}"] = _network(ops, 2), lower, upper, lower + share * (upper - lower)
    return cases


def _network(ops: list[Op], n_inputs: int) -> Network:
    return Network(n_inputs, 1, _FLOAT32, tuple(ops))


def _affine(weight: Floats, bias: Floats | None = None) -> Affine:
    return Affine(weight.astype(np.float32), (np.zeros(len(weight)) if bias is None else bias).astype(np.float32))
