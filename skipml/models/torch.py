"""torch modules -> networks and graphs, through torch.export: the operators of the module's own forward pass."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models.chain import Built, Chain, Value
from skipml.models.torch_joins import JOINS, JoinCall
from skipml.models.torch_operators import OPERATORS, Call, operator_name, where_is

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node


def from_torch(module: torch.nn.Module) -> Built:
    """Read a module whose forward pass, in eval mode and on one tensor [rows, d], is feed-forward.

    Operators: those of `torch_operators.OPERATORS` and `torch_joins.JOINS`: matrix products with weights, arithmetic
    with constants and between values, the usual activations, normalisation, softmax at the end, whether in
    nn.Sequential or in a forward method of its own; float32 or float64, on any device. The weights are copied: training
    the module further changes nothing. The module stays as it is.

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


def _read(module: torch.nn.Module) -> Built:
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


def _network(program: ExportedProgram) -> Built:
    """Walk the exported graph: `constants` by node, and `values`, which depend on the row."""
    import torch

    constants = _weights(program)
    source = next(
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    )
    example = source.meta["val"]
    chain = Chain(example.shape[1], np.dtype(str(example.dtype).removeprefix("torch.")))
    values: dict[Node, Value] = {source: chain.value}
    parts: dict[Node, Sequence[Value]] = {}
    for node in program.graph.nodes:
        if node.op == "output":
            chain.go(_output(node, values))
        if node.op != "call_function" or not _has_tensors(node):
            continue  # sizes and assertions on them: what uses one in arithmetic is refused below
        read = [argument for argument in node.all_input_nodes if _has_tensors(argument)]
        if all(argument in constants for argument in read):
            constants[node] = _constant(node, constants)
            continue
        if operator_name(node) == "getitem" and node.args[0] in parts:
            values[node] = parts[node.args[0]][node.args[1]]
            continue
        computed = [argument for argument in read if argument not in constants]
        _check_node(node, example.dtype)
        join = JOINS.get(operator_name(node))
        twice = sum(argument in values for argument in node.args if isinstance(argument, torch.fx.Node)) > 1
        if join is not None and (twice or operator_name(node) not in OPERATORS):
            written = join(chain, JoinCall(node, values))
            if isinstance(node.meta["val"], tuple | list):
                parts[node] = written
            else:
                values[node] = written[0]
            continue
        if len(computed) != 1 or sum(argument is computed[0] for argument in node.args) != 1:
            raise ModelError(f"{where_is(node)}: reads more computed values than one")
        chain.go(values[computed[0]])
        OPERATORS[operator_name(node)](chain, Call(node, computed[0], constants))
        values[node] = chain.value
    return chain.built()


def _check_node(node: Node, dtype: torch.dtype) -> None:
    name, where = operator_name(node), where_is(node)
    if name not in OPERATORS and name not in JOINS:
        supported = ", ".join(sorted({*OPERATORS, *JOINS}))
        raise UnsupportedOperatorError(f"{where}: operator {name} is not supported; supported are {supported}")
    value = node.meta["val"]
    if not isinstance(value, tuple | list) and value.dtype != dtype:
        raise UnsupportedOperatorError(f"{where}: changes {dtype} to {value.dtype}; keep one type through the module")


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


def _output(node: Node, values: dict[Node, Value]) -> Value:
    (outputs,) = node.args
    found: Any = outputs
    if len(found) != 1 or found[0] not in values:
        raise ModelError(f"returns {outputs}; return one tensor that depends on the input")
    return values[found[0]]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
