"""Nearest rows in SQL: an index finds them, DuckDB computes the rest of the query over them.

With a recall that the index promises, the rows are those that a search finds: an estimate. Without, every row that
passes the conditions is looked at, and all are kept that rounding leaves in question, so that DuckDB's own order of its
own distances decides: the answer is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.engines.dialect import Node, function_name, quote_name, quote_text
from skipml.engines.indexes import Indexes
from skipml.engines.nearest_query import METRICS, NearestQuery, find, given_vector, is_vector, names_column
from skipml.engines.parameters import NotAnalysableError, bound_parameter, parameter_literals
from skipml.engines.query_plan import QueryPlan
from skipml.engines.session import UserSession
from skipml.engines.sql import Parser
from skipml.engines.tree import map_nodes, nodes
from skipml.errors import MetadataError
from skipml.identity import FileIdentity
from skipml.report import Report

if TYPE_CHECKING:
    from skipml.ann.index import VectorIndex
    from skipml.ann.snapshot import Snapshot

FOUND = "__skipml_nearest"
"""The variable that holds the rows that were found."""
_MOST_SHARE = 4
"""An index is no use for more than a quarter of its rows."""

Positions = NDArray[np.int64]
PlanConditions = Callable[[str, UserSession], QueryPlan]
"""Plans the query that asks which rows pass: a model skips lists there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A query over the rows that were found, what it was planned with, and on what it rests."""

    sql: str
    parameters: Sequence[object] | Mapping[str, object] | None
    table: pa.Table
    states: tuple[tuple[str, FileIdentity], ...]
    notes: tuple[str, ...]
    report: Report | None


@dataclass(slots=True)
class Nearest:
    """Answers queries for nearest rows on one connection."""

    parser: Parser
    indexes: Indexes
    models: Mapping[str, object]
    """The functions of models, by name."""
    recall: float | None = None

    def answer(self, sql: str, parameters: object, session: UserSession, conditions: PlanConditions) -> Answer | None:
        """The query over the nearest rows; None where none are asked for. Raises NotAnalysableError where they are but
        the query has to run as it is.
        """
        if not self.indexes.may_be_named(sql):
            return None
        tree, values = self.parser.tree(sql), _values(parameters)
        query = find(tree, self.indexes.by_name, values)
        if query is None:
            return None
        index = self.indexes.by_name[query.name]
        self._check(query, index, session)
        vector = self._vector(query, index, values, session)
        snapshot = index.snapshot
        passes, report = self._passing(query, snapshot, values, session, conditions)
        n = query.k + query.offset
        positions, guarantee = self._positions(index, snapshot, vector, n, passes)
        table = _rows(snapshot, positions)
        _with_table(self.parser, query, table, self._types(snapshot))
        _put_vectors(self.parser, query, vector, values)
        new_sql, given = _numbered(self.parser, tree, parameters, values)
        states = tuple(
            (reader.rows.path, segment.rows.identity)
            for reader, segment in zip(snapshot.readers, snapshot.manifest.segments, strict=True)
        )
        notes = (f"{query.alias}: {query.text}: {guarantee}",)
        return Answer(new_sql, given, table, states, notes, report)

    def _check(self, query: NearestQuery, index: VectorIndex, session: UserSession) -> None:
        """Raise NotAnalysableError where the index cannot serve a query."""
        if METRICS[query.function] != index.metric:
            raise NotAnalysableError(f"the index is one for {index.metric}, which {query.function} is not")
        if not names_column(query, index.snapshot.manifest.column, index.dimension, self.parser):
            raise NotAnalysableError("the distance is not that of the indexed column")
        if query.k + query.offset > max(len(index) // _MOST_SHARE, 100):
            raise NotAnalysableError("more than a quarter of the rows is wanted")
        names = {function_name(n).lower() for n in nodes(query.select) if n.get("class") == "FUNCTION"}
        names -= self.models.keys()
        unknown = sorted(names - self.indexes.is_scalar.keys())
        if unknown:
            listed = ", ".join(map(quote_text, unknown))
            rows = session.rows(
                "SELECT lower(function_name), bool_and(function_type = 'scalar' AND stability = 'CONSISTENT') "
                f"FROM duckdb_functions() WHERE lower(function_name) IN ({listed}) GROUP BY 1"
            )
            self.indexes.is_scalar |= dict.fromkeys(unknown, False) | {str(name): bool(ok) for name, ok in rows}
        unfit = [name for name in sorted(names) if not self.indexes.is_scalar[name]]
        if unfit:
            raise NotAnalysableError(f"{unfit[0]} may see all rows, or give another value when it is asked again")
        if query.is_default_order and str(
            session.rows("SELECT current_setting('default_order')")[0][0]
        ).upper() not in (
            "ASC",
            "ASCENDING",
        ):
            raise NotAnalysableError("the furthest rows are wanted")

    def _vector(
        self, query: NearestQuery, index: VectorIndex, values: Mapping[str, object], session: UserSession
    ) -> NDArray[np.float32]:
        vector = given_vector(query.vector, values, index.dimension, self.parser)
        if vector is None:
            expression = self._text(query.vector, values)
            found = session.rows(f"SELECT CAST({expression} AS FLOAT[{index.dimension}])")[0][0]
            if not is_vector(found) or any(value is None for value in found):  # type: ignore[attr-defined]
                raise NotAnalysableError("the vector is NULL or has a NULL in it")
            vector = np.asarray(found, np.float32)
        if vector.shape != (index.dimension,):
            raise NotAnalysableError(f"the vector has {len(vector)} values, those of the index {index.dimension}")
        if not np.isfinite(vector).all():
            raise NotAnalysableError("the vector holds NaN or infinity")
        return vector

    def _text(self, expression: Node, values: Mapping[str, object]) -> str:
        """An expression as SQL, its parameters as literals."""
        literals = self.parser.literals(_literals(values))
        tree = self.parser.tree("SELECT 1")
        node = map_nodes({**expression, "alias": ""}, partial(bound_parameter, parameters=literals))
        tree["statements"][0]["node"]["select_list"] = [node]
        return self.parser.text(tree).removeprefix("SELECT ")

    def _passing(
        self,
        query: NearestQuery,
        snapshot: Snapshot,
        values: Mapping[str, object],
        session: UserSession,
        conditions: PlanConditions,
    ) -> tuple[NDArray[np.bool_] | None, Report | None]:
        """The rows that pass WHERE, as DuckDB evaluates it; None where all do."""
        from skipml.ann.conditions import POSITION, mask_of, source

        if query.condition is None:
            return None, None
        columns = {str(name).lower() for n in nodes(query.condition) for name in n.get("column_names") or []}
        whole = {str(n["column_names"][0]).lower() for n in nodes(query.condition) if n.get("column_names")}
        inside = nodes(query.condition)
        calls = {function_name(n).lower() for n in inside if n.get("class") == "FUNCTION"}
        plain = query.alias.lower() not in whole and not any(n.get("class") == "SUBQUERY" for n in inside)
        rows = source(snapshot, sorted(columns), in_place=plain and not calls & self.models.keys())
        condition = self._text(query.condition, values)
        sql = f"SELECT {POSITION} FROM {rows.sql} AS {quote_name(query.alias)} WHERE {condition}"
        inner = replace(session, variables={**session.variables, **rows.tables})
        plan = conditions(sql, inner) if not rows.tables else None
        if plan is not None and plan.sql is not None:
            inner = replace(inner, variables={**inner.variables, **plan.variables})
            found = inner.arrays(plan.sql)[POSITION]
            plan.check_files()
        else:
            found = inner.arrays(sql)[POSITION]
        return mask_of(snapshot, np.asarray(found, np.int64)), plan.report if plan is not None else None

    def _positions(
        self,
        index: VectorIndex,
        snapshot: Snapshot,
        vector: NDArray[np.float32],
        n: int,
        passes: NDArray[np.bool_] | None,
    ) -> tuple[Positions, str]:
        """The rows that come into question, and on what it rests that there are no others."""
        from skipml.ann.filtered import nearest_among

        why = ""
        if n == 0:
            return np.empty(0, np.int64), "no rows are wanted"
        if self.recall is not None:
            try:
                found, guarantee = index.find(vector[None], n, recall=self.recall, passes=passes)
                return found.position, guarantee
            except MetadataError as error:
                why = f" ({error})"
        if passes is None:
            everything = np.ones(int(snapshot.starts[-1]), np.bool_)
            everything[snapshot.deleted] = False
            passes = everything
        _, positions, _ = nearest_among(snapshot, np.flatnonzero(passes), vector[None], n)
        return positions, f"exact: every one of {int(passes.sum()):,} rows was looked at{why}"

    def _types(self, snapshot: Snapshot) -> dict[str, str]:
        """The types of the columns as DuckDB reads them from the files."""
        from skipml.ann.conditions import columns, reader, rows_files

        key = f"DESCRIBE SELECT {columns(snapshot)} FROM {reader(rows_files(snapshot)[0])}"
        types = self.indexes.types
        if key not in types:
            types[key] = {str(row[0]): str(row[1]) for row in self.parser.private.execute(key).fetchall()}
        return types[key]


def _rows(snapshot: Snapshot, positions: Positions) -> pa.Table:
    from skipml.ann.results import rows_of

    names = snapshot.manifest.schema.names
    return pa.Table.from_arrays(rows_of(snapshot, positions, names), names=names)


def _with_table(parser: Parser, query: NearestQuery, table: pa.Table, types: Mapping[str, str]) -> None:
    """Let a SELECT read the rows that were found, all of which pass its condition."""
    casts = ", ".join(f"CAST({quote_name(n)} AS {types[n]}) AS {quote_name(n)}" for n in table.column_names)
    node = parser.table(f"(SELECT {casts} FROM {FOUND}) AS x")
    node["alias"] = query.alias
    query.select["from_table"] = node
    query.select["where_clause"] = None


def _put_vectors(
    parser: Parser, query: NearestQuery, vector: NDArray[np.float32], values: Mapping[str, object]
) -> None:
    """The vector as text in place of a parameter that Python holds: binding it takes longer than the search."""
    text = "[" + ",".join(map(repr, vector.tolist())) + "]"
    named = {str(n.get("identifier")) for n in nodes(query.vector) if n.get("class") == "PARAMETER"}
    named = {name for name in named if is_vector(values.get(name))}
    if not named:
        return
    literal = parser.select_list([f"CAST({quote_text(text)} AS FLOAT[{len(vector)}])"])[0]
    items = []
    for item in query.select["select_list"]:
        mine = {str(n.get("identifier")) for n in nodes(item) if n.get("class") == "PARAMETER"}
        tree = parser.tree("SELECT 1")
        tree["statements"][0]["node"]["select_list"] = [item]
        loses_name = mine & named and not item.get("alias")
        items.append({**item, "alias": parser.print(tree).removeprefix("SELECT ")} if loses_name else item)
    query.select["select_list"] = items

    def change(node: Node) -> Node:
        if node.get("class") == "PARAMETER" and str(node.get("identifier")) in named:
            return {**literal, "alias": node.get("alias", "")}
        return node

    for part in ("select_list", "modifiers"):
        query.select[part] = map_nodes(query.select[part], change)


def _numbered(
    parser: Parser, tree: Node, parameters: object, values: Mapping[str, object]
) -> tuple[str, Sequence[object] | Mapping[str, object] | None]:
    """The query as text, and the parameters that are left in it."""
    left = {str(n.get("identifier")) for n in nodes(tree) if n.get("class") == "PARAMETER"}
    if any(is_vector(values.get(name)) for name in left):
        raise NotAnalysableError("a list is a parameter elsewhere too")
    for statement in tree["statements"]:
        statement["named_param_map"] = [e for e in statement.get("named_param_map") or [] if str(e["key"]) in left]
    if isinstance(parameters, Mapping):
        return parser.text(tree), {name: values[name] for name in left}
    literals = parser.literals(_literals({name: values[name] for name in left}))
    bound = map_nodes(tree, partial(bound_parameter, parameters=literals))
    for statement in bound["statements"]:
        statement["named_param_map"] = []
    return parser.text(bound), None


def _values(parameters: object) -> dict[str, object]:
    """Parameters by identifier."""
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(name): value for name, value in parameters.items()}
    if isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes):
        return {str(i): value for i, value in enumerate(parameters, start=1)}
    return {"1": parameters}


def _literals(values: Mapping[str, object]) -> dict[str, str]:
    return parameter_literals({name: value for name, value in values.items() if not is_vector(value)})


def with_report(answer: Answer, sql: str, seconds: float, scorer: str) -> QueryPlan:
    """The plan that runs an answer."""
    scans = answer.report.scans if answer.report is not None else ()
    counters = {"nearest": 1, **(answer.report.counters if answer.report is not None else {})}
    report = Report(sql, scans, answer.notes, seconds, counters, scorer)
    return QueryPlan(answer.sql, report, answer.states, {FOUND: answer.table}, (answer.parameters,))
