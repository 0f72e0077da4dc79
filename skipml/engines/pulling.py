"""How Python scores the rows of a query, decided here: in pulled batches, or in a function that DuckDB calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb

from skipml.engines.dialect import STREAMS_ARE_FILTERED, Node
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pull_query import NAME, Pull, stream_table
from skipml.engines.registry import Registry
from skipml.engines.scored_stream import ArrowFunction, Scored, ScoredStream
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
        """The stream under the name that the query has for it; on DuckDB 1.5 it can be read once."""
        return {NAME: self.stream.__arrow_c_stream__() if STREAMS_ARE_FILTERED else self.stream}


def pulled(
    parser: Parser,
    query: Query,
    reference: Reference,
    table: Node | None,
    registry: Registry,
    scorer: Scorer,
) -> Pulled:
    """The query over a stream of the rows that a table reference gives, None for the reference as it is; raises
    NotAnalysableError with the reason where that cannot be. `query` may be changed.
    """
    pull = Pull.of(query, reference, registry.functions)
    if any(function.key is not None for function, _ in pull.answers):
        raise NotAnalysableError("the extension scores")
    source = pull.source(parser, table or parser.read(reference, reference.files, None, ()))
    schema, n_columns = pull.schema, len(pull.columns)
    scored = [
        Scored(scorer.arrow_function(function), tuple(n_columns + i for i in inputs))
        for function, inputs in pull.answers
    ]
    pull.mark(parser)
    stream = ScoredStream(source, schema, tuple(scored), query.threads, parser.private.cursor)
    return Pulled(query, stream_table(parser, reference), stream)
