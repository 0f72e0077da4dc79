"""The query inside a statement: the SELECT of a CREATE TABLE AS, COPY, INSERT or EXPLAIN, as a span of its text."""

from __future__ import annotations

import re
from typing import Any

from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import Parser

_PREFIX = re.compile(
    r"\s*(CREATE\s+(OR\s+REPLACE\s+)?(TEMP\s+|TEMPORARY\s+)?TABLE\b|COPY\b|INSERT\b|EXPLAIN\b)", re.IGNORECASE
)
_START = re.compile(r"\b(SELECT|FROM|WITH)\b", re.IGNORECASE)


def embedded_query(parser: Parser, sql: str) -> tuple[str, str, str]:
    """Text before, the query, text after; the query is the whole text of a SELECT, and of what is not understood.

    The query starts with the first keyword that can start one; it ends with the statement, or, in COPY, before the
    parenthesis that closes it.
    """
    prefix = _PREFIX.match(sql)
    start = _START.search(sql, prefix.end()) if prefix else None
    if prefix is None or start is None:
        return "", sql, ""
    ends = [len(sql.rstrip().rstrip(";"))]
    if prefix[1].upper() == "COPY":
        ends = [m.start() for m in re.finditer(r"\)", sql[start.start() :])][::-1]
        ends = [start.start() + end for end in ends]
    for end in ends:
        text = sql[start.start() : end]
        if _parses(parser, text):
            return sql[: start.start()], text, sql[end:]
    return "", sql, ""


def _parses(parser: Parser, text: str) -> bool:
    try:
        parser.tree(text)
    except NotAnalysableError:
        return False
    return True


def given_only(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}
