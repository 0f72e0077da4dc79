"""What every engine that runs a plan can do; each has a module of its own with these functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from skipml.plans import Plan

Candidates_co = TypeVar("Candidates_co", covariant=True)
Rows_co = TypeVar("Rows_co", covariant=True)


class Engine(Protocol[Candidates_co, Rows_co]):
    """How an engine reads the rows that a plan leaves; `columns` are all of them by default.

    Both raise what `Plan.scan` raises: at once for files that cannot be read and columns that are not there, and while
    rows are read for a file that was rewritten, unless the engine says otherwise.
    """

    def candidates(self, plan: Plan, columns: Sequence[str] | None = None) -> Candidates_co:
        """The row groups in which a row may qualify, without scoring them."""

    def rows(self, plan: Plan, columns: Sequence[str] | None = None) -> Rows_co:
        """The rows that qualify."""
