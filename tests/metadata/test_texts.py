"""A set that is stored is the set of the rows, or not known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.distinct import distinct, text_columns
from skipml.metadata import texts
from skipml.metadata.contents import TextMetadata
from skipml.metadata.texts import MOST_BYTES
from skipml.parquet.texts import TextLimits

WORDS = st.sampled_from([b"", b"\0", b"a", b"a\0", b"\xff", "é".encode(), bytes(300), b"z"])
SETS = st.lists(st.none() | st.frozensets(WORDS, max_size=5), max_size=8)


@settings(max_examples=200)
@given(SETS, st.integers(0, 9))
def test_what_is_read_is_what_was_stored_or_unknown(sets: list[frozenset[bytes] | None], most: int) -> None:
    known = texts.build("s", sets, np.zeros(len(sets), np.int64), most)
    assert len(known.words) <= most
    found = texts.decode(known).tolist()
    for wanted, read in zip(sets, found, strict=True):
        assert read is None or (wanted is not None and read == tuple(sorted(wanted)))
    if len(set().union(*(wanted for wanted in sets if wanted is not None))) <= most:
        assert [read is None for read in found] == [wanted is None for wanted in sets]


@settings(max_examples=100)
@given(SETS.filter(bool), st.integers(0, 9), st.data())
def test_runs_have_the_words_of_all_their_blocks(
    sets: list[frozenset[bytes] | None], most: int, data: st.DataObject
) -> None:
    known = texts.build("s", sets, np.zeros(len(sets), np.int64), most)
    inner = data.draw(st.sets(st.integers(1, len(sets)), max_size=3)) - {len(sets)}
    starts = np.array([0, *sorted(inner)])
    found = texts.decode(TextMetadata("s", known.words, starts, texts.merged(known, starts))).tolist()
    blocks = texts.decode(known).tolist()
    for run, (start, end) in zip(found, pairwise([*starts.tolist(), len(sets)]), strict=True):
        some = blocks[start:end]
        assert run == (None if None in some else tuple(sorted(set().union(*some))))


def test_words_that_are_long_together_are_not_told_apart() -> None:
    half = frozenset({b"a" * (MOST_BYTES // 2)})
    rest = frozenset({b"b" * (MOST_BYTES // 2 + 1)})
    known = texts.build("s", [half, rest, half | rest, frozenset()], np.zeros(4, np.int64), 9)
    assert [found is None for found in texts.decode(known).tolist()] == [False, True, True, False]
    assert distinct(pa.array(["a" * (MOST_BYTES + 1)]), 9).words is None


_TEXT = [None, "b", "", "b", "\0", None, "é"]
_KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("kind", _KINDS, ids=str)
def test_distinct_texts_are_those_of_the_rows(kind: pa.DataType) -> None:
    column = pa.array(_TEXT, pa.string()).cast(kind)
    assert text_columns(pa.schema([("s", kind), ("n", pa.int8())]), None) == ("s",)
    for part in (column, column[2:5], pa.chunked_array([column[:3], column[3:]]), column[:0]):
        found = distinct(part, 4)
        wanted = part.to_pylist()
        assert found.words == frozenset(text.encode() for text in wanted if text is not None)
        assert found.null_count == wanted.count(None)
    assert distinct(column, 3).words is None


def test_a_dictionary_may_hold_words_that_no_row_has() -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int8()), pa.array(["a", "never"]))
    found = distinct(coded, 9)
    assert (found.words, found.null_count) == (frozenset({b"a"}), 1)


def test_columns_that_differ_by_case_alone_are_left_out() -> None:
    schema = pa.schema([("s", pa.string()), ("S", pa.string()), ("t", pa.string()), ("u", pa.string())])
    assert text_columns(schema, None) == ("t", "u")
    assert text_columns(schema, ["T", "s"]) == ("t",)


def test_sets_that_limits_contradict_are_not_believed() -> None:
    limits = TextLimits(*np.array([[b"b", b"b", None, b"b"], [b"d", b"d", None, b"d"]], object))
    sets = np.empty(4, object)
    sets[:] = [(b"b", b"d"), (b"a", b"c"), (b"z",), (b"c", b"dd")]
    assert limits.with_sets(sets).sets is not None
    assert [found is None for found in limits.with_sets(sets).sets] == [False, True, False, True]  # type: ignore[union-attr]
