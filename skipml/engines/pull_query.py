"""Which queries may have their rows pulled and scored in large batches, and how they then read.

The table is replaced by a stream of the same rows and columns, as far as the query names them, with one more column for
each model call, and the calls by these columns; all else stays DuckDB's: conditions, NaN, order, aggregates. The stream
may lack rows that cannot matter, by those conjuncts on the scan that cannot fail and follow no setting, so what is left
out of them costs time, never a row. A query that may stop early is left alone, and whatever is not understood.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from skipml.engines.dialect import (
    STREAMS_ARE_FILTERED,
    Expr,
    Node,
    arguments,
    function_name,
    is_number,
    path_of,
    quote_name,
    target_type,
)
from skipml.engines.functions import ModelFunction
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pushdown import ScanFilter
from skipml.engines.sql import Parser, Query, Reference
from skipml.engines.tree import ANSWER, NUMBER, cte_names, map_nodes, meaning, nodes

NAME = "__skipml_pulled"
"""What the query calls the stream."""
_PREFIX = "__skipml"
_EXACT = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
}
_TYPES = {
    **_EXACT,
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR": pa.string(),
}
"""The types whose values Arrow takes there and back unchanged, beside DECIMAL."""
_SOURCES = {"BASE_TABLE", "TABLE_FUNCTION", "EXPRESSION_LIST", "COLUMN_DATA", "SHOW_REF", "JOIN", "PIVOT", "CTE"}
_NOT_FOLLOWED = {"SUBQUERY": "a subquery", "LAMBDA": "a lambda function"}
_STAR_PLAIN = {"class", "type", "alias", "query_location", "query_location_length"}


@dataclass(slots=True)
class Pull:
    """What is pulled of a reference for a query: columns by name and type, inputs of models as trees by their meaning,
    and for each answer the function and its inputs, by position.
    """

    reference: Reference
    select: Node
    columns: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Node] = field(default_factory=dict)
    answers: dict[tuple[ModelFunction, tuple[int, ...]], str] = field(default_factory=dict)
    _calls: list[tuple[Node, str]] = field(default_factory=list)

    @classmethod
    def of(cls, query: Query, reference: Reference, functions: Mapping[str, ModelFunction]) -> Pull:
        """What is to be pulled; raises NotAnalysableError with the reason why the query has to call the functions."""
        everything = nodes(query.tree)
        _check_shape(query, reference, everything)
        found = [n for n in everything if n.get("type") == "SELECT_NODE" and n["from_table"].get(NUMBER) is not None]
        if len(found) != 1:
            raise NotAnalysableError("it is not clear what reads the table")
        pull = cls(reference, found[0])
        inside = pull._nodes()
        calls = [node for node in inside if _is_call(node, functions)]
        if not calls or len(calls) != sum(_is_call(node, functions) for node in everything):
            raise NotAnalysableError("a model is called elsewhere than over the table")
        arguments_of = {id(below) for call in calls for argument in arguments(call) for below in nodes(argument)}
        for call in calls:
            pull._answer(call, functions[function_name(call).lower()], query)
        for node in inside:
            if id(node) not in arguments_of:
                pull._use(node)
        return pull

    @property
    def schema(self) -> pa.Schema:
        """That of the stream."""
        fields = [(name, _arrow_type(sql_type)) for name, sql_type in self.columns.items()]
        return pa.schema(fields + [(name, _answer_type(function)) for (function, _), name in self.answers.items()])

    def source(self, parser: Parser, table: Node) -> str:
        """The query that gives the columns, then the inputs, of the rows of a table reference that may matter."""
        tree = parser.tree("SELECT 1 FROM x")
        select = tree["statements"][0]["node"]
        items = [parser.expression(quote_name(name)) for name in self.columns]
        for i, tree_of_input in enumerate(self.inputs.values()):
            item = parser.expression("CAST(x AS DOUBLE)")
            items.append({**item, "child": copy.deepcopy(tree_of_input), "alias": f"{_PREFIX}_input_{i}"})
        select["select_list"], select["from_table"] = items, table
        conditions = list(_conditions(self.reference.filters[0])) if len(self.reference.filters) == 1 else []
        if conditions:
            select["where_clause"] = parser.expression(" AND ".join(conditions))
        return parser.text(tree)

    def table(self, parser: Parser) -> Node:
        """The stream in place of the table. No condition on a COALESCE is taken for one on a column."""
        source = NAME
        if STREAMS_ARE_FILTERED:
            names = map(quote_name, self.schema.names)
            source = f"(SELECT {', '.join(f'COALESCE({name}, {name}) AS {name}' for name in names)} FROM {NAME}) AS x"
        return {**parser.table(source), "alias": self.reference.alias}

    def mark(self, parser: Parser) -> None:
        """Mark the calls in the query's tree, and write the columns out that a star means."""
        for node, name in self._calls:
            node[ANSWER] = name
        items: list[Node] = []
        for item in self.select["select_list"]:
            is_star = item["class"] == "STAR"
            items += [parser.expression(quote_name(name)) for name, _ in self.reference.schema] if is_star else [item]
        self.select["select_list"] = items

    def _nodes(self) -> list[Node]:
        return [node for key, part in self.select.items() if key != "from_table" for node in nodes(part)]

    def _aliases(self) -> dict[str, Node]:
        return {str(item.get("alias")).lower(): item for item in self.select["select_list"] if item.get("alias")}

    def _column(self, node: Node) -> tuple[str, str] | None:
        """The name and the type of the table's column that a reference means, None for anything else."""
        *table, name = (str(part).lower() for part in node["column_names"])
        if len(table) > 1 or (table and table != [self.reference.alias.lower()]):
            return None
        return next(((real, kind) for real, kind in self.reference.schema if real.lower() == name), None)

    def _answer(self, call: Node, function: ModelFunction, query: Query) -> None:
        """Take up a call of a model."""
        given = arguments(call)
        plain = not call.get("filter") and not call.get("distinct") and len(path_of(call)) == 1
        if not plain or len(given) != function.model.function.n_inputs or function.name not in query.functions:
            raise NotAnalysableError(f"a call of {function.name} is not understood")
        aliases = self._aliases()
        for argument in given:
            if self._number(argument) is None:
                raise NotAnalysableError(
                    f"an argument of {function.name} is more than a column, a number or a cast to DOUBLE"
                )
            for node in nodes(argument):
                alias = aliases.get(str(node["column_names"][-1]).lower()) if "column_names" in node else None
                if alias is not None and (alias["class"] != "COLUMN_REF" or self._column(alias) != self._column(node)):
                    raise NotAnalysableError(f"an output has the name of an argument of {function.name}")
        positions = tuple(self._input(argument) for argument in given)
        name = self.answers.setdefault((function, positions), f"{_PREFIX}_answer_{len(self.answers)}")
        self._calls.append((call, name))

    def _input(self, argument: Node) -> int:
        plain = {**argument, "alias": ""}
        key = json.dumps(meaning(plain), sort_keys=True)
        self.inputs.setdefault(key, plain)
        return list(self.inputs).index(key)

    def _number(self, node: Node) -> str | None:
        """The type of an argument that is a number whichever row it is asked of, without an error: FLOAT, DOUBLE or
        EXACT; None for any other argument.
        """
        if node["class"] == "COLUMN_REF":
            kind = (self._column(node) or ("", ""))[1]
            return "EXACT" if kind in _EXACT or kind.startswith("DECIMAL") else kind if kind in _FLOATS else None
        if node["class"] == "CAST" and not node.get("try_cast"):
            kind, inner = target_type(node), self._number(node["child"])
            is_safe = inner is not None and (kind == "DOUBLE" or (kind == "FLOAT" and inner != "DOUBLE"))
            return kind if is_safe else None
        return "DOUBLE" if is_number(node) else None

    def _use(self, node: Node) -> None:
        """Take up the column that a node reads."""
        kind = node.get("class")
        if kind == "STAR":
            table = str(node.get("relation_name") or "").lower()
            is_item = any(node is item for item in self.select["select_list"])
            changed = any(value for key, value in node.items() if key not in _STAR_PLAIN | {"relation_name"})
            if not is_item or changed or table not in ("", self.reference.alias.lower()):
                raise NotAnalysableError("a star is not plain")
            for name, sql_type in self.reference.schema:
                self._take(name, sql_type)
        elif kind == "COLUMN_REF":
            column = self._column(node)
            if column is not None:
                self._take(*column)
            elif len(node["column_names"]) > 1 or str(node["column_names"][0]).lower() not in self._aliases():
                raise NotAnalysableError(f"{'.'.join(map(str, node['column_names']))} is not a column of the table")

    def _take(self, name: str, sql_type: str) -> None:
        if _arrow_type(sql_type) is None:
            raise NotAnalysableError(f"Arrow may change values of the type {sql_type}")
        self.columns[name] = sql_type


_FLOATS = ("FLOAT", "DOUBLE")


def with_answers(parser: Parser, tree: Node) -> Node:
    """The tree with columns of answers in place of the calls that are marked."""

    def change(node: Node) -> Node:
        name = node.get(ANSWER)
        return node if name is None else {**parser.expression(quote_name(name)), "alias": node["alias"]}

    changed: Node = map_nodes(tree, change)
    return changed


def _check_shape(query: Query, reference: Reference, everything: list[Node]) -> None:
    """Raise NotAnalysableError unless the query reads one table, once, and to its end."""
    if sum(str(node.get("type")) in _SOURCES for node in everything) != 1 or any(map(cte_names, everything)):
        raise NotAnalysableError("the query reads more than a table")
    if len(reference.filters) > 1:
        raise NotAnalysableError("the table is scanned more than once")
    for node in everything:
        if str(node.get("type")).startswith("LIMIT_") or node.get("sample"):
            raise NotAnalysableError("the query may stop before the end of the table")
        if node.get("class") in _NOT_FOLLOWED:
            raise NotAnalysableError(f"the query has {_NOT_FOLLOWED[node['class']]}")
    named = query.virtual_columns or reference.option("filename") or reference.option("file_row_number")
    if named or reference.column_aliases or any(name.lower().startswith(_PREFIX) for name, _ in reference.schema):
        raise NotAnalysableError("the query reads file names or row numbers, or names columns anew")


def _is_call(node: Node, functions: Mapping[str, ModelFunction]) -> bool:
    return node.get("class") == "FUNCTION" and function_name(node).lower() in functions


def _arrow_type(sql_type: str) -> pa.DataType | None:
    if sql_type.startswith("DECIMAL(") and sql_type.endswith(")"):
        return pa.decimal128(*map(int, sql_type[len("DECIMAL(") : -1].split(",")))
    return _TYPES.get(sql_type)


def _answer_type(function: ModelFunction) -> pa.DataType:
    if function.kind == "class":
        return pa.int32()
    element = pa.float32() if function.model.function.dtype == np.float32 else pa.float64()
    return element if function.model.n_outputs == 1 else pa.list_(element)


def _conditions(filters: ScanFilter) -> Iterator[str]:
    """The conjuncts of a scan, as SQL over its columns, that give the same for a row wherever they are asked, without
    an error.
    """
    for conjunct in filters.conjuncts:
        sql = _condition(conjunct, lambda i: quote_name(filters.columns[i]))
        if sql is not None:
            yield sql


def _condition(expr: Expr, column: Callable[[int], str]) -> str | None:
    if expr.op in ("and", "or", "not"):
        parts = [_condition(arg, column) for arg in expr.args]
        if None in parts or not parts:
            return None
        joined = f" {expr.op.upper()} ".join(str(part) for part in parts)
        return f"(NOT {joined})" if expr.op == "not" else f"({joined})"
    if expr.op not in ("compare", "in"):
        return None
    types = {arg.type for arg in expr.args}
    sides = [_value(arg, column) for arg in expr.args]
    if None in sides or len(types) != 1 or _arrow_type(types.pop()) is None:
        return None
    first, *rest = map(str, sides)
    return f"({first} {expr.name} {rest[0]})" if expr.op == "compare" else f"({first} IN ({', '.join(rest)}))"


def _value(expr: Expr, column: Callable[[int], str]) -> str | None:
    if expr.op == "ref":
        return column(expr.index)
    if expr.op == "const":
        return expr.name
    if expr.op == "cast" and expr.args[0].op == "const" and _arrow_type(expr.type) is not None:
        return f"CAST({expr.args[0].name} AS {expr.type})"
    return None
