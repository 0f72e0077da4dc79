"""The names of a query's outputs, which must not change with its text."""

from __future__ import annotations

from collections.abc import Iterator

from skipml.engines.dialect import Node, loses_its_name
from skipml.engines.sql import Parser, Query
from skipml.engines.tree import ANSWER, NUMBER, map_nodes, nodes


def with_names(parser: Parser, query: Query) -> Node:
    """The tree with a name for each nameless output that would be named after changed text: that which DuckDB gives
    it.
    """
    if not any(map(_changes, _nameless(query.tree))):
        return query.tree
    tree: Node = map_nodes(query.tree, lambda node: node)
    for item in filter(_changes, _nameless(tree)):
        alone = parser.tree("SELECT 1")
        plain = map_nodes(item, lambda x: {k: v for k, v in x.items() if k not in (NUMBER, ANSWER)})
        alone["statements"][0]["node"]["select_list"] = [plain]
        item["alias"] = parser.print(alone).removeprefix("SELECT ")
    return tree


def may_rename(query: Query) -> bool:
    """Whether printing the query may change the name of an output."""
    return any(loses_its_name(node) for item in _nameless(query.tree) for node in nodes(item))


def _changes(item: Node) -> bool:
    """Whether the text of an output changes."""
    return any(NUMBER in node or ANSWER in node for node in nodes(item))


def _nameless(tree: Node) -> Iterator[Node]:
    for node in nodes(tree):
        yield from (item for item in node.get("select_list", []) if not item["alias"] and item["class"] != "STAR")
