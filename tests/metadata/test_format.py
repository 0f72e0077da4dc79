from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.errors import MetadataError
from skipml.metadata import texts
from skipml.metadata.contents import (
    BoxMetadata,
    ColumnMetadata,
    LabelMetadata,
    Metadata,
    PairMetadata,
    ScoreMetadata,
    TextMetadata,
    WitnessMetadata,
)
from skipml.metadata.format import decode, encode
from skipml.metadata.tie import Tie

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIE = Tie(12_345, -3, bytes(range(16)))


@st.composite
def metadata_of(draw: st.DrawFn) -> Metadata:
    """Any metadata that does not contradict itself."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 6))
    n_rows = rng.integers(0, draw(st.sampled_from([1, 2, 300, 2**20, 2**56])), n)
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    sizes = st.integers(0, 9)
    row_group = np.cumsum(rng.integers(0, draw(st.sampled_from([1, 2, 3])), n))
    n_groups = len(np.unique(row_group))
    merged = 1 if n_groups == n else n_groups + 1

    def payloads(count: int = n) -> Any:
        return rng.integers(0, 256, (count, draw(sizes)), dtype=np.uint8)

    def pair() -> PairMetadata:
        hulls = payloads(n + merged)
        return PairMetadata((draw(NAMES), draw(NAMES)), hulls[:n], hulls[n:] if draw(st.booleans()) else None)

    def score() -> ScoreMetadata:
        limits = rng.choice([-np.inf, -0.0, 5e-324, 1e300, np.inf], (2, n))
        return ScoreMetadata(draw(NAMES), tuple(names), draw(sizes), limits[0], limits[1], payloads())

    return Metadata(
        row_group=row_group,
        first_row=np.cumsum(n_rows) - n_rows,
        n_rows=n_rows,
        columns=tuple(column_of(rng, name, draw(NAMES), n_rows) for name in names),
        pairs=tuple(pair() for _ in range(draw(st.integers(0, 2)))),
        boxes=tuple(BoxMetadata(tuple(names), draw(sizes), payloads()) for _ in range(draw(st.integers(0, 2)))),
        settings=draw(st.dictionaries(NAMES, NAMES, max_size=3)),
        scores=tuple(score() for _ in range(draw(st.integers(0, 2)))),
        labels=tuple(
            LabelMetadata(draw(NAMES), tuple(names), draw(sizes), payloads()) for _ in range(draw(st.integers(0, 2)))
        ),
        witnesses=tuple(WitnessMetadata(tuple(names), payloads()) for _ in range(draw(st.integers(0, 2)))),
        texts=tuple(texts_of(rng, name, n_rows) for name in names[: draw(st.integers(0, 2))]),
    )


def texts_of(rng: np.random.Generator, name: str, n_rows: Any) -> TextMetadata:
    words = [b"", b"\0", b"\xff\xfe", b"air", "\u00e9".encode(), bytes(300)]
    sets: list[frozenset[bytes] | None] = []
    nulls = rng.integers(0, n_rows + 1)
    for some in (nulls < n_rows).tolist():
        chosen = [words[k] for k in rng.choice(len(words), int(rng.integers(1, 4)))]
        sets.append(None if rng.random() < 0.2 else frozenset(chosen if some else []))
    return texts.build(name, sets, nulls, int(rng.integers(0, 7)))


def column_of(rng: np.random.Generator, name: str, sql_type: str, n_rows: Any) -> ColumnMetadata:
    nulls = rng.integers(0, n_rows + 1)
    nans = rng.integers(0, n_rows - nulls + 1)
    ends = np.sort(rng.choice([-np.inf, -1e300, -0.0, 0.0, 5e-324, 1.5, np.inf], (len(n_rows), 2)), axis=1)
    empty = nulls + nans == n_rows
    return ColumnMetadata(
        name, sql_type, np.where(empty, np.inf, ends[:, 0]), np.where(empty, -np.inf, ends[:, 1]), nulls, nans
    )


def small() -> Metadata:
    rows = np.array([3, 2])
    columns = (
        ColumnMetadata("a", "FLOAT", np.array([0.5, np.inf]), np.array([2.0, -np.inf]), rows - [3, 0], rows - [2, 2]),
    )
    hulls = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pairs, boxes = (PairMetadata(("a", "b"), hulls, hulls + 9),), (BoxMetadata(("a",), 8, hulls[:, :1]),)
    return Metadata(
        np.array([0, 0]),
        np.array([0, 3]),
        rows,
        columns,
        pairs,
        boxes,
        {"hull_bytes": "45"},
        scores=(ScoreMetadata("m", ("b", "a"), 1, np.array([0.5, np.inf]), np.array([2.0, -np.inf]), hulls[:, 1:]),),
        labels=(LabelMetadata("m", ("b",), 3, hulls[:, 2:]),),
        witnesses=(WitnessMetadata(("a",), hulls),),
        texts=(TextMetadata("s", (b"", b"air"), np.array([1, 2]), np.array([[0b10100000], [0b10000000]], np.uint8)),),
    )


def bits_of(value: Any) -> Any:
    """A value that compares equal only if every bit is the same."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist() if value.dtype == object else value.tobytes()
    if is_dataclass(value):
        return [bits_of(getattr(value, field.name)) for field in fields(value)]
    return [bits_of(each) for each in value] if isinstance(value, tuple) else value


def signed(body: bytes) -> bytes:
    return body + hashlib.blake2b(body, digest_size=16).digest()


@given(metadata_of())
@settings(max_examples=200)
def test_round_trip(metadata: Metadata) -> None:
    data = encode(metadata, TIE)
    decoded, tie = decode(data)
    assert bits_of(decoded) == bits_of(metadata)
    assert tie == TIE
    assert encode(replace(decoded, settings=dict(reversed(list(decoded.settings.items())))), TIE) == data
    assert metadata.nbytes == decoded.nbytes


def test_the_bytes_are_those_of_the_documentation() -> None:
    def text(value: str) -> bytes:
        return len(value).to_bytes(4, "little") + value.encode()

    def section(kind: int, payload: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(payload).to_bytes(8, "little") + payload

    limits = np.array([0.5, np.inf, 2.0, -np.inf], dtype="<f8").tobytes()
    head = b"SKIPML\r\n" + bytes([1, 0, 0, 0]) + (12_345).to_bytes(8, "little") + b"\xfd" + b"\xff" * 7
    body = head + bytes(range(16)) + section(1, bytes([2, *[0] * 7, 1, 0, 0, 1, 3, 2]))
    body += section(2, b"\1\0\0\0" + text("hull_bytes") + text("45"))
    body += section(3, text("a") + text("FLOAT") + limits + bytes([1, 0, 2, 1, 1, 0]))
    body += section(4, text("a") + text("b") + bytes([3, 0, 0, 0, *range(6), 2, 0, 0, 0, *range(9, 15)]))
    body += section(5, b"\1\0\0\0" + text("a") + bytes([8, 0, 0, 0, 1, 0, 0, 0, 0, 3]))
    names = b"\2\0\0\0" + text("b") + text("a")
    body += section(9, text("m") + names + b"\1\0\0\0" + limits + bytes([2, 0, 0, 0, 1, 2, 4, 5]))
    body += section(7, text("m") + b"\1\0\0\0" + text("b") + bytes([3, 0, 0, 0, 1, 0, 0, 0, 2, 5]))
    body += section(8, b"\1\0\0\0" + text("a") + bytes([3, 0, 0, 0, *range(6)]))
    words = b"\2\0\0\0" + text("") + text("air")
    body += section(12, text("s") + bytes([1, 1, 2]) + words + bytes([1, 0, 0, 0, 0xA0, 0x80]))
    assert encode(small(), TIE) == signed(body)


@pytest.mark.parametrize("count", [value + more for value in (2**8, 2**16, 2**32, 2**62) for more in (-1, 0)])
def test_counts_at_the_ends_of_every_width(count: int) -> None:
    n_rows, zero, limit = np.array([count]), np.array([0]), np.array([1.0])
    column = ColumnMetadata("a", "FLOAT", limit, limit, n_rows - 1, zero)
    metadata = Metadata(zero, zero, n_rows, (column,), (), (), {})
    assert bits_of(decode(encode(metadata, TIE))[0]) == bits_of(metadata)


def test_sections_of_other_kinds_are_skipped() -> None:
    data = encode(small(), TIE)
    added = data[:-16] + (77).to_bytes(4, "little") + (5).to_bytes(8, "little") + b"later"
    assert bits_of(decode(signed(added))[0]) == bits_of(small())


def test_scores_in_the_former_form_are_skipped() -> None:
    body = encode(replace(small(), scores=()), TIE)[:-16]
    former = b"\0\0\0\0" * 4 + bytes(32)
    added = body + (6).to_bytes(4, "little") + len(former).to_bytes(8, "little") + former
    assert bits_of(decode(signed(added))[0]) == bits_of(replace(small(), scores=()))


def test_decoded_arrays_are_read_only() -> None:
    decoded, _ = decode(encode(small(), TIE))
    for array in (decoded.first_row, decoded.columns[0].lower, decoded.columns[0].null_count, decoded.pairs[0].hulls):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_every_flipped_bit_is_noticed() -> None:
    data = encode(small(), TIE)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MetadataError, match="enrich"):
            decode(bytes(damaged))


def test_every_cut_and_every_addition_is_noticed() -> None:
    data = encode(small(), TIE)
    for size in range(len(data)):
        with pytest.raises(MetadataError, match="enrich"):
            decode(data[:size])
    for more in (b"\0", data, data[-16:]):
        with pytest.raises(MetadataError):
            decode(data + more)


def test_other_things_are_told_apart() -> None:
    data = encode(small(), TIE)
    with pytest.raises(MetadataError, match=r"no skipml metadata; remove it"):
        decode(b"PAR1" + data)
    with pytest.raises(MetadataError, match=r"of version 2, and this skipml reads 1"):
        decode(signed(data[:8] + b"\2" + data[9:-16]))
    with pytest.raises(MetadataError, match=r"damaged \(the checksum"):
        decode(data[:-1] + b"?")


@pytest.mark.parametrize(
    ("problem", "sections"),
    [
        ("longer than what it holds", ["settings+"]),
        ("the settings come twice", ["settings", "settings"]),
        ("come twice", ["blocks", "settings"]),
        ("a section is missing", []),
    ],
)
def test_sections_that_should_not_be_there(problem: str, sections: list[str]) -> None:
    data = encode(Metadata(np.zeros(2, np.int64), np.array([0, 3]), np.array([3, 2]), (), (), (), {}), TIE)
    blocks, settings_ = data[44:-32], data[-32:-16]
    longer = settings_[:4] + b"\5" + settings_[5:] + b"?"
    parts = {"blocks": blocks, "settings": settings_, "settings+": longer}
    with pytest.raises(MetadataError, match=problem):
        decode(signed(data[:44] + blocks + b"".join(parts[name] for name in sections)))


@given(st.data())
@settings(max_examples=500)
def test_changed_bytes_under_a_right_checksum_are_refused_or_consistent(data: st.DataObject) -> None:
    body = bytearray(encode(small(), TIE)[:-16])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(44, len(body) - 1))
        value = data.draw(st.sampled_from([0, 1, 2, 4, 8, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        if data.draw(st.integers(0, 3)) == 0:
            del body[at]
        else:
            body[at] = value
    try:
        metadata, tie = decode(signed(bytes(body)))
    except MetadataError:
        return
    assert bits_of(decode(encode(metadata, tie))[0]) == bits_of(metadata)


@pytest.mark.parametrize("at", [48, 56, 57, 58, 59, 60, 61, 62, 63])
def test_a_lying_length_allocates_nothing(at: int) -> None:
    body = bytearray(encode(small(), TIE)[:-16])
    body[at] = 0xFF
    tracemalloc.start()
    with pytest.raises(MetadataError, match="damaged"):
        decode(signed(bytes(body)))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("different lengths", {"row_group": np.array([0])}),
        ("different lengths", {"n_rows": np.array([[3, 2]])}),
        ("impossible numbers", {"n_rows": np.array([3, -1])}),
        ("impossible numbers", {"n_rows": np.array([2**62, 2**62])}),
        ("out of order", {"row_group": np.array([1, 0])}),
        ("follow each other", {"first_row": np.array([0, 2])}),
        ("one row of bytes per block", {"pairs": (PairMetadata(("a", "b"), np.zeros((1, 3), np.uint8)),)}),
        (
            "merged hulls",
            {"pairs": (PairMetadata(("a", "b"), np.zeros((2, 3), np.uint8), np.zeros((1, 3), np.uint8)),)},
        ),
        ("NaN", {"scores": (replace(small().scores[0], lower=np.array([0.0, np.nan])),)}),
        ("one row of bytes per block", {"boxes": (BoxMetadata(("a",), 8, np.zeros((2, 3))),)}),  # type: ignore[arg-type]
        ("two columns of one name", {"columns": small().columns * 2}),
    ],
)
def test_contradictory_blocks_are_not_encoded(problem: str, change: dict[str, Any]) -> None:
    with pytest.raises(MetadataError, match=problem):
        encode(replace(small(), **change), TIE)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("more NULLs and NaNs", {"null_count": np.array([2, 0]), "nan_count": np.array([2, 2])}),
        ("more NULLs and NaNs", {"null_count": np.array([0, -1])}),
        ("more NULLs and NaNs", {"nan_count": np.array([2**62, 2])}),
        ("do not fit its rows", {"lower": np.array([np.nan, np.inf])}),
        ("do not fit its rows", {"lower": np.array([3.0, np.inf])}),
        ("do not fit its rows", {"lower": np.array([0.5, 0.0]), "upper": np.array([2.0, 1.0])}),
        ("do not fit its rows", {"lower": np.array([np.inf, np.inf]), "upper": np.array([-np.inf, -np.inf])}),
        ("no Unicode text", {"name": "\ud800"}),
    ],
)
def test_contradictory_columns_are_not_encoded(problem: str, change: dict[str, Any]) -> None:
    metadata = small()
    with pytest.raises(MetadataError, match=problem):
        encode(replace(metadata, columns=(replace(metadata.columns[0], **change),)), TIE)


def _sets(*rows: int) -> Any:
    return np.array([[row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("more NULLs than rows", {"null_count": np.array([1, 3])}),
        ("more NULLs than rows", {"null_count": np.array([-1, 2])}),
        ("words out of order", {"words": (b"air", b"")}),
        ("words out of order", {"words": (b"air", b"air")}),
        ("do not fit its words", {"words": (b"", *(bytes([65 + k]) for k in range(7)))}),
        ("do not fit its rows", {"null_count": np.array([3, 2])}),
        ("do not fit its rows", {"null_count": np.array([1, 1])}),
        ("do not fit its rows", {"sets": _sets(0b10000000, 0b10000000)}),
        ("do not fit its rows", {"sets": _sets(0b00100000, 0b10000000)}),
        ("do not fit its rows", {"sets": _sets(0b10100000, 0b10010000)}),
        ("one row of bytes per block", {"sets": np.zeros((1, 1), np.uint8)}),
    ],
)
def test_contradictory_texts_are_neither_encoded_nor_decoded(
    problem: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = small()
    metadata = replace(metadata, texts=(replace(metadata.texts[0], **change),))
    with pytest.raises(MetadataError, match=problem):
        encode(metadata, TIE)
    if "bytes per block" in problem:
        return
    with monkeypatch.context() as patch:
        patch.setattr("skipml.metadata.format.contradiction", lambda metadata: "")
        data = encode(metadata, TIE) if (metadata.texts[0].null_count >= 0).all() else b""
    with pytest.raises(MetadataError, match=problem if data else "no skipml|too few"):
        decode(data)


def test_two_columns_of_text_of_one_name_are_refused() -> None:
    with pytest.raises(MetadataError, match="two columns of text"):
        encode(replace(small(), texts=small().texts * 2), TIE)
