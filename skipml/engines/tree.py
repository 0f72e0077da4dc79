"""Walking and changing DuckDB's syntax trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skipml.engines.dialect import Node

NUMBER = "__skipml_reference"
"""The key of a table reference in a tree that holds its number."""
MARK = "__skipml_conjunct"
"""The key of a conjunct in a tree that holds its number."""
ANSWER = "__skipml_answer"
"""The key of a call of a model in a tree that holds the column which takes its place."""
_NOT_MEANING = {"query_location", "query_location_length", "is_operator", "named_param_map", MARK, ANSWER}
"""Keys of a syntax tree that depend on how a query is written, not on what it says."""
_INNER = {dict, list}
"""The types of what trees are made of, as JSON gives them."""


def nodes(tree: object, unless: str | None = None) -> list[Node]:
    """Every node of a tree; those that have the key `unless`, and all below them, are left out."""
    found: list[Node] = []
    stack = [tree]
    while stack:
        item = stack.pop()
        if type(item) is list:
            stack += [value for value in item if type(value) in _INNER]
        elif type(item) is dict and unless not in item:
            found.append(item)
            stack += [value for value in item.values() if value and type(value) in _INNER]
    return found


def map_nodes(item: Any, change: Callable[[Node], Node]) -> Any:
    """A copy of the tree with every node changed, parents first."""
    if type(item) is list:
        return [map_nodes(x, change) for x in item]
    if type(item) is not dict:
        return item
    changed = change(dict(item))
    return {key: map_nodes(x, change) if type(x) in _INNER else x for key, x in changed.items()}


def map_tables(tree: Node, change: Callable[[Node], Node]) -> Node:
    """A copy of the tree with every table reference changed."""
    mapped: Node = map_nodes(
        tree, lambda node: change(node) if node.get("type") in ("BASE_TABLE", "TABLE_FUNCTION") else node
    )
    return mapped


def meaning(item: Any) -> Any:
    """The tree without what depends on how it was written."""
    if type(item) is list:
        return [meaning(x) for x in item]
    if type(item) is dict:
        return {k: meaning(v) if type(v) in _INNER else v for k, v in item.items() if k not in _NOT_MEANING}
    return item


def cte_names(node: Node) -> list[str]:
    """The CTEs that a query node defines."""
    entries = node.get("cte_map", {}).get("map", []) if isinstance(node.get("cte_map"), dict) else []
    return [str(entry["key"]) for entry in entries]


def base_name(node: Node) -> str | None:
    """The unqualified name of a base table reference, or None for any other node."""
    plain = (
        node.get("type") == "BASE_TABLE"
        and not node.get("schema_name")
        and not node.get("catalog_name")
        and not node.get("at_clause")
    )
    return str(node["table_name"]) if plain else None


def takes_unnamed_columns(node: Node) -> bool:
    """Whether it is a star, a natural join or a pivot."""
    return node.get("class") == "STAR" or node.get("ref_type") == "NATURAL" or node.get("type") == "PIVOT"


def may_limit(node: Node) -> bool:
    """Whether it is an ORDER BY, a LIMIT, a sample or a window."""
    return bool(node.get("modifiers") or node.get("sample")) or node.get("class") == "WINDOW"
