"""The differences between DuckDB 1.5 and 2.0 in the JSON forms of syntax trees and logical plans.

Everything else in `engines` sees `Expr` and the accessors below, never a version.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

Node = dict[str, Any]

ROW_GROUP_COLUMN = duckdb.__version__.split(".")[0] >= "2"
"""DuckDB 2.0 has the virtual column `file_row_group_number`; 1.5 has only `file_row_number`."""

PLANS_FOLLOW_SETTINGS = duckdb.__version__.split(".")[0] >= "2"
"""DuckDB 1.5 serializes plans without regard to `integer_division`."""

KEEPS_CASE = ("true", "preserve_case")
"""Values of the setting `preserve_identifier_case` that keep identifiers as they are written."""

PRINTS_AS_WRITTEN = duckdb.__version__.split(".")[0] >= "2"
"""DuckDB 1.5 forgets how some types were written."""

STREAMS_ARE_FILTERED = duckdb.__version__.split(".")[0] < "2"
"""DuckDB 1.5 has pyarrow filter an Arrow stream, and so loses NaN, which is greater than every number."""

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_CONJUNCTIONS = {"CONJUNCTION_AND": "and", "CONJUNCTION_OR": "or"}


@dataclass(frozen=True, slots=True)
class Expr:
    """A bound expression over the output columns of one operator.

    `op` is one of ref, const, cast, call, compare, and, or, not, in, opaque; `name` the function, the comparison or
    the target type; `type` the SQL type of the result.
    """

    op: str
    name: str = ""
    args: tuple[Expr, ...] = ()
    index: int = -1
    type: str = ""

    def refs(self) -> Iterator[int]:
        """The output columns the expression reads."""
        if self.op == "ref":
            yield self.index
        for arg in self.args:
            yield from arg.refs()

    def map_refs(self, replace: Callable[[int], Expr | None]) -> Expr | None:
        """The expression with every column replaced, or None where one cannot be."""
        if self.op == "ref":
            return replace(self.index)
        args = []
        for arg in self.args:
            mapped = arg.map_refs(replace)
            if mapped is None:
                return None
            args.append(mapped)
        return Expr(self.op, self.name, tuple(args), self.index, self.type)


def expression(node: Node) -> Expr:
    """Decode a bound expression; what is not understood becomes `opaque` around its children, so that their columns
    stay visible.
    """
    kind, kids = node["expression_class"], _children(node)
    sql_type = type_text(node["return_type"]) if "return_type" in node else ""
    if kind == "BOUND_REF":
        return Expr("ref", index=node.get("index", 0), type=sql_type)
    if kind == "BOUND_CONSTANT":
        text = _constant_sql(node["value"])
        return Expr("const", text, type=type_text(node["value"]["type"])) if text is not None else Expr("opaque")
    if node["type"] == "OPERATOR_CAST":
        is_try = node.get("try_cast") or node.get("function_data", {}).get("try_cast")
        return Expr("opaque" if is_try else "cast", sql_type, kids, type=sql_type)
    if node["type"] in _COMPARISONS and len(kids) == 2:
        return Expr("compare", _COMPARISONS[node["type"]], kids, type="BOOLEAN")
    if node["type"] in _CONJUNCTIONS:
        return Expr(_CONJUNCTIONS[node["type"]], "", kids, type="BOOLEAN")
    if node["type"] == "OPERATOR_NOT":
        return Expr("not", "", kids, type="BOOLEAN")
    if node["type"] == "COMPARE_IN":
        return Expr("in", "", kids, type="BOOLEAN")
    if node["type"] == "COMPARE_BETWEEN":
        return _between(node)
    if kind == "BOUND_FUNCTION" and node["type"] == "BOUND_FUNCTION":
        return Expr("call", function_name(node).lower(), kids, type=sql_type)
    return Expr("opaque", "", kids)


def _between(node: Node) -> Expr:
    value, lower, upper = (expression(node[part]) for part in ("input", "lower", "upper"))
    above = Expr("compare", ">=" if node.get("lower_inclusive", False) else ">", (value, lower), type="BOOLEAN")
    below = Expr("compare", "<=" if node.get("upper_inclusive", False) else "<", (value, upper), type="BOOLEAN")
    return Expr("and", "", (above, below), type="BOOLEAN")


def _children(node: Node) -> tuple[Expr, ...]:
    nodes = [
        node[part] for part in ("left", "right", "child", "input", "lower", "upper") if isinstance(node.get(part), dict)
    ]
    nodes += node.get("children", [])
    for check in node.get("case_checks", []):
        nodes += [check["when_expr"], check["then_expr"]]
    if isinstance(node.get("else_expr"), dict):
        nodes.append(node["else_expr"])
    return tuple(expression(child) for child in nodes)


def join_condition(condition: Node) -> Expr:
    """One condition of a comparison join; its right side counts columns of the right child only."""
    if "comparison" not in condition or "right" not in condition:
        return Expr("opaque")  # DuckDB 2.0: a condition that compares nothing, over the columns of both sides
    symbol = _COMPARISONS.get(condition["comparison"])
    sides = (expression(condition["left"]), expression(condition["right"]))
    return Expr("compare", symbol, sides, type="BOOLEAN") if symbol else Expr("opaque", "", sides)


def function_name(node: Node) -> str:
    """The name of a function or table function, in a plan or in a syntax tree."""
    if "qname" in node:
        return str(node["qname"]["path"][-1])
    return str(node.get("name") or node.get("function_name", ""))


def type_text(node: Node) -> str:
    """A SQL type as text; only DECIMAL and arrays need their parameters here."""
    if node["id"] == "DECIMAL" and node.get("type_info"):
        return f"DECIMAL({node['type_info'].get('width', 18)},{node['type_info'].get('scale', 0)})"
    if node["id"] == "ARRAY" and node.get("type_info"):
        return f"{type_text(node['type_info']['child_type'])}[{node['type_info']['size']}]"
    return str(node["id"])


def _constant_sql(value: Node) -> str | None:
    kind, raw = value["type"]["id"], value.get("value")
    if value.get("is_null") or raw is None:
        return None
    if kind == "DECIMAL" and isinstance(raw, int):
        return f"{_decimal_text(raw, value['type']['type_info'].get('scale', 0))}::{type_text(value['type'])}"
    if kind in ("FLOAT", "DOUBLE") and isinstance(raw, int | float):
        return f"'{float(raw)!r}'::{kind}"
    if kind == "VARCHAR" and isinstance(raw, str):
        return quote_text(raw)
    if isinstance(raw, int) and kind in (
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
    ):
        return f"{raw}::{kind}"
    return None


def _decimal_text(unscaled: int, scale: int) -> str:
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    sign = "-" if unscaled < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def path_of(function: Node) -> list[str]:
    """The name of a function in a syntax tree, with its schema and catalog where they are written."""
    if "qualified_name" in function:
        return [str(part) for part in function["qualified_name"]["path"]]
    return [part for part in (function.get("catalog"), function.get("schema"), function_name(function)) if part]


def target_type(cast: Node) -> str:
    """The type that a cast in a syntax tree casts to, without its parameters."""
    return str(cast["type_expr"].get("type_name") if "type_expr" in cast else cast["cast_type"]["id"]).upper()


def is_number(node: Node) -> bool:
    """Whether an expression in a syntax tree is the literal of a number."""
    if node.get("class") != "CONSTANT":
        return False
    if "literal" in node:
        return node["literal"].get("kind") in ("INTEGER", "NUMERIC")
    return not node["value"].get("is_null") and node["value"]["type"]["id"] in (
        "INTEGER",
        "BIGINT",
        "DECIMAL",
        "DOUBLE",
    )


def quote_text(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def arguments(function: Node) -> list[Node]:
    """The argument expressions of a function in a syntax tree, in order; `name := value` becomes `name = value`."""
    if "arguments" in function:
        return [_plain_argument(argument) for argument in function["arguments"]]
    return list(function.get("children", []))


def _plain_argument(argument: Node) -> Node:
    expr: Node = argument["expression"]
    if not argument.get("name"):
        return expr
    name = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [argument["name"]]}
    return {"class": "COMPARISON", "type": "COMPARE_EQUAL", "alias": "", "left": name, "right": {**expr, "alias": ""}}


def is_false(node: Node) -> bool:
    """Whether an expression in a syntax tree is the literal FALSE."""
    if node.get("class") == "CAST" and node["cast_type"]["id"] == "BOOLEAN":
        return string_constant(node["child"]) in ("f", "false")
    if node.get("class") != "CONSTANT":
        return False
    if "literal" in node:
        return node["literal"].get("kind") == "BOOLEAN" and str(node["literal"]["text"]).lower() == "false"
    return node["value"]["type"]["id"] == "BOOLEAN" and node["value"].get("value") is False


def loses_its_name(node: Node) -> bool:
    """Whether DuckDB 1.5 may print a nameless output otherwise than it was written: its tree holds DECIMAL(18,3) for
    DECIMAL, and one arrow for all lambdas.
    """
    return not PRINTS_AS_WRITTEN and node.get("class") in ("CAST", "LAMBDA")


def set_first_argument(function: Node, expr: Node) -> None:
    """Replace the first argument of a function in a syntax tree, in place."""
    if "arguments" in function:
        function["arguments"][0]["expression"] = expr
    else:
        function["children"][0] = expr


def append_arguments(function: Node, exprs: list[Node]) -> None:
    """Add arguments to a function in a syntax tree, in place."""
    if "arguments" in function:
        function["arguments"] += [{"name": "", "expression": expr} for expr in exprs]
    else:
        function["children"] += exprs


def string_constant(node: Node) -> str | None:
    """The text of a string literal in a syntax tree, or None for anything else."""
    if node.get("class") != "CONSTANT":
        return None
    if "literal" in node:
        return str(node["literal"]["text"]) if node["literal"].get("kind") == "STRING" else None
    value = node["value"]
    return str(value["value"]) if value["type"]["id"] == "VARCHAR" and not value["is_null"] else None


def string_like(constant: Node, text: str) -> Node:
    """The tree of a string literal, made from that of another one."""
    node = copy.deepcopy(constant)
    if "literal" in node:
        node["literal"]["text"] = text
    else:
        node["value"]["value"] = text
    return node
