"""Which functions may give each row another value, so that it matters how many rows they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import duckdb

from skipml.identity import private_connection

_ALL = "SELECT lower(function_name), bool_or(stability = 'VOLATILE') FROM duckdb_functions() WHERE internal GROUP BY 1"
_ONE = "SELECT count(*) FROM duckdb_functions() WHERE lower(function_name) = ? AND stability = 'VOLATILE'"


@dataclass(slots=True)
class VolatileFunctions:
    """Those of the database of a connection whose results nobody reads; `known`: what was found out of users' own."""

    private: duckdb.DuckDBPyConnection
    known: dict[str, bool]

    def __contains__(self, name: object) -> bool:
        function = str(name)
        own = _own().get(function)
        if own is not None:
            return own
        if function not in self.known:
            self.known[function] = self.private.execute(_ONE, [function]).fetchall() != [(0,)]
        return self.known[function]


@cache
def _own() -> dict[str, bool]:
    """DuckDB's own functions, which no definition replaces: to list them takes longer than to plan a query."""
    return {str(name): bool(is_volatile) for name, is_volatile in private_connection().execute(_ALL).fetchall()}
