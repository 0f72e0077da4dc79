"""Conjuncts of WHERE that call a model, followed from where they are written into the bound plan.

A conjunct C is bound as `C OR 'mark' = ''`, which is C again: the constant tells which one DuckDB has bound to what.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

from skipml.engines.dialect import Expr, Node, string_like
from skipml.engines.tree import MARK, NUMBER, map_nodes, nodes

_TEXT = f"__skipml_conjunct {secrets.token_hex(8)} "
"""Nobody who writes a query can know it, so nothing in a query is taken for a mark."""
TEMPLATE = "(x OR '__skipml_conjunct' = '')"
"""A marked conjunct, as SQL."""
_ROW_BY_ROW = {"REGULAR", "CROSS", "NATURAL"}
_KEEPS_LEFT, _KEEPS_RIGHT = {"INNER", "LEFT"}, {"INNER", "RIGHT"}


def mark_conjuncts(tree: Node, aliases: Mapping[int, str], calls_model: Callable[[Node], bool]) -> dict[int, set[int]]:
    """Number the conjuncts that call a model -> for each the table references, of those with the given aliases, whose
    rows it sees as they are, by a name that no other table beside them has.
    """
    marks: dict[int, set[int]] = {}
    for select in nodes(tree):
        if select.get("type") != "SELECT_NODE" or not select.get("where_clause"):
            continue
        sources = list(_sources(select["from_table"], aliases))
        names = [name for name, _ in sources]
        seen = {number for name, number in sources if number is not None and names.count(name) == 1}
        for conjunct in _conjuncts(select["where_clause"]) if seen else ():
            if calls_model(conjunct) and not any(node.get("class") == "SUBQUERY" for node in nodes(conjunct)):
                conjunct[MARK] = len(marks)
                marks[len(marks)] = seen
    return marks


def _conjuncts(node: Node) -> Iterator[Node]:
    if node.get("type") == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _conjuncts(child)
    else:
        yield node


def _sources(table: Node, aliases: Mapping[int, str], *, is_whole: bool = True) -> Iterator[tuple[str, int | None]]:
    """The names in a FROM, each with the number of its reference if no join makes rows of NULLs for it."""
    if table.get("type") == "JOIN":
        kind = table.get("join_type") if table.get("ref_type") in _ROW_BY_ROW else ""
        yield from _sources(table["left"], aliases, is_whole=is_whole and kind in _KEEPS_LEFT)
        yield from _sources(table["right"], aliases, is_whole=is_whole and kind in _KEEPS_RIGHT)
        return
    number = table.get(NUMBER)
    name = (aliases.get(number) if number is not None else None) or table.get("alias") or table.get("table_name") or ""
    yield str(name).lower(), number if is_whole and number in aliases else None


def marked(node: Node, template: Node) -> Node:
    """A conjunct with its number as a condition that never holds; any other node as it is."""
    if MARK not in node:
        return node
    plain = {key: value for key, value in node.items() if key != MARK}
    constant = template["children"][1]
    text = string_like(constant["left"], f"{_TEXT}{node[MARK]}")
    # DuckDB reads an OR inside an OR as one.
    parts = plain["children"] if plain.get("type") == "CONJUNCTION_OR" else [plain]
    return {**template, "children": [*parts, {**constant, "left": text}]}


def read_mark(expr: Expr) -> Expr:
    """A bound conjunct with a number as `marked`, any other expression as it is."""
    numbers = [number for arg in expr.args if (number := _number(arg)) is not None] if expr.op == "or" else []
    if not numbers:
        return expr
    rest = tuple(arg for arg in expr.args if _number(arg) is None)
    return Expr("marked", numbers[0], (rest[0] if len(rest) == 1 else Expr("or", "", rest, type="BOOLEAN"),))


def _number(expr: Expr) -> str | None:
    if expr.op != "compare":
        return None
    constant = expr.args[0]
    while constant.op == "cast":
        constant = constant.args[0]
    text = constant.name.strip("'")
    return text.removeprefix(_TEXT) if constant.op == "const" and text.startswith(_TEXT) else None


def unmarked(expr: Expr) -> Expr:
    """The expression without numbers."""
    if expr.op == "marked":
        return unmarked(expr.args[0])
    return Expr(expr.op, expr.name, tuple(map(unmarked, expr.args)), expr.index, expr.type) if expr.args else expr


def with_cases(tree: Node, cases: Mapping[int, Node]) -> Node:
    """The tree with each of some conjuncts as the last branch of a CASE."""

    def change(node: Node) -> Node:
        if node.get(MARK) not in cases:
            return node
        return {**cases[node[MARK]], "else_expr": {key: value for key, value in node.items() if key != MARK}}

    mapped: Node = map_nodes(tree, change)
    return mapped
