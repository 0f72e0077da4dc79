"""torch modules: the same numbers as the module's own forward pass, or a refusal that names the operator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models import from_torch
from skipml.models.chain import Built
from tests.models.onnx_graphs import assert_close


def assert_like_torch(module: nn.Module, n_inputs: int) -> Built:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    training = [part.training for part in module.modules()]
    network = from_torch(module)
    assert [part.training for part in module.modules()] == training, "the module's mode must not change"
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items()), (
        "the module's weights must not change"
    )
    rows = torch.randn(
        50,
        n_inputs,
        dtype=torch.float64 if network.dtype == np.float64 else torch.float32,
        generator=torch.Generator().manual_seed(0),
    )
    module.eval()
    with torch.no_grad():
        expected = module(rows.clone()).numpy()
    assert_close(network.forward(rows.numpy()), expected.reshape(len(rows), -1))
    return network


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_sequential_modules_compute_what_torch_computes(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    n_inputs = width = data.draw(st.integers(1, 5))
    layers: list[nn.Module] = []
    kinds = ["linear", "relu", "leaky", "dropout", "flatten", "identity", "nested"]
    for kind in ["linear", *data.draw(st.lists(st.sampled_from(kinds), max_size=6))]:
        n_out = data.draw(st.integers(1, 6))
        match kind:
            case "linear":
                layers.append(nn.Linear(width, n_out, bias=data.draw(st.booleans())))
            case "relu":
                layers.append(nn.ReLU(inplace=data.draw(st.booleans())))
            case "leaky":
                layers.append(nn.LeakyReLU(data.draw(st.sampled_from([0.0, 0.01, 1.0]))))
            case "nested":
                layers.append(nn.Sequential(nn.Linear(width, n_out), nn.Sequential(nn.ReLU())))
            case _:
                layers.append({"dropout": nn.Dropout, "flatten": nn.Flatten, "identity": nn.Identity}[kind]())
        width = n_out if kind in ("linear", "nested") else width
    module = nn.Sequential(*layers)
    assert_like_torch(module.double() if data.draw(st.booleans()) else module, n_inputs)


class Custom(nn.Module):
    """A module with a forward of its own, as people write them."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.head = nn.Linear(4, 1)
        self.norm = nn.BatchNorm1d(3)
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.randn(3))
        self.register_buffer("std", torch.rand(3) + 0.5, persistent=False)
        self.plain = torch.tensor([1.0, 2.0, 3.0])
        self._forward = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


FORWARDS: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "normalise": lambda m, x: m.linear((x - m.mean) / m.std),
    "computed constants": lambda m, x: m.linear((x - m.mean) / torch.sqrt(m.std * m.std + 1e-6)),
    "matrix products": lambda m, x: torch.relu(x @ m.weight.T + m.bias) @ m.head.weight.t(),
    "functional": lambda m, x: nn.functional.linear(
        nn.functional.leaky_relu(torch.matmul(x, m.weight.T), 0.2), m.head.weight, m.head.bias
    ),
    "addmm": lambda m, x: torch.addmm(m.bias, x, m.weight.T),
    "mm": lambda m, x: torch.mm(x, m.weight.T),
    "vector": lambda m, x: x @ m.mean * 2 + 1,
    "numbers": lambda m, x: 1 - 2 * m.linear(-x * 3 + 1) / 4 - 0.5,
    "constant first": lambda m, x: m.std - (m.mean + m.plain * x),
    "in place": lambda m, x: m.linear(x).relu_().mul_(2).add_(m.bias),
    "own tensor": lambda m, x: m.linear(x + torch.tensor([1.0, 2.0, 3.0]) - m.plain),
    "clamp": lambda m, x: m.linear(x).clamp(min=0),
    "dropout": lambda m, x: nn.functional.dropout(m.linear(x), 0.5, m.training),
    "shapes": lambda m, x: m.linear(x.view(x.size(0), -1).flatten(1).reshape(-1, 3)).contiguous(),
    "checked shapes": lambda m, x: m.linear(x.unsqueeze(0) if x.dim() == 1 else x),
    "squeeze": lambda m, x: m.head(m.linear(x)).squeeze(-1) + 1,
    "first column": lambda m, x: m.head(m.linear(x))[:, 0],
    "casts that do nothing": lambda m, x: m.linear(x.float()).to(torch.float32),
    "integer buffer": lambda m, x: m.linear(x) + m.norm.num_batches_tracked,
    "batch norm": lambda m, x: m.linear(m.norm(x)),
    "sigmoid at the end": lambda m, x: torch.sigmoid(m.linear(x)),
    "softmax at the end": lambda m, x: torch.softmax(m.linear(x), dim=-1),
    "clamp above": lambda m, x: m.linear(x).clamp(0, 6) + m.linear(x).clamp(max=0.3),
    "steep slope": lambda m, x: nn.functional.leaky_relu(m.linear(x), 2.0),
    "one of several outputs": lambda m, x: m.linear(x)[:, 1],
    "some columns": lambda m, x: torch.cat([x[:, 1:], m.linear(x)[:, :-1]], 1),
    "chunks": lambda m, x: sum(torch.chunk(m.linear(x), 2, dim=1)),
    "parts": lambda m, x: torch.split(m.linear(x), [1, 3], dim=1)[1] * x,
    "residual": lambda m, x: x + torch.relu(x),
    "square": lambda m, x: x * x - x**2 * 3,
    "gates": lambda m, x: x * torch.sigmoid(x) + x * 0.5 * (1 + torch.erf(x / 2**0.5)) + x / (1 + x.abs()),
    "one number for many": lambda m, x: x * m.head(m.linear(x)),
    "two branches": lambda m, x: torch.tanh(m.linear(x)) - nn.functional.gelu(m.linear(x)),
    "layer norm": lambda m, x: nn.functional.layer_norm(m.linear(x), (4,), m.bias, m.bias),
    "split constants": lambda m, x: m.linear(x) + torch.split(m.head.weight[0], 2)[0].repeat(2),
}


@pytest.mark.parametrize("case", FORWARDS)
def test_custom_modules_compute_what_torch_computes(case: str) -> None:
    torch.manual_seed(1)
    assert_like_torch(Custom(FORWARDS[case]), 3)


TORCH_UNSUPPORTED: dict[str, tuple[Callable[[Any, torch.Tensor], Any], str]] = {
    "batch mean": (lambda m, x: m.linear(x - x.mean(0)), "mean"),
    "constant divided": (lambda m, x: 1 / m.linear(x), "reciprocal"),
    "vector divided": (lambda m, x: m.mean / x, "div"),
    "floor division": (lambda m, x: torch.div(m.linear(x), 2, rounding_mode="floor"), "div"),
    "alpha": (lambda m, x: torch.add(m.linear(x), m.bias, alpha=2), "add"),
    "random": (lambda m, x: m.linear(x) + torch.randn(4), "randn"),
    "dropout that stays on": (lambda m, x: nn.functional.dropout(m.linear(x), 0.5, True), "dropout"),
    "row count": (lambda m, x: m.linear(x) * x.shape[0], "number of rows"),
    "double inside": (lambda m, x: m.linear(x).double(), "float64"),
    "double constant": (lambda m, x: m.linear(x) + m.bias.double(), "float64"),
    "some rows": (lambda m, x: m.linear(x)[1:], "slice"),
    "buffer that changes": (lambda m, x: m.linear(x) + m.mean.sum().mul_(2).add_(m.std.add_(1)[0]), "changes a buffer"),
}

TORCH_REFUSED: dict[str, tuple[Callable[[Any, torch.Tensor], Any], str]] = {
    "quotient": (lambda m, x: x / (2 + x.abs()), "quotient"),
    "softmax inside": (lambda m, x: m.head(torch.softmax(m.linear(x), 1)), "at the end only"),
    "rows and columns": (lambda m, x: m.linear(x) * x[:, 0], "shape|do not fit"),
    "rows in a row": (lambda m, x: torch.cat([x, x], 0), "behind each other"),
    "groups": (lambda m, x: nn.functional.group_norm(m.linear(x), 2), "several groups"),
    "two outputs": (lambda m, x: (m.linear(x), x), "return one tensor"),
    "constant output": (lambda m, x: m.mean, "return one tensor"),
    "condition on the data": (lambda m, x: m.linear(x) if x.sum() > 0 else x, "cannot be exported"),
    "NaN weight": (lambda m, x: m.linear(x) + float("nan"), "NaN or infinite"),
    "zero divisor": (lambda m, x: m.linear(x) / torch.zeros(4), "zero"),
    "columns added": (lambda m, x: m.head(m.linear(x)) + m.bias, "does not fit"),
    "rows that are columns": (lambda m, x: m.linear(x).reshape(-1, 1), "row of 4"),
}


@pytest.mark.parametrize("case", TORCH_UNSUPPORTED)
def test_unsupported_torch_operators_are_named(case: str) -> None:
    forward, message = TORCH_UNSUPPORTED[case]
    with pytest.raises(UnsupportedOperatorError, match=message):
        from_torch(Custom(forward))


@pytest.mark.parametrize("case", TORCH_REFUSED)
def test_torch_modules_that_are_no_chain_are_refused(case: str) -> None:
    forward, message = TORCH_REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        from_torch(Custom(forward))
    assert "Custom" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("model.pt", "Model.load"),
        ({"weight": torch.zeros(1)}, "torch.nn.Module"),
        (nn.Linear(2, 1).half(), "float16"),
        (nn.ReLU(), "convert the module|no weights"),
        (nn.Conv2d(3, 8, 3), "cannot be exported"),
        (nn.LazyLinear(3), "cannot"),
        (nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1).double()), "float64"),
    ],
)
def test_things_that_are_no_usable_module(value: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_torch(value)


def test_the_network_is_a_snapshot() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    network = from_torch(module)
    before = network.forward(np.ones((1, 2)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert np.array_equal(network.forward(np.ones((1, 2))), before)


def test_without_torch_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(1, 1)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"skipml\[torch\]"):
        from_torch(module)
