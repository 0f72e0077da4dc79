"""SQL text and syntax trees, parsed and printed by DuckDB.

Both depend on nothing but the text and the tree: the cursor keeps the settings that change them to itself. So what was
parsed or printed once is remembered.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field

import duckdb

from skipml.engines.dialect import Node
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.tree import meaning
from skipml.recent import Recent

_CACHED_CHARACTERS = 1 << 23
_MAX_NUMBERS = 4096
_Texts = Recent[str, tuple[str, str]]
"""What text was made of text, with the text that it was made of."""


def _texts() -> _Texts:
    return Recent(_CACHED_CHARACTERS, lambda held: len(held[0]) + len(held[1]))


@dataclass(slots=True)
class Syntax:
    """Parses and prints on cursors of its own, so no result of the user's is disturbed: queries run on `private`, and
    what reads no table on one that does not optimize, as that takes as long as the answer.
    """

    private: duckdb.DuckDBPyConnection
    _direct: duckdb.DuckDBPyConnection = field(init=False)
    _parsed: _Texts = field(default_factory=_texts)
    _printed: _Texts = field(default_factory=_texts)
    _numbers: dict[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._direct = self.private.cursor()
        for cursor in (self.private, self._direct):
            with contextlib.suppress(duckdb.Error):  # a locked configuration does not change any more
                cursor.execute("SET SESSION integer_division = false; SET SESSION preserve_identifier_case = true")
        with contextlib.suppress(duckdb.Error):
            self._direct.execute("PRAGMA disable_optimizer")

    def close(self) -> None:
        """Close the cursors."""
        self._direct.close()
        self.private.close()

    def tree(self, sql: str) -> Node:
        """The syntax tree of one SELECT; raises NotAnalysableError for anything else."""
        held = self._parsed.get(sql)
        if held is None:
            row = self._direct.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
            held = (sql, str(row[0]) if row else "{}")
            self._parsed.put(sql, held)
        return _one_select(held[1])

    def text(self, tree: Node) -> str:
        """The SQL of a tree; raises NotAnalysableError unless it parses back to the same tree."""
        serialized = json.dumps(tree)
        held = self._printed.get(serialized)
        if held is None:
            row = self._direct.execute(
                "SELECT s, json_serialize_sql(s) FROM (SELECT json_deserialize_sql(?) AS s)", [serialized]
            ).fetchone()
            if row is None or meaning(_one_select(row[1])) != meaning(tree):
                raise NotAnalysableError("DuckDB does not print this query back as it was written")
            held = (serialized, str(row[0]))
            self._printed.put(serialized, held)
        return held[1]

    def print(self, tree: Node) -> str:
        """The SQL of a tree as DuckDB prints it."""
        row = self._direct.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
        return str(row[0]) if row else ""

    def number(self, sql: str) -> float | None:
        """The value of a constant, made of literals and casts, as DOUBLE; None where it is NULL or no number."""
        if sql not in self._numbers:
            if len(self._numbers) >= _MAX_NUMBERS:
                self._numbers.clear()
            self._numbers[sql] = self._number(sql)
        return self._numbers[sql]

    def _number(self, sql: str) -> float | None:
        try:
            row = self._direct.execute(f"SELECT CAST({sql} AS DOUBLE)").fetchone()
        except duckdb.Error:
            return None
        return float(row[0]) if row and row[0] is not None else None


def _one_select(serialized: str) -> Node:
    """The tree that DuckDB has serialized; raises NotAnalysableError unless it is of one SELECT."""
    parsed: Node = json.loads(serialized)
    if parsed.get("error", True):
        raise NotAnalysableError(f"not a SELECT: {parsed.get('error_message', 'no answer')}")
    if len(parsed["statements"]) != 1:
        raise NotAnalysableError("more than one statement")
    return parsed
