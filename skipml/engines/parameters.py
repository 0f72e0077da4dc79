"""Bound Python parameters as SQL literals, so that a query can be bound without them."""

from __future__ import annotations

import copy
import datetime
import decimal
from collections.abc import Mapping, Sequence

from skipml.engines.dialect import Node, quote_text


class NotAnalysableError(Exception):
    """The query is run as it is; the text says why."""


def parameter_literals(parameters: object) -> dict[str, str]:
    """The SQL of every bound Python parameter by identifier; raises NotAnalysableError for a type without a plain
    literal.
    """
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(name): _literal(value) for name, value in parameters.items()}
    if isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes):
        return {str(i): _literal(value) for i, value in enumerate(parameters, start=1)}
    return {"1": _literal(parameters)}


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"CAST('{float(value)!r}' AS DOUBLE)"
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            raise NotAnalysableError("a parameter is a timestamp with a time zone")
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    if isinstance(value, datetime.date):
        return f"CAST('{value.isoformat()}' AS DATE)"
    if isinstance(value, decimal.Decimal) and value.is_finite():
        digits, exponent = value.as_tuple().digits, int(value.as_tuple().exponent)
        if exponent > 0:
            raise NotAnalysableError("DuckDB 1.5 binds a Decimal with a positive exponent as another number")
        return f"CAST('{value:f}' AS DECIMAL({max(len(digits), -exponent)},{-exponent}))"
    raise NotAnalysableError(f"a parameter of type {type(value).__name__} has no plain SQL literal")


def bound_parameter(node: Node, parameters: Mapping[str, Node]) -> Node:
    """The literal in place of a parameter node; any other node as it is."""
    if node.get("class") != "PARAMETER":
        return node
    identifier = str(node.get("identifier"))
    if identifier not in parameters:
        raise NotAnalysableError(f"parameter {identifier} has no value")
    return copy.deepcopy(parameters[identifier])
