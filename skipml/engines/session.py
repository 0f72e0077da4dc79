"""What only the user's own connection knows: its tables, views, settings and the caller's variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from skipml.engines import scope
from skipml.engines.dialect import KEEPS_CASE, PLANS_FOLLOW_SETTINGS, Node, quote_name
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import STANDIN_DATABASE, Schema, schema_of


@dataclass(frozen=True, slots=True)
class UserSession:
    """The user's connection while one query is planned (see `sql.Session`).

    With `takes_result` the query is about to replace the connection's pending result anyway; without, that result is
    left alone.
    """

    plain: duckdb.DuckDBPyConnection
    variables: Mapping[str, object]
    takes_result: bool
    _known: dict[str, str | None] = field(default_factory=dict)

    def catalog(self, names: Sequence[str]) -> Mapping[str, str | None]:
        """Tables and views among the names, of all databases and schemas; a view's text only where no other table or
        view has its name and DuckDB would find it under that name alone.
        """
        if not self._known:  # all names at once: DuckDB goes through all of them for each question
            rows = self._rows(
                "SELECT lower(table_name), NULL FROM duckdb_tables() WHERE database_name <> ? "
                "UNION ALL SELECT lower(view_name), CASE WHEN NOT internal AND (database_name, schema_name) IN "
                "((current_database(), current_schema()), ('temp', 'main')) THEN sql END FROM duckdb_views()",
                [STANDIN_DATABASE],
            )
            for key, text in rows:
                name = str(key)
                self._known[name] = None if name in self._known or text is None else str(text)
        return {name: self._known[name] for name in names if name in self._known}

    def variable(self, name: str) -> Schema | None:
        """The schema DuckDB sees in a variable of the caller."""
        if name not in self.variables:
            return None
        return schema_of(self._rows(f"DESCRIBE SELECT * FROM {quote_name(name)}"))

    def logical_plan(self, sql: str) -> tuple[Node, int]:
        """The serialized plan of a query, and the threads that DuckDB may use."""
        rows = self._rows(
            "SELECT json_serialize_plan(?, skip_null := true, skip_empty := true), "
            "current_setting('integer_division'), current_setting('preserve_identifier_case'), "
            "current_setting('threads')",
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
        return plan, int(str(rows[0][3]))

    def output_names(self, sql: str) -> list[str]:
        """The names of the columns that a query gives."""
        return [str(row[0]) for row in self._rows(f"DESCRIBE {sql}")]

    def search_path(self) -> bool:
        """Whether DuckDB looks for relative paths elsewhere than in the working directory."""
        return bool(self._rows("SELECT current_setting('file_search_path')")[0][0])

    def arrays(self, sql: str) -> dict[str, NDArray[np.generic]]:
        """The columns of the result of a query, masked where they are NULL."""
        found: dict[str, NDArray[np.generic]] = self._result(sql, None).fetchnumpy()
        return found

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = self._result(sql, list(parameters) or None).fetchall()
        return rows

    def _result(self, sql: str, given: list[object] | None) -> Any:
        if self.takes_result:
            return scope.call(self.variables, self.plain.execute, sql, given)
        return scope.call(self.variables, self.plain.sql, sql, params=given)
