"""Which scans are asked for their first rows in some order: ORDER BY with LIMIT over one scan and nothing else between,
as the bound plan has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skipml.engines.dialect import Expr, Node, expression, function_name
from skipml.engines.pushdown import scan_counts, scanned_table
from skipml.engines.tree import nodes

_DIRECTIONS = {"ASCENDING": True, "DESCENDING": False}
_NULLS = {"NULLS FIRST": True, "NULLS LAST": False}


@dataclass(frozen=True, slots=True)
class TopOrder:
    """The first rows that a query wants of a scan: `key` is what it orders by first, over the scan's columns."""

    key: Expr
    ascending: bool
    nulls_first: bool
    breaks_ties: bool
    """Whether further keys come behind it."""
    k: int
    offset: int
    is_filtered: bool
    """Whether conditions choose among the rows."""
    functions: frozenset[str]
    """The functions that choose rows and make the key: the answer can only be known beforehand if they are stable."""

    @property
    def text(self) -> str:
        """What is wanted but for the key, for people: `first 10 by {} DESC`."""
        behind = f" behind {self.offset:,}" if self.offset else ""
        nulls = " NULLS FIRST" if self.nulls_first else ""
        return f"first {self.k:,}{behind} by {{}} {'ASC' if self.ascending else 'DESC'}{nulls}"


def top_orders(everywhere: Sequence[Node]) -> dict[str, TopOrder]:
    """What is wanted of the base tables of a serialized logical plan, by table, given all its nodes; those of several
    scans are left out.
    """
    found = [top for node in everywhere if node.get("type") == "LOGICAL_LIMIT" for top in _top_orders(node)]
    scans = scan_counts(everywhere) if found else Counter[str]()
    return {table: order for table, order in found if scans[table] == 1}


def _top_orders(limit: Node) -> Iterator[tuple[str, TopOrder]]:
    """What a LIMIT wants of the one scan below it, if it does nothing but order, project and filter it."""
    k, offset = _count(limit.get("limit_val", {})), _count(limit.get("offset_val", {}), unset=0)
    by = limit["children"][0]
    if k is None or offset is None or by["type"] != "LOGICAL_ORDER_BY" or not by.get("orders"):
        return
    first = by["orders"][0]
    key: Expr | None = expression(first["expression"])
    ascending, nulls_first = _DIRECTIONS.get(first["type"]), _NULLS.get(first["null_order"])
    functions, node, is_output, is_filtered = set[str](), by, True, False
    while not node.get("projection_map") and len(node.get("children", [])) == 1:
        node = node["children"][0]
        if node["type"] == "LOGICAL_PROJECTION" and key is not None:
            outputs = [expression(e) for e in node.get("expressions", [])]
            key = key.map_refs(lambda i, outputs=outputs: outputs[i] if i < len(outputs) else None)  # type: ignore[misc]
        elif node["type"] != "LOGICAL_FILTER":
            break
        if not is_output:  # what the outermost projection makes chooses no rows
            functions |= set(_functions(node.get("expressions", [])))
        is_output, is_filtered = False, is_filtered or node["type"] == "LOGICAL_FILTER"
    table = scanned_table(node) if node["type"] == "LOGICAL_GET" and not node.get("children") else None
    if table is None or key is None or ascending is None or nulls_first is None or _is_opaque(key):
        return
    made_by = frozenset(functions | {expr.name for expr in _inside(key) if expr.op == "call"})
    yield table, TopOrder(key, ascending, nulls_first, len(by["orders"]) > 1, k, offset, is_filtered, made_by)


def _count(value: Node, unset: int | None = None) -> int | None:
    """A constant number of rows; None where it is computed or a share."""
    kind = value.get("type", "UNSET")
    if kind == "UNSET":
        return unset
    return int(value.get("constant_integer", 0)) if kind == "CONSTANT_VALUE" else None


def _functions(expressions: list[Node]) -> Iterator[str]:
    """The functions that bound expressions call; comparisons and casts are none."""
    for node in nodes(expressions):
        if node.get("type") == "BOUND_FUNCTION":
            yield function_name(node).lower()


def _inside(expr: Expr) -> Iterator[Expr]:
    yield expr
    for arg in expr.args:
        yield from _inside(arg)


def _is_opaque(expr: Expr) -> bool:
    return any(inner.op == "opaque" for inner in _inside(expr))
