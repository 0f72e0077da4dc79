"""What the manifests of registered indexes know of the vectors in their files: a list is a row group, and its ball is
around the rows of it, deleted ones too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skipml.footers import Footers
from skipml.metadata.enclosures import Vectors
from skipml.recent import Derived

if TYPE_CHECKING:
    from skipml.ann.index import VectorIndex
    from skipml.ann.snapshot import Snapshot

Lists = NDArray[np.int64]


def vectors_in_lists(indexes: Sequence[VectorIndex], footers: Footers, name: str) -> Vectors | None:
    """Around the vectors of a column in the row groups of footers, as the manifest of the one index knows that all the
    files are of; None where they are not, where one was written to, or its row groups are not the lists.

    Sound because each row of a list lies in the list's ball, and the files are in the state that the index has open.
    """
    for index in indexes:
        snapshot = index.snapshot
        if snapshot.manifest.vector.is_int8 or snapshot.manifest.column.lower() != name.lower():
            continue
        lists = _lists(snapshot, footers)
        if lists is not None:
            made = _made(snapshot)
            if footers.files not in made:
                made[footers.files] = _around(snapshot, lists)
            return made[footers.files]
    return None


def _lists(snapshot: Snapshot, footers: Footers) -> Lists | None:
    """The number of the list that each row group is."""
    readers = {os.path.abspath(reader.rows.path): reader for reader in snapshot.readers}
    found = [np.zeros(0, np.int64)]
    for i, path in enumerate(footers.files):
        reader, state = readers.get(os.path.abspath(path)), footers.identities[i]
        if reader is None or state is None or not reader.rows.is_as_opened(state):
            return None
        counts = reader.segment.counts
        lists = np.flatnonzero(counts)
        if not np.array_equal(footers.n_rows[footers.of_file(i)], counts[lists]):
            return None
        found.append(lists)
    return np.concatenate(found)


def _around(snapshot: Snapshot, lists: Lists) -> Vectors:
    from skipml.ann.balls import around

    manifest = snapshot.manifest
    return around(manifest.metric, snapshot.balls.take(lists), manifest.vector.dimension)


def _nothing(_: Snapshot) -> dict[tuple[str, ...], Vectors]:
    return {}


_made = Derived(_nothing)
"""What is around the lists in some of the files of a snapshot, by their paths."""
