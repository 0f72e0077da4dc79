"""How Python scores the rows of a query, decided here: in pulled batches, or in a function that DuckDB calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from skipml.engines.dialect import Node
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pull_query import NAME, Pull
from skipml.engines.registry import Registry
from skipml.engines.scored_stream import Scored, ScoredStream
from skipml.engines.scorers import Scorer
from skipml.engines.sql import Parser, Query, Reference

_SETUP = 7e-3
"""Seconds that a stream takes to set up: a cursor, one more plan, threads."""
_SAVED, _FIXED, _TEXT = 70e-9, 7e-9, 18e-9
"""Seconds per row that calling a function takes on its own, and that a column of numbers or of texts takes through
Arrow and back: up to 100,000 rows a function is faster, and with ten columns always. Measured on up to 6 million rows.
"""
FUNCTION, BATCHES = "Arrow function", "pulled batches"


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """A query's tree with its calls marked, the table reference in place of its own, the stream that it reads, and
    whether it groups rows: a call of grouped columns may stand where no other column may.
    """

    query: Query
    node: Node
    stream: ScoredStream
    groups: bool

    @property
    def variables(self) -> Mapping[str, object]:
        """The stream under the name that the query has for it."""
        return {NAME: self.stream}


def pulled(
    parser: Parser,
    query: Query,
    reference: Reference,
    *,
    table: Node | None,
    rows: int,
    registry: Registry,
    scorer: Scorer,
) -> Pulled:
    """The query over a stream of the `rows` that a table reference gives, `table` where it is read in another way than
    it is written; raises NotAnalysableError where that cannot be or does not pay. `query` may be changed.
    """
    pull = Pull.of(query, reference, registry.functions)
    least = least_rows(pull)
    if rows < least:
        raise NotAnalysableError(f"{rows:,} rows of so many columns are read, and it pays from {least:,.0f} on")
    if any(function.key is not None for function, _ in pull.answers):
        raise NotAnalysableError("the extension scores")
    source = pull.source(parser, table or parser.read(reference, reference.files, None, ()))
    first = len(pull.columns)
    scored = tuple(
        Scored(scorer.arrow_function(function), tuple(first + i for i in inputs), function.sees_null)
        for function, inputs in pull.answers
    )
    stream = ScoredStream(source, pull.schema, scored, query.threads, parser.private.cursor)
    pull.mark(parser)
    return Pulled(query, pull.table(parser), stream, bool(pull.select.get("group_expressions")))


def least_rows(pull: Pull) -> float:
    """From how many rows on batches are faster."""
    saved = _SAVED - sum(_TEXT if sql_type == "VARCHAR" else _FIXED for sql_type in pull.columns.values())
    return _SETUP / saved if saved > 0 else math.inf
