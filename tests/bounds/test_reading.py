"""Blocks as a pipeline reads them: texts as places, NULL as NaN where it has a value, refused numbers as NULL."""

from __future__ import annotations

from typing import Any

import numpy as np

from skipml.bounds.reading import as_read
from skipml.parquet.texts import TextLimits
from skipml.pipelines import Pipeline, Words
from skipml.regions import Regions
from tests.oracle import linear

NETWORK = linear([[1]], [0], "float64")


def blocks(n: int, **more: Any) -> Regions:
    """Blocks of one input between 1 and 2."""
    flags = {name: np.zeros((n, 1), np.bool_) for name in ("unknown", "all_null", "may_be_null", "may_be_nan")}
    box = {"lower": np.full((n, 1), 1.0), "upper": np.full((n, 1), 2.0)}
    return Regions(("a",), **(box | flags | {"block": np.arange(n), "n_rows": np.full(n, 9)} | more))


def flags_of(seen: Regions) -> list[tuple[bool, ...]]:
    """unknown, all NULL, may be NULL, may be NaN of each block."""
    return list(
        zip(*(f[:, 0].tolist() for f in (seen.unknown, seen.all_null, seen.may_be_null, seen.may_be_nan)), strict=True)
    )


def test_null_is_nan_where_it_has_a_value() -> None:
    yes = np.eye(4, dtype=np.bool_)[:, :, None]
    seen = blocks(4, unknown=yes[0], all_null=yes[1], may_be_null=yes[2] | yes[1], may_be_nan=yes[3])
    found = as_read(seen, Pipeline(NETWORK, True, {}, {0: 7.0}, {}))
    assert flags_of(found) == [
        (True, False, False, True),
        (False, False, False, True),
        (False, False, False, True),
        (False, False, False, True),
    ]
    assert found.lower[:, 0].tolist() == [1, 7, 1, 1]
    assert found.upper[:, 0].tolist() == [2, 7, 2, 2]
    assert as_read(seen, NETWORK) is seen
    assert flags_of(seen)[1] == (False, True, True, False), "what was there stays"


def test_pipelines_of_the_same_blocks_are_told_apart() -> None:
    seen = blocks(1, all_null=np.ones((1, 1), np.bool_))
    for fill in (3.0, 4.0, 3.0):
        pipeline = Pipeline(NETWORK, True, {}, {0: fill}, {})
        assert as_read(seen, pipeline).lower.tolist() == [[fill]]
        assert as_read(seen, pipeline) is as_read(seen, pipeline), "made once"


def test_texts_are_places_between_those_of_their_limits() -> None:
    words = Words(("b", "d"))
    limits = TextLimits(np.array([b"b", b"a", None, b"c"], object), np.array([b"d", b"a", b"b", None], object))
    yes = np.ones((4, 1), np.bool_)
    found = as_read(
        blocks(4, texts={0: limits}, unknown=yes, may_be_nan=yes), Pipeline(NETWORK, True, {0: words}, {}, {})
    )
    last = words.n_places - 1
    assert found.lower[:, 0].tolist() == [words.place(b"b"), words.place(b"a"), 0, words.place(b"c")]
    assert found.upper[:, 0].tolist() == [words.place(b"d"), words.place(b"a"), words.place(b"b"), last]
    assert flags_of(found) == [(False, False, False, False)] * 4
    everything = as_read(blocks(1), Pipeline(NETWORK, True, {0: words}, {}, {}))
    assert (everything.lower[0, 0], everything.upper[0, 0]) == (0, last)


def test_numbers_that_are_refused_are_null() -> None:
    """Only a block of one box that is one accepted number is certain to be accepted."""
    seen = blocks(
        4,
        lower=np.array([[1.0], [1.0], [3.0], [1.0], [1.0]]),
        upper=np.array([[1.0], [2.0], [3.0], [1.0], [1.0]]),
        block=np.array([0, 1, 2, 3, 3]),
        may_be_nan=np.array([[True], [False], [False], [False]]),
    )
    found = as_read(seen, Pipeline(NETWORK, False, {}, {}, {0: np.array([1.0, 2.0])}))
    assert flags_of(found) == [
        (False, False, True, False),
        (False, False, True, False),
        (False, False, True, False),
        (False, False, True, False),
    ]
    numbers = np.array([[1.0], [3.0]])
    again = as_read(
        blocks(2, lower=numbers, upper=numbers), Pipeline(NETWORK, False, {}, {}, {0: np.array([1.0, 2.0])})
    )
    assert again.may_be_null[:, 0].tolist() == [False, True]
