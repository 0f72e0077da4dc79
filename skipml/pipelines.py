"""Models that read more than numbers: text, and NULL where an imputer or an encoder gives it a value.

Inside, everything is a number and NULL is NaN. Text is its place among the words that the encoders know, in the order
of their bytes: word k is 2 k + 1, any other text before word k is 2 k. So limits of text are limits of numbers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from skipml.function import Function
from skipml.network import Array

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """The words of a text column that are told apart, ascending by their bytes."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """Those in any order."""
        return cls(tuple(sorted(set(words), key=str.encode)))

    @property
    def n_places(self) -> int:
        """Places go from 0 to one less."""
        return 2 * len(self.words) + 1

    def place(self, text: bytes) -> int:
        """The place of a text."""
        k = bisect_left(self._encoded, text)
        return 2 * k + (k < len(self.words) and self._encoded[k] == text)

    def places(self, column: pa.Array | pa.ChunkedArray) -> Floats:
        """The places [n] of a column of text, NaN for NULL; 0 stands for all texts that are none of the words."""
        if not pa.types.is_string(column.type):
            column = column.cast(pa.string())
        known = pc.index_in(column, value_set=pa.array(self.words, column.type))
        odd = pc.add(pc.multiply(pc.cast(known, pa.float64()), 2.0), 1.0)
        found = np.asarray(pc.fill_null(odd, 0.0).to_numpy(**_COPY[isinstance(column, pa.ChunkedArray)]))
        if column.null_count:
            missing = np.asarray(pc.is_null(column).to_numpy(**_COPY[isinstance(column, pa.ChunkedArray)]))
            found = np.where(missing, np.nan, found)
        return found

    @cached_property
    def _encoded(self) -> list[bytes]:
        return [word.encode() for word in self.words]


_COPY: tuple[dict[str, Any], dict[str, Any]] = ({"zero_copy_only": False}, {})
"""How an array, and a chunked one, are made numpy's."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A function over numbers with what it reads: `words` of inputs that are text, `fills` for those whose NULL and NaN
    have a value (a number that may stand for them, if not always the same one), and for some inputs the only numbers
    that are `accepted`: a row with another has no score.
    """

    inner: Function
    takes_nan: bool
    words: Mapping[int, Words]
    fills: Mapping[int, float]
    accepted: Mapping[int, Floats]

    @property
    def n_inputs(self) -> int:
        """Those of the function inside."""
        return self.inner.n_inputs

    @property
    def n_outputs(self) -> int:
        """Those of the function inside."""
        return self.inner.n_outputs

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """That of the function inside."""
        return self.inner.input_dtype

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """That of the function inside."""
        return self.inner.dtype

    @property
    def macs(self) -> int:
        """Those of the function inside."""
        return self.inner.macs

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on."""
        read = [sorted((i, words.words) for i, words in self.words.items()), sorted(self.fills.items())]
        refused = sorted((i, numbers.tolist()) for i, numbers in self.accepted.items())
        return hashlib.sha256(f"pipeline {self.inner.hash} {self.takes_nan} {read} {refused}".encode()).hexdigest()

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs], text as its place and NULL as NaN."""
        return self.forward_columns(list(np.asarray(x).T))

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The same for rows given as one array [n] per input."""
        outputs = self.inner.forward_columns(columns)
        if not self.takes_nan:
            needed = [np.isnan(column) for i, column in enumerate(columns) if i not in self.fills]
            if needed:
                outputs[np.any(needed, axis=0)] = np.nan
        return outputs

    def has_no_score(self, i: int, column: Floats, null: Bools) -> Bools:
        """Which rows [n] an input leaves without a score, given its numbers [n] and where it is NULL [n]."""
        lacking = np.zeros(len(column), np.bool_) if i in self.fills else null
        if i in self.accepted:
            lacking = lacking | ~(np.isin(column, self.accepted[i]) | (np.isnan(column) & (i in self.fills)))
        return lacking


def takes_nan_in(function: Function) -> Bools:
    """For which inputs [d] NaN is a value."""
    fills = function.fills if isinstance(function, Pipeline) else {}
    return np.array([function.takes_nan or i in fills for i in range(function.n_inputs)], np.bool_)


def text_inputs(function: Function) -> Mapping[int, Words]:
    """The inputs that are text."""
    return function.words if isinstance(function, Pipeline) else {}
