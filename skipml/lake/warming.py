"""What a metadata cache knows, remembered as if the files had been read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skipml import footers
from skipml.errors import MetadataError
from skipml.identity import Path
from skipml.lake.cache import current, held_entries
from skipml.lake.entries import footers_of, group_names, loaded_of
from skipml.metadata import loading

_WORTH_OPENING = 8
"""So many files are read about as fast as a cache is opened."""


def warm(files: Sequence[str], columns: Sequence[str], path: Path, root: Path | None) -> None:
    """Remember the footers and the metadata of the files that a cache has an entry of which holds; never raises, and
    never writes the cache.

    Sound because an entry is remembered by the state that it was made of, which whoever uses it looks at again.
    """
    unread = [file for file in dict.fromkeys(files) if not footers.is_remembered(file, columns)]
    if len(unread) < _WORTH_OPENING:
        return
    try:
        known = held_entries(unread, current(unread, root), columns, path)
        chosen = np.flatnonzero(known.has_entry)
        table = known.read(group_names(columns), chosen)
    except MetadataError:
        return
    states = known.identities(chosen)
    found = zip(footers_of(table, columns, states), loaded_of(table, "metadata", states), strict=True)
    for i, (footer, loaded) in zip(chosen.tolist(), found, strict=True):
        footers.remember(unread[i], footer)
        if (of := known.states[i]) is not None:
            loading.remember(unread[i], root, of, loaded)
