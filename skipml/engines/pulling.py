"""How Python scores the rows of a query, decided here: in pulled batches, or in a function that DuckDB calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skipml.engines.dialect import Node
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pull_query import NAME, Pull
from skipml.engines.registry import Registry
from skipml.engines.scored_stream import Scored, ScoredStream
from skipml.engines.scorers import Scorer
from skipml.engines.sql import Parser, Query, Reference

LEAST_ROWS = 100_000
"""Rows that are read, below which a stream does not pay: it takes some 4 ms to set up, and saves 60 ns per row."""
FUNCTION, BATCHES = "Arrow function", "pulled batches"


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """A query's tree with its calls marked, the table reference in place of its own, and the stream that it reads."""

    query: Query
    node: Node
    stream: ScoredStream

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
    if rows < LEAST_ROWS:
        raise NotAnalysableError(f"fewer than {LEAST_ROWS:,} rows are read")
    pull = Pull.of(query, reference, registry.functions)
    if any(function.key is not None for function, _ in pull.answers):
        raise NotAnalysableError("the extension scores")
    source = pull.source(parser, table or parser.read(reference, reference.files, None, ()))
    first = len(pull.columns)
    scored = tuple(
        Scored(scorer.arrow_function(function), tuple(first + i for i in inputs)) for function, inputs in pull.answers
    )
    stream = ScoredStream(source, pull.schema, scored, query.threads, parser.private.cursor)
    pull.mark(parser)
    return Pulled(query, pull.table(parser), stream)
