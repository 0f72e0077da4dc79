r"""Enrichment metadata of one Parquet file, and its bytes: version 1, little-endian, the same in sidecar and footer.

    offset  bytes
         0      8  magic "SKIPML\r\n" (a transfer as text damages it)
         8      4  version, u32: 1
        12      8  size of the data file, u64 (0 where embedded)
        20      8  modification time of the data file in ns, i64 (0 where embedded)
        28     16  hash of its footer (`skipml.metadata.tie`)
        44         sections, one behind the other: kind u32, length of the payload u64, payload
        -16    16  BLAKE2b of everything before, 16 bytes

    kind  payload
       1  BLOCKS, first and once: N u64; row group, integers [N]; rows, integers [N]
       2  SETTINGS, once: count u32; per setting name and value, texts, in the order of the names
       3  COLUMN: name text; SQL type text; lower f64 [N]; upper f64 [N]; null count, integers [N]; NaN count,
          integers [N]
       4  PAIR: two names, texts; size u32; hulls u8 [N, size]; M u32; merged hulls u8 [M, size]: none, that of the
          file, or those of the row groups and the file
       5  BOXES: names; bits u32; size u32; boxes u8 [N, size]
       6  no longer written: scores in another form
       7  LABELS: model text; names; labels u32; size u32; bits u8 [N, size]
       8  WITNESSES: names; size u32; rows u8 [N, size]
       9  SCORES: model text; names; output u32; lower f64 [N]; upper f64 [N]; size u32; cells u8 [N, size]
      10  VECTORS: name text; dimension u32 d; rows without a vector, integers [N]; odd vectors, integers [N];
          radius f64 [N]; length f64 [N]; centre f32 [N, d]; slices u32 S; distances f32 [N, S]
      11  PROJECTIONS: name text; directions u32 k; dimension u32 d; basis f32 [k, d]; lower f32 [N, k];
          upper f32 [N, k]; rest f64 [N]
      12  TEXTS: name text; null count, integers [N]; count u32; that many words, bytes in ascending order, each length
          u32 and itself; size u32; sets u8 [N, size]

    text      length u32; UTF-8
    names     count u32; texts
    integers  width u8: 1, 2, 4 or 8; unsigned numbers of that many bytes

A reader skips sections of other kinds. What another version may change is everything behind the version.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import MetadataError
from skipml.metadata.contents import (
    BoxMetadata,
    ColumnMetadata,
    LabelMetadata,
    Metadata,
    PairMetadata,
    ProjectionMetadata,
    ScoreMetadata,
    TextMetadata,
    VectorMetadata,
    WitnessMetadata,
    contradiction,
)
from skipml.metadata.tie import HASH_BYTES, Tie

_MAGIC = b"SKIPML\r\n"
_VERSION = 1
_HEADER = struct.Struct(f"<8sIQq{HASH_BYTES}s")
_SECTION = struct.Struct("<IQ")
_BLOCKS, _SETTINGS, _COLUMN, _PAIR, _BOXES, _LABELS, _WITNESSES, _SCORES = (1, 2, 3, 4, 5, 7, 8, 9)
_VECTORS, _PROJECTIONS, _TEXTS = 10, 11, 12
_WIDTHS = (1, 2, 4, 8)


def encode(metadata: Metadata, tie: Tie) -> bytes:
    """The bytes of metadata, always the same for the same metadata; raises MetadataError where it contradicts itself
    (a limit that is NaN, more NULLs than rows, arrays of different lengths).
    """
    if problem := contradiction(metadata):
        raise MetadataError(f"the metadata contradicts itself: {problem}; this is a mistake of whoever built it")
    names = sorted(metadata.settings)
    sections = [
        (_BLOCKS, [struct.pack("<Q", len(metadata)), _integers(metadata.row_group), _integers(metadata.n_rows)]),
        (_SETTINGS, [_u32(len(names)), *(_text(part) for name in names for part in (name, metadata.settings[name]))]),
        *((_COLUMN, _column_parts(column)) for column in metadata.columns),
        *((_PAIR, _pair_parts(pair)) for pair in metadata.pairs),
        *((_BOXES, [*_names(b.columns), _u32(b.bits), _payloads(b.boxes)]) for b in metadata.boxes),
        *((_SCORES, _score_parts(score)) for score in metadata.scores),
        *(
            (_LABELS, [_text(m.model), *_names(m.columns), _u32(m.n_labels), _payloads(m.labels)])
            for m in metadata.labels
        ),
        *((_WITNESSES, [*_names(w.columns), _payloads(w.rows)]) for w in metadata.witnesses),
        *((_VECTORS, _vector_parts(vectors)) for vectors in metadata.vectors),
        *((_PROJECTIONS, _projection_parts(box)) for box in metadata.projections),
        *((_TEXTS, _text_parts(text)) for text in metadata.texts),
    ]
    parts = [_HEADER.pack(_MAGIC, _VERSION, tie.size, tie.mtime_ns, tie.footer)]
    for kind, payload in sections:
        parts += [_SECTION.pack(kind, sum(map(len, payload))), *payload]
    body = b"".join(parts)
    return body + _checksum(body)


def decode(data: bytes) -> tuple[Metadata, Tie]:
    """The metadata in some bytes and the state of the file it describes; its arrays are read-only.

    Raises MetadataError, and nothing else, for bytes that are cut off, changed, of another version or contradictory.
    Allocates in proportion to the bytes that are there, whatever the lengths in them say.
    """
    if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
        raise MetadataError("this is no skipml metadata; remove it and enrich the file again")
    if len(data) < _HEADER.size + HASH_BYTES:
        raise _damage(f"{len(data)} bytes are too few")
    _, version, size, mtime_ns, footer = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise MetadataError(f"this is metadata of version {version}, and this skipml reads {_VERSION}; enrich it again")
    body = memoryview(data)[:-HASH_BYTES]
    if _checksum(body) != data[-HASH_BYTES:]:
        raise _damage("the checksum does not match")
    metadata = _decode_sections(_Reader(body[_HEADER.size :]))
    if problem := contradiction(metadata):
        raise _damage(problem)
    return metadata, Tie(size, mtime_ns, footer)


def _damage(what: str) -> MetadataError:
    return MetadataError(f"the metadata is damaged ({what}); enrich the file again")


def _checksum(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=HASH_BYTES).digest()


def _column_parts(column: ColumnMetadata) -> list[bytes]:
    counts = [_integers(column.null_count), _integers(column.nan_count)]
    return [_text(column.name), _text(column.sql_type), *_floats(column.lower, column.upper), *counts]


def _pair_parts(pair: PairMetadata) -> list[bytes]:
    merged = pair.merged if pair.merged is not None else pair.hulls[:0]
    return [*map(_text, pair.columns), _payloads(pair.hulls), _u32(len(merged)), merged.tobytes()]


def _score_parts(score: ScoreMetadata) -> list[bytes]:
    limits = _floats(score.lower, score.upper)
    return [_text(score.model), *_names(score.columns), _u32(score.output), *limits, _payloads(score.cells)]


def _label_parts(label: LabelMetadata) -> list[bytes]:
    return [_text(label.model), *_names(label.columns), _u32(label.n_labels), _payloads(label.labels)]


def _vector_parts(v: VectorMetadata) -> list[bytes]:
    head = [_text(v.column), _u32(v.dimension), _integers(v.lacking), _integers(v.odd), *_floats(v.radius, v.length)]
    return [*head, _singles(v.center), _u32(v.slices.shape[1]), _singles(v.slices)]


def _projection_parts(box: ProjectionMetadata) -> list[bytes]:
    k, d = box.basis.shape
    limits = [_singles(array) for array in (box.basis, box.lower, box.upper)]
    return [_text(box.column), _u32(k), _u32(d), *limits, *_floats(box.rest)]


def _text_parts(text: TextMetadata) -> list[bytes]:
    words = [part for word in text.words for part in (_u32(len(word)), word)]
    return [_text(text.column), _integers(text.null_count), _u32(len(text.words)), *words, _payloads(text.sets)]


def _singles(array: NDArray[np.float32]) -> bytes:
    return np.asarray(array, dtype="<f4").tobytes()


def _floats(*arrays: NDArray[np.float64]) -> list[bytes]:
    return [np.asarray(array, dtype="<f8").tobytes() for array in arrays]


def _names(names: Sequence[str]) -> list[bytes]:
    return [_u32(len(names)), *map(_text, names)]


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _text(text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise MetadataError(f"{text!r} is no Unicode text, which metadata needs; rename the column") from error
    return _u32(len(raw)) + raw


def _integers(values: NDArray[np.int64]) -> bytes:
    largest = int(values.max(initial=0))
    width = next(width for width in _WIDTHS if largest < 1 << 8 * width)
    return bytes([width]) + values.astype(f"<u{width}").tobytes()


def _payloads(payloads: NDArray[np.uint8]) -> bytes:
    return _u32(payloads.shape[1]) + payloads.tobytes()


class _Reader:
    """Takes values from bytes one after the other; raises MetadataError where they end too early."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise _damage("a length passes the end")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        try:
            return str(self.take(self.number(4)), "utf-8")
        except UnicodeDecodeError as error:
            raise _damage("a text is no UTF-8") from error

    def names(self) -> tuple[str, ...]:
        return tuple(self.text() for _ in range(self.number(4)))

    def floats(self, n: int) -> NDArray[np.float64]:
        return _frozen(np.frombuffer(self.take(8 * n), dtype="<f8").astype(np.float64))

    def singles(self, n: int, width: int) -> NDArray[np.float32]:
        found = np.frombuffer(self.take(4 * n * width), dtype="<f4").astype(np.float32)
        return _frozen(found.reshape(n, width))

    def integers(self, n: int) -> NDArray[np.int64]:
        width = self.number(1)
        if width not in _WIDTHS:
            raise _damage(f"an integer of {width} bytes")
        return _frozen(np.frombuffer(self.take(width * n), dtype=f"<u{width}").astype(np.int64))

    def payloads(self, n: int) -> NDArray[np.uint8]:
        return self.rows(n, self.number(4))

    def rows(self, n: int, size: int) -> NDArray[np.uint8]:
        return np.frombuffer(self.take(n * size), dtype=np.uint8).reshape(n, size)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _decode_sections(reader: _Reader) -> Metadata:
    blocks: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    settings: dict[str, str] | None = None
    found: dict[int, list[Any]] = {kind: [] for kind in _KINDS}
    while not reader.at_end:
        kind, section = reader.number(4), _Reader(reader.take(reader.number(8)))
        if (kind == _BLOCKS) != (blocks is None):
            raise _damage("the blocks are not the first section, or come twice")
        if blocks is None:
            n = section.number(8)
            blocks = section.integers(n), section.integers(n)
        elif kind == _SETTINGS:
            if settings is not None:
                raise _damage("the settings come twice")
            settings = {section.text(): section.text() for _ in range(section.number(4))}
        elif kind in _KINDS:
            found[kind].append(_KINDS[kind](section, n))
        else:
            continue
        if not section.at_end:
            raise _damage("a section is longer than what it holds")
    if blocks is None or settings is None:
        raise _damage("a section is missing")
    first_row = _frozen(np.cumsum(blocks[1]) - blocks[1])
    return Metadata(
        row_group=blocks[0],
        first_row=first_row,
        n_rows=blocks[1],
        columns=tuple(found[_COLUMN]),
        pairs=tuple(found[_PAIR]),
        boxes=tuple(found[_BOXES]),
        settings=settings,
        scores=tuple(found[_SCORES]),
        labels=tuple(found[_LABELS]),
        witnesses=tuple(found[_WITNESSES]),
        vectors=tuple(found[_VECTORS]),
        projections=tuple(found[_PROJECTIONS]),
        texts=tuple(found[_TEXTS]),
    )


def _decode_column(section: _Reader, n: int) -> ColumnMetadata:
    return ColumnMetadata(
        name=section.text(),
        sql_type=section.text(),
        lower=section.floats(n),
        upper=section.floats(n),
        null_count=section.integers(n),
        nan_count=section.integers(n),
    )


def _decode_pair(section: _Reader, n: int) -> PairMetadata:
    names, hulls, n_merged = (section.text(), section.text()), section.payloads(n), section.number(4)
    return PairMetadata(names, hulls, section.rows(n_merged, hulls.shape[1]) if n_merged else None)


def _decode_boxes(section: _Reader, n: int) -> BoxMetadata:
    return BoxMetadata(section.names(), section.number(4), section.payloads(n))


def _decode_scores(section: _Reader, n: int) -> ScoreMetadata:
    return ScoreMetadata(
        model=section.text(),
        columns=section.names(),
        output=section.number(4),
        lower=section.floats(n),
        upper=section.floats(n),
        cells=section.payloads(n),
    )


def _decode_labels(section: _Reader, n: int) -> LabelMetadata:
    return LabelMetadata(section.text(), section.names(), section.number(4), section.payloads(n))


def _decode_witnesses(section: _Reader, n: int) -> WitnessMetadata:
    return WitnessMetadata(section.names(), section.payloads(n))


def _decode_vectors(section: _Reader, n: int) -> VectorMetadata:
    column, dimension = section.text(), section.number(4)
    lacking, odd, radius, length = section.integers(n), section.integers(n), section.floats(n), section.floats(n)
    center = section.singles(n, dimension)
    return VectorMetadata(
        column, dimension, lacking, odd, center, radius, length, section.singles(n, section.number(4))
    )


def _decode_projections(section: _Reader, n: int) -> ProjectionMetadata:
    column, k, d = section.text(), section.number(4), section.number(4)
    basis, lower, upper = section.singles(k, d), section.singles(n, k), section.singles(n, k)
    return ProjectionMetadata(column, basis, lower, upper, section.floats(n))


def _decode_texts(section: _Reader, n: int) -> TextMetadata:
    column, null_count = section.text(), section.integers(n)
    words = tuple(bytes(section.take(section.number(4))) for _ in range(section.number(4)))
    return TextMetadata(column, words, null_count, section.payloads(n))


_KINDS: dict[int, Callable[[_Reader, int], Any]] = {
    _COLUMN: _decode_column,
    _PAIR: _decode_pair,
    _BOXES: _decode_boxes,
    _SCORES: _decode_scores,
    _LABELS: _decode_labels,
    _WITNESSES: _decode_witnesses,
    _VECTORS: _decode_vectors,
    _PROJECTIONS: _decode_projections,
    _TEXTS: _decode_texts,
}
