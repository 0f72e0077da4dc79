"""Files with what is known of each as a whole: most of them are ruled out before their row groups are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.footers import ColumnStats
from skipml.metadata.refine import Refined

Narrow = Callable[[NDArray[np.int64]], "Listing | Refined"]


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The files of a table at one moment: `whole` has one block for each file of which something is known, and `narrow`
    gives what is known of some of the files, by ascending number: of each as a whole once more, or of its row groups.
    """

    whole: Refined
    narrow: Narrow
    n_row_groups: NDArray[np.int64]
    """Per block of `whole`; 0 where it is not known."""
    is_empty: NDArray[np.bool_]
    """Per file whether it is known to have no row at all."""
    may_keep: bool = True
    """Whether a file that is KEEP may be kept without a look at its row groups."""
    needs_first: bool = True
    """Whether the first file gives the schema, so that it stays whatever is known of it."""
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files."""
        return self.whole.footers.files


@dataclass(frozen=True, slots=True)
class PrunedFiles:
    """Files that no row of qualifies, proved from what is known of each as a whole; they are not opened."""

    files: tuple[str, ...] = ()
    n_rows: int = 0
    n_row_groups: int = 0
    """0 where a catalog does not tell."""

    def __add__(self, other: PrunedFiles) -> PrunedFiles:
        return PrunedFiles(self.files + other.files, self.n_rows + other.n_rows, self.n_row_groups + other.n_row_groups)


NO_FILES = PrunedFiles()


def unknown_stats(n: int, sql_type: str = "") -> ColumnStats:
    """Nothing is known of a column of n blocks."""
    no, yes = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    return ColumnStats(
        sql_type=sql_type,
        lower=np.full(n, -np.inf),
        upper=np.full(n, np.inf),
        known=no,
        all_null=no.copy(),
        null_count=np.full(n, -1),
        may_be_nan=yes,
        missing=no.copy(),
        reason=np.full(n, "", object),
    )
