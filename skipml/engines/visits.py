"""Scoring some row groups through DuckDB itself, with the query's own conditions, before the query runs."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.engines import routes
from skipml.engines.dialect import quote_text
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import Reference
from skipml.engines.virtual import VirtualFiles
from skipml.engines.visit_query import FILE, FILES, ROW, SCORE
from skipml.footers import Footers
from skipml.topk import Scored, Worst

Indices = NDArray[np.int64]


class Runner(Protocol):
    """Runs a query where the user's own would run."""

    def arrays(self, sql: str) -> dict[str, NDArray[np.generic]]:
        """The columns of the result, masked where they are NULL."""


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Scores row groups of a reference, numbered over all its files, by a query made by `scores_query`."""

    ask: Callable[[], str]
    reference: Reference
    footers: Footers
    files: VirtualFiles
    session: Runner

    @classmethod
    def of(
        cls, ask: Callable[[], str], reference: Reference, footers: Footers, files: VirtualFiles, session: Runner
    ) -> Visits:
        """Visits to files that can be read; raises NotAnalysableError for others."""
        if any(footers.errors) or None in footers.identities:
            raise NotAnalysableError("a file cannot be read")
        return cls(ask, reference, footers, files, session)

    def __call__(self, groups: Indices, worst: Worst | None) -> Scored:
        """The scores of the rows of some row groups that pass the query's conditions and are not behind the worst."""
        wanted = np.zeros(len(self.footers), np.bool_)
        wanted[groups] = True
        kept = routes.Kept.of(self.footers, wanted)
        listed = routes.listed(self.reference, kept, self.files, nearly_all=1.0)
        paths = ", ".join(quote_text(glob.escape(path)) for _, path in listed)
        condition = f" WHERE {_not_behind(worst)}" if worst is not None and worst.value is not None else ""
        found = self.session.arrays(self.ask().replace(quote_text(FILES), paths) + condition)
        score = np.ma.asarray(found[SCORE])
        is_null = np.ma.getmaskarray(score)
        values = np.asarray(score.filled(np.nan), np.float64)
        group, row = self._places(groups, [file for file, _ in listed], found)
        return Scored(values, is_null, group, row)

    def _places(
        self, groups: Indices, files: list[int], found: dict[str, NDArray[np.generic]]
    ) -> tuple[Indices, Indices]:
        """The row group of each row, and the place in it, from the numbers of the listed file and of the row there.

        A file that is listed holds its row groups in order, and nothing else.
        """
        n_rows, of_file = self.footers.n_rows[groups], self.footers.file_index[groups]
        ends = np.cumsum(n_rows)
        before = np.array([int(n_rows[of_file < file].sum()) for file in files], np.int64)
        place = before[np.asarray(found[FILE], np.int64)] + np.asarray(found[ROW], np.int64)
        number = np.searchsorted(ends, place, side="right")
        if len(number) and int(number.max()) >= len(groups):
            raise NotAnalysableError("DuckDB gives a row that no visited row group has")
        return groups[number], place - (ends - n_rows)[number]


def _not_behind(worst: Worst) -> str:
    """The condition that a score comes before the worst one, or equals it, as DuckDB orders them."""
    sql = f"{SCORE} {'<=' if worst.ascending else '>='} CAST('{worst.value!r}' AS DOUBLE)"
    return f"({sql} OR {SCORE} IS NULL)" if worst.nulls_first else sql
