"""torch modules -> Network, through torch.export: the graph, shapes and types of the module's own forward pass."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models.chain import Chain
from skipml.models.torch_operators import OPERATORS, Call, operator_name, where_is
from skipml.network import Network

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node


def from_torch(module: torch.nn.Module) -> Network:
    """Read a module whose forward pass, in eval mode and on one tensor [rows, d], is a feed-forward chain.

    Operators: Linear and matrix products, + - * / with constants and buffers, ReLU, LeakyReLU, Dropout, Flatten,
    Identity, whether in nn.Sequential or in a forward method of its own; float32 or float64, on any device. The weights
    are copied: training the module further changes nothing. The module stays as it is.

    Raises UnsupportedOperatorError, which names the operator and the submodule, and ModelError for everything else, a
    missing torch included.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelError("from_torch needs torch, which is not installed: pip install 'skipml[torch]'") from error
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"from_torch takes a torch.nn.Module, not {type(module).__name__}; a file is read with Model.load"
        )
    name = type(module).__name__
    try:
        return _read(copy.deepcopy(module).eval().cpu())
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{name}: cannot be copied: {_first_line(error)}") from error


def _read(module: torch.nn.Module) -> Network:
    """Try the numbers of inputs that the weights allow: the first that gives a chain is the one that fits them."""
    failure: ModelError | None = None
    for n_inputs in dict.fromkeys(_possible_inputs(module)):
        try:
            return _network(_export(module, n_inputs))
        except UnsupportedOperatorError:
            raise
        except ModelError as error:
            failure = failure or error
    raise failure or ModelError("has no weights, so that its number of inputs is unknown")


def _possible_inputs(module: torch.nn.Module) -> Iterator[int]:
    import torch

    for part in module.modules():
        if isinstance(part, torch.nn.Linear):
            yield part.in_features
    for tensor in (*module.parameters(), *module.buffers()):
        yield from tensor.shape


def _export(module: torch.nn.Module, n_inputs: int) -> ExportedProgram:
    import torch

    dtypes = {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        raise ModelError(
            f"has weights of type {sorted(map(str, dtypes))}; convert the module with .float() or .double()"
        )
    example = torch.zeros(4, n_inputs, dtype=dtypes.pop())
    try:
        with _quiet():
            return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # torch.export documents no common base, and forward is code of the caller's
        raise ModelError(
            f"cannot be exported for an input of shape [rows, {n_inputs}]: {_first_line(error)}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own deprecations and its log of each failed attempt from the caller, who gets the error itself."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _network(program: ExportedProgram) -> Network:
    """Walk the exported graph: `constants` by node, and the one current value that depends on the row."""
    constants = _weights(program)
    current = next(
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    )
    example = current.meta["val"]
    chain = Chain(example.shape[1], np.dtype(str(example.dtype).removeprefix("torch.")))
    for node in program.graph.nodes:
        if node.op == "output":
            _check_output(node, current)
        if node.op != "call_function" or not _has_tensors(node):
            continue  # sizes and assertions on them: what uses one in arithmetic is refused below
        read = [argument for argument in node.all_input_nodes if _has_tensors(argument)]
        if all(argument in constants for argument in read):
            constants[node] = _constant(node, constants)
            continue
        name, where = operator_name(node), where_is(node)
        operator = OPERATORS.get(name)
        if operator is None:
            raise UnsupportedOperatorError(
                f"{where}: operator {name} is not supported; supported are {', '.join(OPERATORS)}"
            )
        if sum(argument is current for argument in node.args) != 1 or any(
            argument is not current and argument not in constants for argument in read
        ):
            raise ModelError(f"{where}: reads more than the value before it; only one chain of operators is supported")
        if node.meta["val"].dtype != example.dtype:
            raise UnsupportedOperatorError(
                f"{where}: changes {example.dtype} to {node.meta['val'].dtype}; keep one type through the module"
            )
        operator(chain, Call(node, current, constants))
        current = node
    return chain.network()


def _weights(program: ExportedProgram) -> dict[Node, torch.Tensor]:
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.constants, **program.state_dict}
    return {
        node: tensors[names[node.name]]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    }


def _has_tensors(node: Node) -> bool:
    import torch

    return isinstance(node.meta.get("val"), torch.Tensor | tuple | list)


def _constant(node: Node, constants: dict[Node, torch.Tensor]) -> torch.Tensor:
    """The value of an operator that reads only weights, computed as the module computes it."""
    import torch

    target: Any = node.target
    is_pure = isinstance(target, torch._ops.OpOverload) and not (
        target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags
    )
    if not is_pure and operator_name(node) not in ("detach", "getitem"):
        raise UnsupportedOperatorError(
            f"{where_is(node)}: operator {operator_name(node)} changes a buffer or is random, which is not supported"
        )
    arguments, keywords = torch.fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
    with torch.no_grad():
        value: torch.Tensor = target(*arguments, **keywords)
    return value


def _check_output(node: Node, current: Node) -> None:
    (outputs,) = node.args
    if list(outputs) != [current]:  # type: ignore[arg-type]
        raise ModelError(f"returns {outputs}; return one tensor, the end of one chain of operators")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
