"""What DuckDB's bound plan says of the Parquet references of a query.

The text that DuckDB binds, a query over stand-in tables, is remembered with the query by all that it is made of. DuckDB
binds it for every plan, so what else a query means depends on, such as macros, settings and types, is asked anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from skipml.engines.dialect import Node
from skipml.engines.marks import TEMPLATE, mark_conjuncts, marked
from skipml.engines.parameters import bound_parameter
from skipml.engines.registry import Registry
from skipml.engines.sql import VIRTUAL_COLUMNS, Parser, Query, Reference, Schema, Session, Standins
from skipml.engines.tree import NUMBER, base_name, map_nodes

_MAX_BOUND = 16
"""Texts remembered per query: parameters make each execution another one."""


def bind_filters(
    parser: Parser, query: Query, literals: Mapping[str, str], session: Session, registry: Registry
) -> None:
    """Number the conjuncts that call a model, find the filters of every reference, and store them in the query; raises
    NotAnalysableError where the plan cannot be read.

    `literals` gives the SQL of each parameter by its identifier.
    """
    variables = {name: session.variable(name) for name in query.unresolved}
    made_of = (
        frozenset(registry.functions),
        registry.macros_call_models,
        tuple((reference.number, reference.schema) for reference in query.references),
        tuple(literals.items()),
        tuple(variables.items()),
    )
    found = query.bound.get(made_of)
    if found is None:
        found = _standins(parser, query, literals, variables, registry)
        if len(query.bound) >= _MAX_BOUND:
            query.bound.clear()
        query.bound[made_of] = found
    query.tree, query.marks, query.scores = found.tree, found.marks, found.scores
    answer_null = frozenset(function.name for function in registry.functions.values() if function.sees_null)
    serialized, query.threads = session.logical_plan(found.sql)
    plan = parser.plan(serialized, answer_null)
    query.functions = plan.functions
    by_number = {reference.number: reference for reference in query.references}
    for table, number in found.tables.items():
        by_number[number].filters = plan.filters.get(table, ())
        by_number[number].top = plan.orders.get(table)


def _standins(
    parser: Parser,
    query: Query,
    literals: Mapping[str, str],
    variables: Mapping[str, Schema | None],
    registry: Registry,
) -> Standins:
    own = map_nodes(query.tree, lambda node: node)
    aliases = {reference.number: reference.alias for reference in query.references}
    marks = mark_conjuncts(own, aliases, registry.is_called)
    tables: dict[str, int] = {}
    alike: Counter[Schema] = Counter()

    def stand_in(reference: Reference) -> Node:
        real = {name.lower() for name, _ in reference.schema}
        virtual = tuple((name, VIRTUAL_COLUMNS[name]) for name in query.virtual_columns if name not in real)
        schema = reference.schema + virtual
        node = parser.standin(str(alike[schema]), schema, reference.alias, reference.column_aliases)
        alike[schema] += 1
        tables[str(node["table_name"])] = reference.number
        return node

    def stand_in_variable(node: Node) -> Node:
        name = base_name(node)
        schema = variables.get(name) if name is not None else None
        if name is None or schema is None:
            return node
        return parser.standin(f"variable {name}", schema, node.get("alias") or name, node.get("column_name_alias", []))

    by_number = {reference.number: reference for reference in query.references}
    parameters = parser.literals(literals)
    template = parser.expression(TEMPLATE)

    def change(node: Node) -> Node:
        if NUMBER in node:
            return stand_in(by_number[node[NUMBER]])
        if node.get("type") == "BASE_TABLE":
            return stand_in_variable(node)
        return bound_parameter(marked(node, template), parameters)

    return Standins(parser.text(map_nodes(own, change)), tables, own, marks)
