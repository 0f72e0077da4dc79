"""The query that tells beforehand what another one orders by: the values, and the places of their rows.

It is the SELECT of the other query itself, without ORDER BY and LIMIT, with three more outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from skipml.engines.dialect import Node, quote_text
from skipml.engines.ordering import TopOrder
from skipml.engines.parameters import NotAnalysableError, bound_parameter
from skipml.engines.registry import Registry
from skipml.engines.sql import Parser, Query, Reference
from skipml.engines.tree import NUMBER, map_nodes, map_tables, nodes
from skipml.partitions import may_be_partitioned

SCORE, FILE, ROW = "__skipml_score", "__skipml_file", "__skipml_row"
"""The columns of the query that asks for values and places."""
FILES = "__skipml_files__"
"""Stands for the list of files in that query."""
_PLACE = {"file_index": FILE, "file_row_number": ROW}


def check_stable(functions: frozenset[str], registry: Registry, parser: Parser) -> None:
    """Raise NotAnalysableError for functions that may give another value when they are asked again."""
    models = {function.in_plan[0] for function in registry.functions.values()}
    unknown = sorted(functions - models - registry.stable.keys())
    if unknown:
        rows = parser.private.execute(
            "SELECT lower(function_name), bool_and(stability IS NOT DISTINCT FROM 'CONSISTENT') "
            f"FROM duckdb_functions() WHERE lower(function_name) IN ({', '.join(map(quote_text, unknown))}) GROUP BY 1"
        ).fetchall()
        registry.stable |= dict.fromkeys(unknown, False) | {str(name): bool(stable) for name, stable in rows}
    unstable = [name for name in sorted(functions - models) if not registry.stable[name]]
    if unstable:
        raise NotAnalysableError(f"{unstable[0]} may give another value when it is asked again")


def scores_query(
    parser: Parser, query: Query, reference: Reference, literals: Mapping[str, str], order: TopOrder
) -> str:
    """The SQL that gives the value ordered by, the number of the file and the number of the row, of every row that
    comes into question; FILES stands in it for the list of files. Raises NotAnalysableError.
    """
    made_of = (reference.number, reference.files, order.is_filtered)
    if made_of not in query.scores:
        query.scores[made_of] = _scores_query(parser, query, reference, literals, is_filtered=order.is_filtered)
    return query.scores[made_of]


def _scores_query(
    parser: Parser, query: Query, reference: Reference, literals: Mapping[str, str], *, is_filtered: bool
) -> str:
    if query.virtual_columns or reference.option("filename") or reference.option("file_row_number"):
        raise NotAnalysableError("the query reads file names or row numbers")
    if is_filtered and len(reference.files) > 1 and any(map(may_be_partitioned, reference.files)):
        raise NotAnalysableError("DuckDB numbers files anew where a condition leaves out partitions")
    levels = _levels(query.tree, reference.number)
    if levels is None:
        raise NotAnalysableError("the rows ordered come from more than a file and simple subqueries")
    named = {str(node.get("alias") or "").lower() for node in nodes(levels[0])}
    named |= {name.lower() for name, _ in reference.schema}
    if named & {*_PLACE, *_PLACE.values(), SCORE}:
        raise NotAnalysableError("a column has the name of one of DuckDB's virtual columns")
    top = copy.deepcopy(levels[0])
    levels, key = _down(top, reference.number) or [], order_key(top)
    places = [f"{column} AS {name}" for column, name in _PLACE.items()]
    for level in reversed(levels):
        level["select_list"] += parser.select_list(places)
        places = list(_PLACE.values())
    top["select_list"].append({**key, "alias": SCORE})
    top["modifiers"] = []
    tree = parser.tree(f"SELECT {SCORE}, {FILE}, {ROW} FROM (SELECT 1) AS x")
    tree["statements"][0]["node"]["from_table"]["subquery"]["node"] = top
    source = parser.read(reference, [FILES], None, ())
    tree = map_tables(tree, lambda node: source if node.get(NUMBER) == reference.number else node)
    parameters = parser.literals(literals)
    sql = parser.text(map_nodes(tree, lambda node: bound_parameter(node, parameters)))
    if sql.count(f"'{FILES}'") != 1:
        raise NotAnalysableError("the list of files is not where it should be")
    return sql


def _levels(tree: Node, number: int) -> list[Node] | None:
    """The SELECT with a LIMIT over a reference, then those that it takes the rows from, down to the reference."""
    found = (_down(node, number) for node in nodes(tree) if _modifiers(node, "LIMIT_MODIFIER"))
    return next((levels for levels in found if levels), None)


def _down(node: Node, number: int) -> list[Node] | None:
    if node.get("type") != "SELECT_NODE":
        return None
    source = node["from_table"]
    if source.get(NUMBER) == number:
        return [node]
    inner = source["subquery"]["node"] if source["type"] == "SUBQUERY" else {}
    below = _down(inner, number) if not inner.get("modifiers") else None
    return [node, *below] if below else None


def _modifiers(node: Node, kind: str) -> list[Node]:
    return [m for m in node.get("modifiers") or [] if m.get("type") == kind]


def order_key(select: Node) -> Node:
    """What a SELECT orders by first, as an item of its list: a place in the list or an alias stands for its item."""
    orders = [order for modifier in _modifiers(select, "ORDER_MODIFIER") for order in modifier["orders"]]
    items = select["select_list"]
    if not orders:
        raise NotAnalysableError("nothing is ordered")
    node: Node = orders[0]["expression"]
    if node["class"] in ("CONSTANT", "STAR"):
        place = integer(node)
        if place is None or not 1 <= place <= len(items) or any(i["class"] == "STAR" for i in items[:place]):
            raise NotAnalysableError("it is not clear which output the rows are ordered by")
        return copy.deepcopy(items[place - 1])
    aliases = [str(item.get("alias") or "").lower() for item in items]
    if node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1:
        alike = [i for i, alias in enumerate(aliases) if alias == str(node["column_names"][0]).lower()]
        if len(alike) == 1:
            return copy.deepcopy(items[alike[0]])
    used = {str(n["column_names"][0]).lower() for n in nodes(node) if n.get("class") == "COLUMN_REF"}
    if used & set(aliases):
        raise NotAnalysableError("the rows are ordered by an expression that reads the alias of an output")
    return copy.deepcopy(node)


def integer(node: Node) -> int | None:
    """The value of an integer literal in a syntax tree, None for anything else."""
    literal = node.get("literal") or {}
    value = node.get("value") or {}
    text = literal.get("text") if literal.get("kind") == "INTEGER" else value.get("value")
    return int(text) if isinstance(text, int) or (isinstance(text, str) and text.isdigit()) else None
