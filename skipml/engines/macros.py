"""The models' macros on one connection, kept in step with the registry that all connections of a database share.

They are temporary, so nothing of them is stored in a database, and a read-only one takes them. A connection has its own
temporary objects, and a transaction that is rolled back takes away those that it made: so the connection looks at the
registry before each statement, and makes its macros again as long as a transaction could still take them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from skipml.engines.dialect import quote_name
from skipml.engines.functions import ModelFunction

Run = Callable[[str], list[tuple[object, ...]]]
"""Runs SQL on the connection and gives the rows of the last statement."""


@dataclass(slots=True)
class Macros:
    """What a connection has of the registry's functions, as macros over those of the extension."""

    _settled: Mapping[str, ModelFunction] = field(default_factory=dict)
    """The functions that the connection had when it was last looked at outside a transaction."""
    _made: dict[str, str] = field(default_factory=dict)
    """The macros that this has made."""
    _may_be_taken_back: bool = False
    """A transaction was open when they were made."""

    def follow(self, functions: Mapping[str, ModelFunction], run: Run) -> None:
        """Make and drop macros until they are those of the functions; raises duckdb.Error, and goes on next time."""
        if functions is self._settled:
            return
        wanted = {name: macro for name, function in functions.items() if (macro := function.macro) is not None}
        statements = [f"DROP MACRO IF EXISTS temp.main.{quote_name(name)}" for name in self._made if name not in wanted]
        for name, macro in wanted.items():
            if name not in self._made:  # there may be one of the user's
                statements.append(f"CREATE TEMP MACRO IF NOT EXISTS {quote_name(name)}{macro}")
            elif self._made[name] != macro or self._may_be_taken_back:
                statements.append(f"CREATE OR REPLACE TEMP MACRO {quote_name(name)}{macro}")
        if statements:
            run("; ".join(statements))
            self._made |= wanted
            self._may_be_taken_back = run("SELECT txid_current()") == run("SELECT txid_current()")
        if not self._may_be_taken_back:
            self._made, self._settled = wanted, functions
