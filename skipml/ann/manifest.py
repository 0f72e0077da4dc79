"""The manifest: what an index is made of, in one file that is replaced as a whole.

    bytes  content
        8  magic `SKIPMLIX`
        4  version of the format, unsigned, little-endian like every number
        8  bytes of the header, unsigned
        .  the header: JSON, UTF-8
        .  the arrays, one behind the other, C order
       32  SHA-256 of everything before

The header holds `arrays` (name, dtype, shape of each, in order) and the plain fields of `Manifest`. Whoever opens the
index reads one manifest and keeps to it: files that a later one does not name stay until no reader has them open.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann.metric import Metric, Singles, Space
from skipml.ann.postings import Extents, FileState
from skipml.ann.vectors import VectorType
from skipml.errors import EnrichmentError, MetadataError
from skipml.identity import FileIdentity
from skipml.metadata.replacement import publish, synchronise, temporary

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

NAME = "manifest.skipml"
LOGS = "logs"
"""The record of the files that hold the queries of calibrations, by the rows asked for."""
_MAGIC, _VERSION = b"SKIPMLIX", 1
_HEAD, _DIGEST = len(_MAGIC) + 4 + 8, 32


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A rows file and, where rows have codes, its codes file, and where the columns of each list lie in them."""

    rows: FileState
    columns: Mapping[str, Extents]
    """Of the rows file, by name; those of a width that is not fixed are absent."""
    counts: Indices
    """Rows of each list [lists]."""
    codes: FileState | None = None
    positions: Extents | None = None
    code: Extents | None = None
    deleted: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    """Positions of rows that are not there any more, ascending."""

    @property
    def n_rows(self) -> int:
        """Rows in the file, deleted ones too."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """An index at one moment."""

    metric: Metric
    column: str
    vector: VectorType
    schema: pa.Schema
    """The user's columns and the vector, as they came."""
    longest: float
    centroids: Singles
    """[lists, width], in the space of the metric."""
    radii: Floats
    """No row of a list, in the space, is further from its centroid than so much [lists]."""
    norms: Floats
    """Between which lengths the vectors of a list lie [lists, 2]; inf and 0 where it has none."""
    rotation: Singles | None
    """Of the codes; None where there are none."""
    segments: tuple[Segment, ...]
    next_row_id: int
    skipped_nulls: int = 0
    """Rows that were left out as their vector was NULL."""
    version: int = 1
    """Grows with every change."""
    records: Mapping[str, Any] = field(default_factory=dict)
    """What was learned and calibrated, by name: plain values."""

    @property
    def space(self) -> Space:
        """Where the centroids lie."""
        return Space(self.metric, self.vector.dimension, self.longest)

    @property
    def n_rows(self) -> int:
        """Rows that are there."""
        return sum(segment.n_rows - len(segment.deleted) for segment in self.segments)

    @property
    def files(self) -> tuple[FileState, ...]:
        """All files that hold its rows."""
        return tuple(file for s in self.segments for file in (s.rows, s.codes) if file is not None)


def file_number(version: int) -> str:
    """What the files that a version adds are called by."""
    return f"{version:08d}"


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest."""
    arrays: dict[str, NDArray[Any]] = {
        "centroids": manifest.centroids,
        "radii": manifest.radii,
        "norms": manifest.norms,
    }
    if manifest.rotation is not None:
        arrays["rotation"] = manifest.rotation
    segments = []
    for i, segment in enumerate(manifest.segments):
        arrays |= {f"{i}.counts": segment.counts, f"{i}.deleted": segment.deleted}
        extents = {f"{i}.rows.{name}": extent for name, extent in segment.columns.items()}
        if segment.positions is not None and segment.code is not None:
            extents |= {f"{i}.positions": segment.positions, f"{i}.code": segment.code}
            arrays[f"{i}.code counts"] = segment.code.counts
        arrays |= {f"{name}": extent.offsets for name, extent in extents.items()}
        segments.append(
            {
                "rows": asdict(segment.rows),
                "codes": asdict(segment.codes) if segment.codes is not None else None,
                "columns": {name: extent.n_bytes for name, extent in segment.columns.items()},
                "code_bytes": segment.code.n_bytes if segment.code is not None else 0,
            }
        )
    header = {
        "metric": manifest.metric,
        "column": manifest.column,
        "dimension": manifest.vector.dimension,
        "int8": manifest.vector.is_int8,
        "schema": manifest.schema.serialize().to_pybytes().hex(),
        "longest": manifest.longest,
        "next_row_id": manifest.next_row_id,
        "skipped_nulls": manifest.skipped_nulls,
        "version": manifest.version,
        "records": dict(manifest.records),
        "segments": segments,
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
    }
    text = json.dumps(header).encode()
    head = _MAGIC + _VERSION.to_bytes(4, "little") + len(text).to_bytes(8, "little")
    body = b"".join([head, text, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())])
    return body + hashlib.sha256(body).digest()


def decode(data: bytes, where: str) -> Manifest:
    """A manifest out of bytes; raises MetadataError where they are damaged or of another version."""
    damaged = MetadataError(f"'{where}' is damaged or cut off; restore it, or build the index again")
    if len(data) < _HEAD + _DIGEST or not data.startswith(_MAGIC):
        raise damaged
    version = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 4], "little")
    if version != _VERSION:
        raise MetadataError(f"'{where}' has format {version}, this skipml reads {_VERSION}; build the index again")
    if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise damaged
    start = _HEAD + int.from_bytes(data[len(_MAGIC) + 4 : _HEAD], "little")
    header = json.loads(data[_HEAD:start])
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind, shape in header["arrays"]:
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, np.dtype(kind), count, start).reshape(shape)
        start += arrays[name].nbytes
    return Manifest(
        metric=header["metric"],
        column=header["column"],
        vector=VectorType(header["dimension"], header["int8"]),
        schema=pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(header["schema"]))),
        longest=header["longest"],
        centroids=arrays["centroids"],
        radii=arrays["radii"],
        norms=arrays["norms"],
        rotation=arrays.get("rotation"),
        segments=tuple(_segment(i, plain, arrays) for i, plain in enumerate(header["segments"])),
        next_row_id=header["next_row_id"],
        skipped_nulls=header["skipped_nulls"],
        version=header["version"],
        records=header["records"],
    )


def _segment(i: int, plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Segment:
    counts = arrays[f"{i}.counts"]
    coded = None if plain["codes"] is None else arrays[f"{i}.code counts"]
    return Segment(
        rows=_file(plain["rows"]),
        columns={name: Extents(counts, arrays[f"{i}.rows.{name}"], n) for name, n in plain["columns"].items()},
        counts=counts,
        codes=None if plain["codes"] is None else _file(plain["codes"]),
        positions=None if coded is None else Extents(coded, arrays[f"{i}.positions"], 4),
        code=None if coded is None else Extents(coded, arrays[f"{i}.code"], plain["code_bytes"]),
        deleted=arrays[f"{i}.deleted"],
    )


def _file(plain: Mapping[str, Any]) -> FileState:
    return FileState(plain["name"], plain["footer"], FileIdentity(**plain["identity"]))


def read(folder: str) -> Manifest:
    """The present manifest of an index; raises MetadataError where there is none or it cannot be used."""
    path = os.path.join(folder, NAME)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        if os.path.isdir(os.path.join(folder, "building")):
            raise MetadataError(
                f"'{folder}' was not built to its end; run the same build again to finish it"
            ) from error
        raise MetadataError(f"'{folder}' holds no index: {error}; build one with VectorIndex.build") from error
    return decode(data, path)


def remove_unnamed(folder: str, manifest: Manifest) -> None:
    """Remove the files of an index that the present manifest does not name: of versions before, and of writers that
    were stopped. Whoever has them open keeps them.
    """
    named = {file.name for file in manifest.files} | set(manifest.records.get(LOGS, {}).values())
    for name in os.listdir(folder):
        if name.endswith(".parquet") and name not in named:
            os.unlink(os.path.join(folder, name))


def write(folder: str, manifest: Manifest) -> None:
    """Let a manifest take the place of the present one; raises EnrichmentError where it cannot be written."""
    path = os.path.join(folder, NAME)
    try:
        with temporary(folder) as (name, file):
            file.write(encode(manifest))
            synchronise(file, 0o644)
            publish(name, path)
    except OSError as error:
        raise EnrichmentError(f"'{PurePath(path)}' cannot be written: {error}") from error
