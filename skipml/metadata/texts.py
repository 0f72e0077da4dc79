"""Which texts occur: of each block the set of its distinct texts, as a bitmap over the words of the file's column.

    bitmap   bit 0 (the highest of the first byte): whether the set is known; then one bit per word, in order: whether
             it occurs; the bits behind are 0, and so are all bits where the set is not known

A word is the bytes of a text, whole and never cut off: a set that lacked one would lose its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.contents import TextMetadata

Bitmaps = NDArray[np.uint8]
Objects = NDArray[np.object_]
Words = tuple[bytes, ...]

MOST_BYTES = 1 << 14
"""Of the words of a column together."""


def build(
    column: str, sets: Sequence[frozenset[bytes] | None], null_count: NDArray[np.int64], most: int
) -> TextMetadata:
    """The metadata of a column out of the sets of its blocks, None where one is not known; `most` words of the file are
    told apart, those of the first blocks.

    Sound because a block with a word that is not among them is not known.
    """
    words: set[bytes] = set()
    for found in sets:
        if found is None:
            continue
        more = words | found
        if len(more) <= most and sum(map(len, more)) <= MOST_BYTES:
            words = more
    ordered = tuple(sorted(words))
    number = {word: k for k, word in enumerate(ordered)}
    bits = np.zeros((len(sets), 1 + len(ordered)), np.bool_)
    for row, found in zip(bits, sets, strict=True):
        if found is not None and found <= words:
            row[0] = True
            row[[1 + number[word] for word in found]] = True
    return TextMetadata(column, ordered, null_count, np.packbits(bits, axis=1))


def decode(known: TextMetadata) -> Objects:
    """The words of each block [N], ascending tuples, the same object where they are the same; None where they are not
    known.
    """
    made: dict[bytes, Words | None] = {}
    found = np.full(len(known.sets), None, object)
    for i, row in enumerate(known.sets):
        key = row.tobytes()
        if key not in made:
            bits = np.unpackbits(row, count=1 + len(known.words))
            made[key] = tuple(known.words[k] for k in np.flatnonzero(bits[1:]).tolist()) if bits[0] else None
        found[i] = made[key]
    return found


def merged(known: TextMetadata, starts: NDArray[np.int64]) -> Bitmaps:
    """The bitmaps of runs of blocks. Sound because a run is known only if all its blocks are, and has their words."""
    if not len(starts):
        return known.sets[:0]
    every = np.bitwise_and.reduceat(known.sets[:, 0] >> 7, starts).astype(np.bool_)
    return np.where(every[:, None], np.bitwise_or.reduceat(known.sets, starts, axis=0), 0).astype(np.uint8)
