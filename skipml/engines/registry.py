"""The models registered in a database, and which queries may call one: by name, or through a view or a macro."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from skipml.engines.dialect import Node, function_name
from skipml.engines.functions import ModelFunction
from skipml.engines.tree import nodes
from skipml.errors import RegistrationError

_DEFINES_VIEW = re.compile(r"\bCREATE\b.*\bVIEW\b", re.IGNORECASE | re.DOTALL)
_DEFINES_MACRO = re.compile(r"\bCREATE\b.*\b(MACRO|FUNCTION)\b", re.IGNORECASE | re.DOTALL)
_READERS = ("read_parquet", "parquet_scan")
_DEFINES_READER = re.compile(
    rf"\b(MACRO|FUNCTION)\s+([\w.\"]+\s+)*[\w.\"]*({'|'.join(_READERS)})\"?\s*\(", re.IGNORECASE
)
_WORD = re.compile(r"\w+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_identifier(name: str) -> None:
    """Raise RegistrationError for a name that SQL takes only in quotes."""
    if not _IDENTIFIER.fullmatch(name):
        raise RegistrationError(
            f"{name!r} is not a plain SQL identifier: use letters, digits and underscores, and no digit first"
        )


@dataclass(slots=True)
class Registry:
    """What all cursors of one database know of its models."""

    functions: dict[str, ModelFunction] = field(default_factory=dict)
    """By name in lower case; a new dictionary after each change."""
    views_call_models: bool = False
    """A view calls a model, so a query may call one without naming it; its tree shows it once views are expanded."""
    macros_call_models: bool = False
    """A macro calls a model, so a tree may not show it either."""
    stable: dict[str, bool] = field(default_factory=dict)
    """Whether functions give the same value whenever they are asked, as far as DuckDB was asked about them."""
    reader_is_hidden: bool = False
    """A macro has the name of DuckDB's Parquet reader, so a reference to a file may be anything."""

    def add(self, functions: Sequence[ModelFunction]) -> None:
        """Take up the functions of a model."""
        self.functions = {**self.functions, **{function.name: function for function in functions}}

    def of(self, name: str) -> tuple[ModelFunction, ...]:
        """The functions that go with a name: a model's score takes its class along."""
        found = self.functions.get(name.lower())
        if found is None:
            return ()
        label = self.functions.get(f"{found.name}_class")
        of_same_model = (
            label is not None and (label.kind, found.kind) == ("class", "score") and label.model is found.model
        )
        return (found, label) if label is not None and of_same_model else (found,)

    def remove(self, functions: Sequence[ModelFunction]) -> None:
        """Forget functions."""
        self.functions = {name: known for name, known in self.functions.items() if known not in functions}

    def may_be_called(self, sql: str) -> bool:
        """Whether the text may call a model; false positives cost an analysis, never a row."""
        if not self.functions or self.reader_is_hidden:
            return False
        return self.views_call_models or self.macros_call_models or self._is_named(sql)

    def still_has(self, known: Mapping[str, ModelFunction], sql: str) -> bool:
        """Whether each of the functions known before that the text may call is what it was."""
        return all(self.functions.get(name) is known[name] for name in self._possible(known, sql))

    def possible(self, sql: str) -> list[ModelFunction]:
        """The functions that the text may call, in the order of their registration."""
        names = self._possible(self.functions, sql)
        return [function for name, function in self.functions.items() if name in names]

    def _possible(self, known: Mapping[str, ModelFunction], sql: str) -> Set[str]:
        """The names that the text may call, by itself or through a view or a macro."""
        indirectly = self.views_call_models or self.macros_call_models
        return known.keys() if indirectly else known.keys() & set(_WORD.findall(sql.lower()))

    def is_called(self, tree: Node) -> bool:
        """Whether a syntax tree, its views expanded, may call a model."""
        calls = (node for node in nodes(tree) if node.get("class") == "FUNCTION")
        return self.may_call({function_name(node).lower() for node in calls})

    def may_call(self, names: Set[str]) -> bool:
        """Whether one of the functions that a query calls by name, in lower case, may call a model."""
        return self.macros_call_models or not self.functions.keys().isdisjoint(names)

    def note(self, sql: str) -> None:
        """Remember what a statement defines."""
        is_view, is_macro = _DEFINES_VIEW.search(sql), _DEFINES_MACRO.search(sql)
        if is_macro and _DEFINES_READER.search(sql):
            self.reader_is_hidden = True
        if (is_view or is_macro) and self._is_named(sql):
            self.views_call_models |= is_view is not None
            self.macros_call_models |= is_macro is not None

    def note_existing(self, views: Iterable[str], macros: Iterable[tuple[str, str]]) -> None:
        """Remember what is defined already: the texts of views, names and texts of macros.

        A macro with the name of a model may be the model itself, and is found by that name in any case.
        """
        for text in views:
            self.views_call_models |= self._is_named(text)
        for name, text in macros:
            self.macros_call_models |= name.lower() not in self.functions and self._is_named(text)
            self.reader_is_hidden |= name.lower() in _READERS

    def _is_named(self, text: str) -> bool:
        return not self.functions.keys().isdisjoint(_WORD.findall(text.lower()))
