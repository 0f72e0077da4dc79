"""Which part of a query asks for the rows of an index that are nearest to a vector: ORDER BY a distance, with LIMIT,
over one registered index and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.engines.dialect import Node, arguments, function_name
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.syntax import Syntax
from skipml.engines.tree import base_name, cte_names, nodes
from skipml.engines.visit_query import integer, order_key

METRICS = {
    "array_distance": "l2",
    "list_distance": "l2",
    "<->": "l2",
    "array_cosine_distance": "cosine",
    "list_cosine_distance": "cosine",
    "<=>": "cosine",
    "array_negative_inner_product": "ip",
    "array_negative_dot_product": "ip",
    "list_negative_inner_product": "ip",
    "list_negative_dot_product": "ip",
}
"""DuckDB's functions of a distance, and the metric that orders as they do."""
_ASCENDING = ("ASCENDING", "ORDER_DEFAULT")
_PLAIN = {"group_expressions", "group_sets", "having", "qualify", "sample"}
_SEVERAL_ROWS = ("unnest", "unlist")


@dataclass(frozen=True, slots=True)
class NearestQuery:
    """A SELECT of the first rows of the table `name` by their distance to `vector`, an expression without columns."""

    select: Node
    name: str
    alias: str
    function: str
    column: Node
    vector: Node
    k: int
    offset: int
    is_default_order: bool

    @property
    def condition(self) -> Node | None:
        """What WHERE says."""
        found: Node | None = self.select.get("where_clause")
        return found

    @property
    def text(self) -> str:
        """What is wanted, for people."""
        behind = f" behind {self.offset:,}" if self.offset else ""
        return f"{self.k:,} rows{behind} nearest by {self.function}"


def find(tree: Node, names: Mapping[str, Any], values: Mapping[str, object]) -> NearestQuery | None:
    """The one SELECT in a tree that reads an index by distance, None where nothing does; raises NotAnalysableError for
    one that has more to it. `values` are the parameters.
    """
    everything = nodes(tree)
    ctes = {name.lower() for node in everything for name in cte_names(node)}
    selects = [node for node in everything if node.get("type") == "SELECT_NODE"]
    reading = [
        node for node in selects if (base_name(node.get("from_table") or {}) or "").lower() in names.keys() - ctes
    ]
    ordered = [node for node in reading if _is_ordered(node)]
    if not ordered:
        return None
    if len(ordered) > 1:
        raise NotAnalysableError("more than one SELECT orders the rows of an index")
    return _nearest(ordered[0], values)


def _is_ordered(select: Node) -> bool:
    kinds = {modifier["type"] for modifier in select.get("modifiers") or []}
    return {"ORDER_MODIFIER", "LIMIT_MODIFIER"} <= kinds


def _nearest(select: Node, values: Mapping[str, object]) -> NearestQuery | None:
    modifiers = {modifier["type"]: modifier for modifier in select["modifiers"]}
    key = order_key(select)
    if key.get("class") != "FUNCTION" or function_name(key).lower() not in METRICS:
        return None
    if len(modifiers) != 2 or len(select["modifiers"]) != 2:
        raise NotAnalysableError("beside ORDER BY and LIMIT there is DISTINCT")
    orders = modifiers["ORDER_MODIFIER"]["orders"]
    if len(orders) != 1:
        raise NotAnalysableError("rows are ordered by more than the distance")
    if orders[0]["type"] not in _ASCENDING:
        raise NotAnalysableError("the furthest rows are wanted")
    table = select["from_table"]
    is_grouped = any(select.get(part) for part in _PLAIN) or select.get("aggregate_handling") != "STANDARD_HANDLING"
    if is_grouped or table.get("sample") or table.get("column_name_alias"):
        raise NotAnalysableError("rows are grouped, sampled or renamed")
    if any(node.get("class") == "WINDOW" for node in nodes(select)):
        raise NotAnalysableError("a window sees all rows")
    limit = modifiers["LIMIT_MODIFIER"]
    k, offset = _count(limit.get("limit"), values), _count(limit.get("offset"), values, unset=0)
    sides = arguments(key)
    constant = [side for side in sides if not _reads(side)]
    if k is None or offset is None or len(sides) != 2 or len(constant) != 1:
        raise NotAnalysableError("LIMIT or the vector is no constant")
    column = sides[0] if constant[0] is sides[1] else sides[1]
    name = str(table["table_name"])
    default = orders[0]["type"] == "ORDER_DEFAULT"
    alias = str(table.get("alias") or name)
    return NearestQuery(
        select, name.lower(), alias, function_name(key).lower(), column, constant[0], k, offset, default
    )


def _count(node: Node | None, values: Mapping[str, object], unset: int | None = None) -> int | None:
    if not node:
        return unset
    if node.get("class") == "PARAMETER":
        value = values.get(str(node.get("identifier")))
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
    return integer(node)


def _reads(node: Node) -> bool:
    return any(inner.get("class") in ("COLUMN_REF", "SUBQUERY", "WINDOW", "STAR") for inner in nodes(node))


def names_column(query: NearestQuery, column: str, dimension: int, syntax: Syntax) -> bool:
    """Whether the distance is that of the indexed column, as it is or cast to what it is."""
    node = query.column
    while node.get("class") == "CAST":
        if not _casts_to_vector(node, dimension, syntax):
            return False
        node = node["child"]
    if node.get("class") != "COLUMN_REF":
        return False
    path = [str(part).lower() for part in node["column_names"]]
    return path in ([column.lower()], [query.alias.lower(), column.lower()])


def _casts_to_vector(cast: Node, dimension: int, syntax: Syntax) -> bool:
    tree = syntax.tree("SELECT 1")
    tree["statements"][0]["node"]["select_list"] = [{**cast, "alias": ""}]
    return re.search(rf"AS FLOAT\[{dimension}?\]\)$", syntax.print(tree)) is not None


def given_vector(
    node: Node, values: Mapping[str, object], dimension: int, syntax: Syntax
) -> NDArray[np.float32] | None:
    """The vector where it is a parameter that Python holds, which DuckDB would take long to bind."""
    while node.get("class") == "CAST":
        if not _casts_to_vector(node, dimension, syntax):
            return None
        node = node["child"]
    value = values.get(str(node.get("identifier"))) if node.get("class") == "PARAMETER" else None
    if not is_vector(value):
        return None
    try:
        return np.asarray(value, np.float32).reshape(-1)
    except (TypeError, ValueError):
        return None


def is_vector(value: object) -> bool:
    """Whether a parameter is a list of numbers."""
    return isinstance(value, list | tuple | np.ndarray)
