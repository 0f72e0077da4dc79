"""The views in a query, replaced by the queries that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from skipml.engines.dialect import Node
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.tree import base_name, cte_names, map_tables, nodes

if TYPE_CHECKING:
    from skipml.engines.sql import Parser

_MAX_DEPTH = 8
_MAX_REMEMBERED = 1024

_PART = r'(?:"(?:[^"]|"")*"|\w+)'
_CREATE_VIEW = re.compile(
    rf"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+)?VIEW\s+(?:{_PART}\.)*{_PART}\s+AS\s+", re.IGNORECASE
)
"""As DuckDB prints a view that does not name its own columns."""

Catalog = Mapping[str, str | None]
"""Tables (None) and views (their SQL) by name in lower case."""


def expand_views(
    parser: Parser, tree: Node, catalog: Callable[[Sequence[str]], Catalog]
) -> tuple[Node, Catalog, set[str]]:
    """The tree with the text of views in their place, what `catalog` says of the names in it, and the names of CTEs."""
    known: dict[str, str | None] = {}
    looked_up: set[str] = set()
    for _ in range(_MAX_DEPTH):
        everything = nodes(tree)
        ctes = _ctes(everything)
        names = {n.lower() for node in everything if (n := base_name(node))} - looked_up
        found = catalog(sorted(names)) if names else {}
        known.update(found)
        looked_up |= names
        if not any(found.values()):
            return tree, known, ctes
        tree = map_tables(tree, partial(_expand_view, parser, known, ctes))
    return tree, known, _ctes(nodes(tree))


def _ctes(everything: Sequence[Node]) -> set[str]:
    return {key.lower() for node in everything for key in cte_names(node)}


def _expand_view(parser: Parser, known: Catalog, ctes: set[str], node: Node) -> Node:
    """Put a view's query in its place, unless a CTE could then capture one of the view's tables."""
    name = base_name(node)
    sql = known.get(name.lower()) if name is not None else None
    if name is None or sql is None or name.lower() in ctes or node.get("sample"):
        return node
    if sql not in parser.views:
        if len(parser.views) >= _MAX_REMEMBERED:
            parser.views.clear()
        parser.views[sql] = _view_body(parser, sql)
    body = parser.views[sql]
    if body is None or {n.lower() for x in nodes(body) if (n := base_name(x))} & ctes:
        return node
    subquery = parser.table("(SELECT 1) AS x")
    subquery["subquery"] = body
    subquery["alias"] = node.get("alias") or name
    subquery["column_name_alias"] = node.get("column_name_alias", [])
    return subquery


def _view_body(parser: Parser, sql: str) -> Node | None:
    """The query of a CREATE VIEW statement; None for a view that names its columns, and for what is not understood."""
    head = _CREATE_VIEW.match(sql)
    if head is None:
        return None
    try:
        statement: Node = parser.tree(sql[head.end() :].strip().rstrip(";"))["statements"][0]
    except NotAnalysableError:
        return None
    return statement
