"""Plans on DuckDB: relations over the row groups that are left, for those who plan without SQL.

DuckDB scans the plan itself: each time a relation runs, the rows are read anew, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from skipml.engines.parts import unscored
from skipml.plans import Plan


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """The rows of a plan as an Arrow stream, which may be asked for more than once."""

    plan: Plan
    schema: pa.Schema

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.plan.scan(self.schema.names).__arrow_c_stream__(requested_schema)


def candidates(
    plan: Plan, columns: Sequence[str] | None = None, connection: duckdb.DuckDBPyConnection | None = None
) -> duckdb.DuckDBPyRelation:
    """The blocks in which a row may qualify; raises what `rows` raises."""
    return rows(unscored(plan), columns, connection)


def rows(
    plan: Plan, columns: Sequence[str] | None = None, connection: duckdb.DuckDBPyConnection | None = None
) -> duckdb.DuckDBPyRelation:
    """The rows that qualify, as a relation of a connection, by default DuckDB's own.

    Raises FooterError and SchemaError as `Plan.scan` does; a file that was rewritten since it was planned fails the
    query when DuckDB runs it, with an error that says so.
    """
    scan = _Scan(plan, plan.schema(columns))
    return duckdb.from_arrow(scan) if connection is None else connection.from_arrow(scan)
