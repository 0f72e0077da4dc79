"""The table: WordNet's definitions in their own order, their embeddings, and the topic that lexicographers filed them
under; in files of three orders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import skipml
from benchmarks.ann import data as vectors
from benchmarks.ann import texts

FOLDER = Path(__file__).parents[2] / ".data" / "embeddings"
ORDERS = ("as WordNet has it", "shuffled", "clustered")
_LONGEST = 300

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


def rows() -> tuple[Matrix, Labels]:
    """The vectors [n, 384] and topics [n] of the definitions."""
    return vectors.glosses(), topics()


def topics() -> Labels:
    """The number of the lexicographers' file of each definition, in the order of `texts.glosses`."""
    root = texts.unpack(vectors.FOLDER / "texts")
    found: dict[str, int] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (root / "usr/share/wordnet" / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" ") and " | " in line:
                gloss = line.partition(" | ")[2].partition('; "')[0].strip()[:_LONGEST]
                found.setdefault(gloss, int(line.split()[1]))
    return np.array(list(found.values()), np.int64)


def files(embeddings: Matrix, row_group_rows: int) -> dict[str, Path]:
    """The table in each order, made once: `id` is the row in WordNet's order."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = {order: FOLDER / f"{order.split()[0]}-{len(embeddings)}-{row_group_rows}.parquet" for order in ORDERS}
    orders = {ORDERS[0]: np.arange(len(embeddings)), ORDERS[1]: np.random.default_rng(5).permutation(len(embeddings))}
    for order, number in orders.items():
        if not paths[order].exists():
            pq.write_table(_table(embeddings, number), paths[order], row_group_size=row_group_rows, compression="zstd")
    if not paths[ORDERS[2]].exists():
        skipml.cluster(paths[ORDERS[0]], paths[ORDERS[2]], by=["embedding"], row_group_rows=row_group_rows)
    return paths


def _table(embeddings: Matrix, number: NDArray[np.int64]) -> pa.Table:
    values = pa.array(np.ascontiguousarray(embeddings[number]).ravel())
    return pa.table({"id": number, "embedding": pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])})
