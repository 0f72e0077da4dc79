"""What only the user's own connection knows: its tables, views, settings and the caller's variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from skipml.engines import scope
from skipml.engines.dialect import KEEPS_CASE, PLANS_FOLLOW_SETTINGS, Node, quote_name, quote_text
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import Schema, schema_of


@dataclass(frozen=True, slots=True)
class UserSession:
    """The user's connection while one query is planned (see `sql.Session`).

    With `takes_result` the query is about to replace the connection's pending result anyway; without, that result is
    left alone.
    """

    plain: duckdb.DuckDBPyConnection
    variables: Mapping[str, object]
    takes_result: bool

    def catalog(self, names: Sequence[str]) -> Mapping[str, str | None]:
        """Tables and views among the names, of all databases and schemas; a view's text only where no other table or
        view has its name and DuckDB would find it under that name alone.
        """
        listed = ", ".join(map(quote_text, names)) or "''"
        tables = f"SELECT lower(table_name), NULL FROM duckdb_tables() WHERE lower(table_name) IN ({listed})"
        views = f"FROM duckdb_views() WHERE lower(view_name) IN ({listed})"
        # DuckDB prints every view as soon as one text is asked for, which takes longer than all else here.
        if not self._rows(f"{tables} UNION ALL SELECT view_name, NULL {views}"):
            return {}
        rows = self._rows(
            f"{tables} UNION ALL SELECT lower(view_name), CASE WHEN NOT internal AND (database_name, schema_name) IN "
            f"((current_database(), current_schema()), ('temp', 'main')) THEN sql END {views}"
        )
        known: dict[str, str | None] = {}
        for name, text in rows:
            known[str(name)] = None if str(name) in known or text is None else str(text)
        return known

    def variable(self, name: str) -> Schema | None:
        """The schema DuckDB sees in a variable of the caller."""
        if name not in self.variables:
            return None
        return schema_of(self._rows(f"DESCRIBE SELECT * FROM {quote_name(name)}"))

    def logical_plan(self, sql: str) -> Node:
        """The serialized plan of a query."""
        rows = self._rows(
            "SELECT json_serialize_plan(?, skip_null := true, skip_empty := true), "
            "current_setting('integer_division'), current_setting('preserve_identifier_case')",
            [sql],
        )
        if rows[0][1] and not PLANS_FOLLOW_SETTINGS:
            raise NotAnalysableError("DuckDB 1.5 does not serialize plans rightly under integer_division")
        if str(rows[0][2]).lower() not in KEEPS_CASE:
            raise NotAnalysableError("DuckDB does not print names back rightly without preserve_identifier_case")
        try:
            plan: Node = json.loads(str(rows[0][0]))
        except json.JSONDecodeError as error:
            raise NotAnalysableError("the plan has a constant that JSON cannot hold, such as NaN") from error
        return plan

    def output_names(self, sql: str) -> list[str]:
        """The names of the columns that a query gives."""
        return [str(row[0]) for row in self._rows(f"DESCRIBE {sql}")]

    def search_path(self) -> bool:
        """Whether DuckDB looks for relative paths elsewhere than in the working directory."""
        return bool(self._rows("SELECT current_setting('file_search_path')")[0][0])

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        given = list(parameters) or None
        if self.takes_result:
            result = scope.call(self.variables, self.plain.execute, sql, given)
        else:
            result = scope.call(self.variables, self.plain.sql, sql, params=given)
        rows: list[tuple[object, ...]] = result.fetchall()
        return rows
