"""The demo's model: a 3-32-32-1 ReLU network that learns what a line is charged from quantity, price and discount."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

COLUMNS = ("l_quantity", "l_extendedprice", "l_discount")
_TARGET = "l_extendedprice * (1 - l_discount) * (1 + l_tax)"
_WIDTHS = (3, 32, 32, 1)
_SAMPLED = "(l_orderkey * 7 + l_linenumber) % 30 = 0"
_EPOCHS = 5
_BATCH_ROWS = 1024
_SCORE_ROWS = 65_536

Floats = NDArray[np.float64]


def trained(table: Path, path: Path) -> nn.Sequential:
    """The network, trained on a thirtieth of the table, or read from the ONNX file at path if it is there."""
    network = _network()
    if not path.exists():
        torch.manual_seed(0)
        network = _network()
        _train(network, table)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(network, path)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return network.eval()


def read_inputs(table: Path) -> Floats:
    """The model inputs of every row, [n, 3]."""
    return _columns(table, [f"{name}::DOUBLE" for name in COLUMNS], "true")


def torch_scores(network: nn.Sequential, inputs: Floats) -> Floats:
    """The scores [n] of rows [n, 3] as torch computes them."""
    rows = torch.from_numpy(inputs.astype(np.float32))
    with torch.inference_mode():
        return torch.cat([network(part)[:, 0] for part in torch.split(rows, _SCORE_ROWS)]).numpy().astype(np.float64)


def threshold(scores: Floats, selectivity: float) -> float:
    """A limit that about this share of the scores [n] exceeds, in the widest gap near there: no rounding crosses it."""
    wanted = round(selectivity * len(scores))
    slack = max(1, wanted // 50)
    above = np.sort(scores)[::-1][max(0, wanted - slack) : wanted + slack]
    widest = int(np.argmax(-np.diff(above)))
    return round(float(above[widest] + above[widest + 1]) / 2, 2)


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(_WIDTHS):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _columns(table: Path, expressions: list[str], condition: str) -> Floats:
    named = ", ".join(f"{text} AS c{i}" for i, text in enumerate(expressions))
    with duckdb.connect() as con:
        found: dict[str, Any] = con.execute(f"SELECT {named} FROM '{table}' WHERE {condition}").fetchnumpy()
    return np.stack([np.asarray(column, np.float64) for column in found.values()], axis=1)


def _train(network: nn.Sequential, table: Path) -> None:
    """Train on standardised columns, then fold the standardisation into the first and the last layer."""
    sample = torch.from_numpy(_columns(table, [f"({text})::DOUBLE" for text in (*COLUMNS, _TARGET)], _SAMPLED))
    mean, deviation = sample.mean(0), sample.std(0)
    rows = ((sample - mean) / deviation).float()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(_EPOCHS):
        for batch in torch.split(rows[torch.randperm(len(rows))], _BATCH_ROWS):
            optimiser.zero_grad()
            loss: torch.Tensor = nn.functional.mse_loss(network(batch[:, :3]), batch[:, 3:])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    first, last = network[0], network[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        first.weight.div_(deviation[:3])
        first.bias.sub_(first.weight @ mean[:3].float())
        last.weight.mul_(deviation[3])
        last.bias.mul_(deviation[3]).add_(mean[3])


def _save(network: nn.Sequential, path: Path) -> None:
    """Write the network as an ONNX file whose initializers have the names of the torch parameters."""
    weights = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in network.state_dict().items()]
    nodes, current = [], "rows"
    for i, layer in enumerate(network):
        if isinstance(layer, nn.Linear):
            nodes.append(helper.make_node("Gemm", [current, f"{i}.weight", f"{i}.bias"], [f"out{i}"], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [current], [f"out{i}"]))
        current = f"out{i}"
    inputs = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, _WIDTHS[0]])]
    outputs = [helper.make_tensor_value_info(current, TensorProto.FLOAT, [None, _WIDTHS[-1]])]
    graph = helper.make_graph(nodes, "charge", inputs, outputs, weights)
    partial = path.with_suffix(".partial")
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), partial)
    partial.replace(path)
