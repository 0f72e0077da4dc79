"""The table: WordNet's definitions in their own order, their embeddings, and the topic that lexicographers filed them
under; in the orders and sizes of row groups that are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import skipml
from benchmarks.ann import data as vectors
from benchmarks.ann import texts

FOLDER = Path(__file__).parents[2] / ".data" / "embeddings"
ORIGINAL, INDEX = "as WordNet has it", "as an index"
ORDERS = (ORIGINAL, INDEX)
LISTS = "lists"
"""The posting lists of a vector index as row groups."""
SIZES = ("2048", "512", "128", LISTS)
_LONGEST = 300

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Vectors [n, 384], topics [n] and texts [n] of definitions."""

    vectors: Matrix
    topics: Labels
    texts: tuple[str, ...]

    def take(self, number: int) -> Rows:
        """So many, at equal distances."""
        chosen = np.linspace(0, len(self.topics) - 1, number).astype(np.int64)
        return Rows(self.vectors[chosen], self.topics[chosen], tuple(self.texts[i] for i in chosen.tolist()))


def rows() -> Rows:
    """All of them, in the order of `texts.glosses`."""
    root = texts.unpack(vectors.FOLDER / "texts")
    found: dict[str, int] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (root / "usr/share/wordnet" / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" ") and " | " in line:
                gloss = line.partition(" | ")[2].partition('; "')[0].strip()[:_LONGEST]
                found.setdefault(gloss, int(line.split()[1]))
    return Rows(np.asarray(vectors.glosses()), np.array(list(found.values()), np.int64), tuple(found))


def file(embeddings: Matrix, order: str, size: str) -> Path:
    """The table in an order and with row groups of a size, made once: `id` is the row in WordNet's order."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = f"{order.rsplit(maxsplit=1)[-1]}-{len(embeddings)}-{size}"
    path = FOLDER / f"{name}.parquet"
    if size == LISTS:
        return _lists(embeddings, FOLDER / f"{name}.index")
    if not path.exists():
        if order == ORIGINAL:
            pq.write_table(_table(embeddings), path, row_group_size=int(size), compression="zstd")
        else:
            original = file(embeddings, ORIGINAL, size)
            skipml.cluster(original, path, by=["embedding"], row_group_rows=int(size))
    return path


def _lists(embeddings: Matrix, folder: Path) -> Path:
    if not folder.exists():
        skipml.VectorIndex.build(_table(embeddings), column="embedding", path=folder)
    return Path(skipml.VectorIndex.open(folder).snapshot.readers[0].rows.path)


def _table(embeddings: Matrix) -> pa.Table:
    values = pa.array(np.ascontiguousarray(embeddings).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])
    return pa.table({"id": np.arange(len(embeddings)), "embedding": vectors})
