"""The names of a query's outputs, which must not change with its text."""

from __future__ import annotations

from collections.abc import Iterator

from skipml.engines.dialect import Node, loses_its_name
from skipml.engines.sql import Parser, Query
from skipml.engines.tree import ANSWER, NUMBER, map_nodes, nodes


def name_outputs(parser: Parser, query: Query) -> None:
    """Give each nameless output that would be named after changed text the name that DuckDB gives it."""
    for item in _nameless(query):
        if any(NUMBER in x or ANSWER in x for x in nodes(item)):
            tree = parser.tree("SELECT 1")
            plain = map_nodes(item, lambda x: {k: v for k, v in x.items() if k not in (NUMBER, ANSWER)})
            tree["statements"][0]["node"]["select_list"] = [plain]
            item["alias"] = parser.print(tree).removeprefix("SELECT ")


def may_rename(query: Query) -> bool:
    """Whether printing the query may change the name of an output."""
    return any(loses_its_name(node) for item in _nameless(query) for node in nodes(item))


def _nameless(query: Query) -> Iterator[Node]:
    for node in nodes(query.tree):
        yield from (item for item in node.get("select_list", []) if not item["alias"] and item["class"] != "STAR")
