"""Small ReLU networks over table columns: trained on standardised rows, which are then folded into the layers, so that
the network takes the columns as they are; kept as ONNX files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

Floats = NDArray[np.float64]

_SCORE_ROWS = 65_536
_LEAST_DEVIATION = 1e-9
"""A column of one value is not divided by 0."""


@dataclass(frozen=True, slots=True)
class Training:
    """Passes over the rows, rows per step of Adam and its learning rate; `seed` gives the first weights and the order
    of the rows, `folding` the precision in which the target's scale is folded into the last layer.
    """

    epochs: int = 5
    batch_rows: int = 1024
    seed: int = 0
    learning_rate: float = 3e-3
    folding: torch.dtype = torch.float32


def network_of(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, inputs first, with ReLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(widths: Sequence[int], inputs: Floats, target: Floats, training: Training) -> nn.Sequential:
    """A network that learns `target` [n] from `inputs` [n, d]: a number, or with several outputs a class from 0."""
    torch.manual_seed(training.seed)
    network = network_of(widths)
    x, y = torch.from_numpy(inputs), torch.from_numpy(target)
    mean, deviation = x.mean(0), x.std(0).clamp_min(_LEAST_DEVIATION)
    is_class = widths[-1] > 1
    y_mean, y_deviation = torch.tensor(0.0), torch.tensor(1.0)
    if not is_class:
        y_mean, y_deviation = y.mean(), y.std().clamp_min(_LEAST_DEVIATION)
    x = ((x - mean) / deviation).float()
    y = y.long() if is_class else ((y - y_mean) / y_deviation).float()[:, None]
    loss = nn.CrossEntropyLoss() if is_class else nn.MSELoss()
    optimiser = torch.optim.Adam(network.parameters(), training.learning_rate)
    for _ in range(training.epochs):
        for batch in torch.split(torch.randperm(len(x)), training.batch_rows):
            optimiser.zero_grad()
            loss(network(x[batch]), y[batch]).backward()
            optimiser.step()
    first, last = network[0], network[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        weight = first.weight.double() / deviation
        first.bias.copy_(first.bias.double() - weight @ mean)
        first.weight.copy_(weight)
        y_mean, y_deviation = y_mean.to(training.folding), y_deviation.to(training.folding)
        last.weight.copy_(last.weight.to(training.folding) * y_deviation)
        last.bias.copy_(last.bias.to(training.folding) * y_deviation + y_mean)
    return network.eval()


def torch_outputs(network: nn.Sequential, inputs: Floats) -> NDArray[np.float32]:
    """The outputs [n, m] of rows [n, d] as torch computes them in float32."""
    rows = torch.from_numpy(inputs.astype(np.float32))
    with torch.inference_mode():
        outputs: NDArray[np.float32] = torch.cat([network(part) for part in torch.split(rows, _SCORE_ROWS)]).numpy()
    return outputs


def load(path: Path) -> nn.Sequential:
    """The network in an ONNX file that `save` wrote."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    linear = [weights[name] for name in weights if name.endswith("weight")]
    network = network_of([linear[0].shape[1], *(weight.shape[0] for weight in linear)])
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return network.eval()


def save(network: nn.Sequential, path: Path) -> None:
    """Write the network as an ONNX file whose initializers have the names of the torch parameters."""
    weights = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in network.state_dict().items()]
    nodes, current = [], "rows"
    for i, layer in enumerate(network):
        if isinstance(layer, nn.Linear):
            nodes.append(helper.make_node("Gemm", [current, f"{i}.weight", f"{i}.bias"], [f"out{i}"], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [current], [f"out{i}"]))
        current = f"out{i}"
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    inputs = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, linear[0].in_features])]
    outputs = [helper.make_tensor_value_info(current, TensorProto.FLOAT, [None, linear[-1].out_features])]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    # onnxruntime is behind onnx: it reads no newer version of the format
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save_model(model, partial)
    partial.replace(path)
