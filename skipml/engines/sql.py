"""What a query asks of each Parquet scan: its table references, rewritten syntax trees, and the filters that reach
each of them.

DuckDB parses and binds; skipml only moves table references. Each Parquet reference is bound once more as an empty
*stand-in* table of the same schema, because DuckDB serializes bound plans over tables, and the pushdown of
`pushdown.py` then tells which conjuncts hold for it. Anything not understood leaves the query as it is.
"""

from __future__ import annotations

import copy
import glob
import itertools
import json
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from skipml.engines.dialect import (
    Node,
    append_arguments,
    arguments,
    function_name,
    is_false,
    quote_name,
    quote_text,
    set_first_argument,
    string_constant,
    string_like,
)
from skipml.engines.ordering import TopOrder
from skipml.engines.pushdown import ScanFilter
from skipml.engines.scan_plan import ScanPlan
from skipml.engines.syntax import Syntax
from skipml.engines.tree import NUMBER, base_name, map_tables, may_limit, nodes, takes_unnamed_columns
from skipml.engines.views import expand_views
from skipml.engines.volatile import VolatileFunctions
from skipml.identity import is_settled, listed_identity
from skipml.recent import Recent

STANDIN_DATABASE = "__skipml"
"""An attached in-memory database that holds the empty stand-in tables."""
VIRTUAL_COLUMNS = {
    "filename": "VARCHAR",
    "file_row_number": "BIGINT",
    "file_index": "UBIGINT",
    "file_row_group_number": "UBIGINT",
}
_PARQUET_FUNCTIONS = {"read_parquet", "parquet_scan"}
_SAFE_OPTIONS = {
    "union_by_name",
    "hive_partitioning",
    "hive_types",
    "hive_types_autocast",
    "binary_as_string",
    "can_have_nan",
    "filename",
    "file_row_number",
}
_MAX_SCHEMAS = _CACHED_PLANS = 256

Schema = tuple[tuple[str, str], ...]
"""Column names and types."""


@dataclass(slots=True)
class Reference:
    """One Parquet table reference of a query."""

    number: int
    patterns: tuple[str, ...]
    options: tuple[Node, ...]
    alias: str
    column_aliases: tuple[str, ...]
    files: tuple[str, ...] = ()
    schema: Schema = ()
    filters: tuple[ScanFilter, ...] = ()
    top: TopOrder | None = None

    def option(self, name: str) -> bool:
        """Whether a boolean option was given and is not false."""
        for node in self.options:
            if str(node["left"]["column_names"][-1]).lower() == name:
                return not is_false(node["right"])
        return False


@dataclass(slots=True)
class Query:
    """A parsed SELECT with the Parquet references found in it."""

    tree: Node
    """Not to be changed: it is remembered."""
    references: list[Reference]
    implicit_columns: bool
    """A star, a natural join or a pivot takes columns that it does not name."""
    may_be_limited: bool
    """DuckDB may read the scan as a top-n or a sample: it has ORDER BY, LIMIT, a window or a sample."""
    virtual_columns: tuple[str, ...]
    """Names of virtual columns that the query reads."""
    taken: frozenset[str]
    """Names of tables, views and CTEs, in lower case: they come before variables of the caller."""
    words: frozenset[str]
    """The column references of one name, in lower case; the name of a table means its whole row."""
    calls: frozenset[str]
    """The functions that are called by name, in lower case, before macros are expanded."""
    unresolved: tuple[str, ...]
    """Names of tables that may be variables of the caller."""
    bound: dict[Hashable, Standins] = field(default_factory=dict)
    """What was made of the query to bind it, by all that it was made of; see `binding.py`."""
    threads: int = 1
    """Those that DuckDB may use."""
    functions: frozenset[str] = frozenset()
    """The functions that are called, as DuckDB has bound the query."""
    marks: Mapping[int, set[int]] = field(default_factory=dict)
    """The references beside each conjunct of WHERE that calls a model."""
    scores: dict[Hashable, str] = field(default_factory=dict)
    """Those of its `Standins`."""

    def names_columns_implicitly(self, reference: Reference) -> bool:
        """Whether a column more in the reference could show in the result."""
        return self.implicit_columns or reference.alias.lower() in self.words


@dataclass(frozen=True, slots=True)
class Standins:
    """A query over stand-in tables, to be bound: its SQL, and the number of the reference of each table; and its own
    tree, with the conjuncts numbered that call a model, and the references beside each of these.
    """

    sql: str
    tables: Mapping[str, int]
    tree: Node
    marks: Mapping[int, set[int]]
    scores: dict[Hashable, str] = field(default_factory=dict)
    """The queries that score rows beforehand, by all else that they are made of."""


class Session(Protocol):
    """What only the user's own connection knows."""

    def catalog(self, names: Sequence[str]) -> Mapping[str, str | None]:
        """Those of the names, in lower case, that are tables (None) or views (their SQL)."""

    def variable(self, name: str) -> Schema | None:
        """The schema of a variable of the caller that DuckDB can scan, or None."""

    def logical_plan(self, sql: str) -> tuple[str, int]:
        """The serialized plan of a query, bound and not optimized, and the threads that DuckDB may use."""

    def output_names(self, sql: str) -> list[str]:
        """The names of the columns that a query gives."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a text, and what the catalog said of the names that were looked up."""

    names: tuple[str, ...]
    known: Mapping[str, str | None]
    query: Query


@dataclass(slots=True)
class Parser(Syntax):
    """Parses, rewrites and binds queries of one connection."""

    views: dict[str, Node | None] = field(default_factory=dict)
    """The queries of views by the text of the view, as `views` has understood them."""
    queries: Recent[str, Found] = field(default_factory=lambda: Recent(_CACHED_PLANS, lambda _: 1))
    _plans: Recent[tuple[str, frozenset[str]], ScanPlan] = field(
        default_factory=lambda: Recent(_CACHED_PLANS, lambda _: 1)
    )
    _volatile: dict[str, bool] = field(default_factory=dict)
    _templates: dict[str, Node] = field(default_factory=dict)
    _standins: dict[tuple[str, Schema], str] = field(default_factory=dict)
    _schemas: dict[tuple[object, ...], Schema] = field(default_factory=dict)

    def select_list(self, expressions: Sequence[str]) -> list[Node]:
        """The trees of SQL expressions."""
        if not expressions:
            return []
        return list(self.tree("SELECT " + ", ".join(expressions))["statements"][0]["node"]["select_list"])

    def literals(self, literals: Mapping[str, str]) -> dict[str, Node]:
        """The trees of parameters given as SQL, by identifier."""
        return dict(zip(literals, self.select_list(list(literals.values())), strict=True))

    def plan(self, serialized: str, answer_null: frozenset[str]) -> ScanPlan:
        """What a serialized plan asks of each table, remembered by its text; raises NotAnalysableError."""
        plan = self._plans.get((serialized, answer_null))
        if plan is None:
            plan = ScanPlan.of(serialized, VolatileFunctions(self.private, self._volatile), answer_null)
            self._plans.put((serialized, answer_null), plan)
        return plan

    def table(self, sql: str) -> Node:
        """The tree of a table reference, cached by its text."""
        if sql not in self._templates:
            self._templates[sql] = self.tree("SELECT * FROM " + sql)["statements"][0]["node"]["from_table"]
        return copy.deepcopy(self._templates[sql])

    def expression(self, sql: str) -> Node:
        """The tree of an expression, cached by its text."""
        if sql not in self._templates:
            self._templates[sql] = self.select_list([sql])[0]
        return copy.deepcopy(self._templates[sql])

    def table_function(self, reference: Reference, files: Sequence[str]) -> Node:
        """`read_parquet([files], options)` as a tree, without an alias."""
        node = self.table("read_parquet(['x'])")
        names = arguments(node["function"])[0]
        text = arguments(names)[0]
        set_first_argument(names, string_like(text, files[0]))
        append_arguments(names, [string_like(text, file) for file in files[1:]])
        append_arguments(node["function"], [copy.deepcopy(option) for option in reference.options])
        return node

    def read(self, reference: Reference, files: Sequence[str], condition: str | None, extra: Sequence[str]) -> Node:
        """The reference with other files, or, with a condition, as a subquery that reads only the rows it names;
        `extra` are virtual columns to pass on.
        """
        function = self.table_function(reference, [glob.escape(file) for file in files])
        if condition is None:
            node = function
        else:
            columns = ", ".join(["*", *extra])
            node = self.table(f"(SELECT {columns} FROM read_parquet(['x']) WHERE {condition}) AS x")
            node["subquery"]["node"]["from_table"] = function
        node["alias"] = reference.alias
        node["column_name_alias"] = list(reference.column_aliases)
        return node

    def describe(self, reference: Reference, urls: Sequence[str] = ()) -> Schema:
        """Column names and types of the reference as DuckDB binds it, or with these files in place of its own;
        remembered while the files stay as they are.
        """
        states = tuple((file, listed_identity(file)) for file in reference.files)
        key = (reference.patterns, json.dumps(reference.options), states)
        if key in self._schemas:
            return self._schemas[key]
        schema = self._describe(reference, [glob.escape(url) for url in urls] or reference.patterns)
        newest = max((state.written_ns for _, state in states), default=0)
        if is_settled(newest, time.time_ns()):
            if len(self._schemas) >= _MAX_SCHEMAS:
                self._schemas.clear()
            self._schemas[key] = schema
        return schema

    def _describe(self, reference: Reference, files: Sequence[str]) -> Schema:
        if reference.options:
            tree = self.tree("SELECT * FROM x")
            tree["statements"][0]["node"]["from_table"] = self.table_function(reference, files)
            query = self.text(tree)
        else:
            query = f"SELECT * FROM read_parquet([{', '.join(map(quote_text, files))}])"
        return schema_of(self.private.execute("DESCRIBE " + query).fetchall())

    def standin(self, key: str, schema: Schema, alias: str, column_aliases: Sequence[str]) -> Node:
        """An empty table of the schema, one per key, as a table reference."""
        if (key, schema) not in self._standins:
            table = f"scan_{next(_numbers)}"
            columns = ", ".join(f"{quote_name(name)} {sql_type}" for name, sql_type in schema)
            self.private.execute(f"CREATE TABLE {STANDIN_DATABASE}.main.{table} ({columns})")
            self._standins[key, schema] = table
        node = self.table(f"{STANDIN_DATABASE}.main.{self._standins[key, schema]}")
        node["alias"] = alias
        node["column_name_alias"] = list(column_aliases)
        return node


_numbers = itertools.count()
"""Cursors share the database of the stand-ins, so names are unique in the process."""


def schema_of(described: Sequence[Sequence[object]]) -> Schema:
    """The schema in the rows that DESCRIBE gives."""
    return tuple((str(row[0]), str(row[1])) for row in described)


def find_references(parser: Parser, sql: str, session: Session) -> Query:
    """Parse a SELECT, put the text of views in their place, and number its Parquet references, remembered as long as
    the catalog says the same of the names. Raises NotAnalysableError.
    """
    held = parser.queries.get(sql)
    if held is None or (session.catalog(held.names) if held.names else {}) != held.known:
        names: list[str] = []

        def catalog(asked: Sequence[str]) -> Mapping[str, str | None]:
            names.extend(asked)
            return session.catalog(asked)

        tree, known, ctes = expand_views(parser, parser.tree(sql), catalog)
        held = Found(tuple(names), known, _query(tree, known, ctes))
        parser.queries.put(sql, held)
    return replace(held.query, references=[replace(reference) for reference in held.query.references])


def _query(tree: Node, known: Mapping[str, str | None], ctes: set[str]) -> Query:
    """The query in a tree whose views are expanded."""
    references: list[Reference] = []

    def number(node: Node) -> Node:
        found = _reference(node, len(references), known, ctes)
        if found is not None:
            references.append(found)
            node[NUMBER] = found.number
        return node

    tree = map_tables(tree, number)
    everything = nodes(tree)
    # The options of a Parquet function look like columns: `filename = true`.
    outside = [node for node in nodes(tree, unless=NUMBER) if node.get("column_names")]
    columns = {str(node["column_names"][-1]).lower() for node in outside if node.get("class") == "COLUMN_REF"}
    taken = frozenset(known) | frozenset(ctes)
    names = dict.fromkeys(name for node in everything if (name := base_name(node)) is not None)
    return Query(
        tree=tree,
        references=references,
        implicit_columns=any(map(takes_unnamed_columns, everything)),
        may_be_limited=any(map(may_limit, everything)),
        virtual_columns=tuple(name for name in VIRTUAL_COLUMNS if name in columns),
        taken=taken,
        words=frozenset(str(node["column_names"][0]).lower() for node in outside if len(node["column_names"]) == 1),
        calls=frozenset(function_name(node).lower() for node in everything if node.get("class") == "FUNCTION"),
        unresolved=tuple(name for name in names if name.lower() not in taken),
    )


def with_references(tree: Node, references: Sequence[Reference], replace: Callable[[Reference], Node | None]) -> Node:
    """The tree with each Parquet reference replaced, or put back where `replace` gives None."""
    by_number = {reference.number: reference for reference in references}

    def swap(node: Node) -> Node:
        if NUMBER not in node:
            return node
        other = replace(by_number[node[NUMBER]])
        return other if other is not None else {k: v for k, v in node.items() if k != NUMBER}

    return map_tables(tree, swap)


def _reference(node: Node, number: int, known: Mapping[str, str | None], ctes: set[str]) -> Reference | None:
    if node.get("sample"):
        return None
    name = base_name(node)
    if name is not None:
        if not name.lower().endswith(".parquet") or name.lower() in known or name.lower() in ctes:
            return None
        # DuckDB names a table after its file, but not after a glob.
        implied = "read_parquet" if glob.has_magic(name) else re.split(r"[\\/]", name)[-1].split(".")[0]
        return Reference(number, (name,), (), node.get("alias") or implied, tuple(node.get("column_name_alias", [])))
    if (
        node.get("type") != "TABLE_FUNCTION"
        or node.get("with_ordinality", "WITHOUT_ORDINALITY") != "WITHOUT_ORDINALITY"
    ):
        return None
    function = node["function"]
    if function_name(function).lower() not in _PARQUET_FUNCTIONS:
        return None
    given = arguments(function)
    patterns, options = _patterns(given[0]) if given else None, given[1:]
    if patterns is None or not all(_is_safe_option(option) for option in options):
        return None
    alias = node.get("alias") or function_name(function)
    return Reference(number, patterns, tuple(options), alias, tuple(node.get("column_name_alias", [])))


def _patterns(node: Node) -> tuple[str, ...] | None:
    text = string_constant(node)
    if text is not None:
        return (text,)
    if node.get("class") == "FUNCTION" and function_name(node) in ("list_value", "array_value"):
        texts = [string_constant(item) for item in arguments(node)]
        return tuple(t for t in texts if t is not None) if texts and all(t is not None for t in texts) else None
    return None


def _is_safe_option(node: Node) -> bool:
    named = node.get("type") == "COMPARE_EQUAL" and node["left"].get("class") == "COLUMN_REF"
    return named and str(node["left"]["column_names"][-1]).lower() in _SAFE_OPTIONS
