"""Rows that are pulled out of DuckDB in large batches, scored in Python, and handed back to it as an Arrow stream.

An Arrow function is called for each 2,048 rows, under the GIL, and DuckDB spends 130 to 200 us on a call before the
model runs. A stream has that cost once per batch, scores on several threads, and never holds more than a few batches.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH_ROWS = 1 << 16
"""Large enough that the cost of a batch does not show beside scoring it, small enough to share out among threads."""

ArrowFunction = Callable[..., pa.Array]
"""A model as DuckDB calls it: one array per input, without NULL, gives an answer per row."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A column of answers: the function that gives them, and the positions of its inputs among the pulled columns."""

    answer: ArrowFunction
    inputs: tuple[int, ...]
    sees_null: bool = False
    """Whether it answers rows with a NULL too."""

    def __call__(self, columns: Sequence[pa.Array]) -> pa.Array:
        """The answers for the rows of some columns: NULL where an input is, as DuckDB has it, unless they see it."""
        inputs = [columns[i] for i in self.inputs]
        if self.sees_null or not any(column.null_count for column in inputs):
            return self.answer(*inputs)
        valid = functools.reduce(pc.and_, (column.is_valid() for column in inputs))
        answers = self.answer(*(column.filter(valid) for column in inputs))
        given = np.asarray(valid)
        return answers.take(pa.array(np.cumsum(given) - 1, mask=~given))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredStream:
    """What DuckDB scans in place of a table: the first pulled columns as they are, and a column for each model call.

    Each scan pulls anew, on a cursor of its own from `connect`, with the query `sql`.
    """

    sql: str
    schema: pa.Schema
    scored: tuple[Scored, ...]
    threads: int
    connect: Callable[[], duckdb.DuckDBPyConnection]

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        cursor = self.connect()
        with contextlib.closing(cursor):
            with contextlib.suppress(duckdb.Error):  # a locked configuration does not change any more
                cursor.execute("SET SESSION enable_progress_bar = false")
            pulled = cursor.sql(self.sql).to_arrow_reader(BATCH_ROWS)
            yield from map(self._with_answers, pulled) if self.threads == 1 else self._in_parallel(pulled)

    def _in_parallel(self, pulled: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The batches in their order, scored a few ahead."""
        with ThreadPoolExecutor(self.threads) as pool:
            ahead = deque[Any]()
            for batch in pulled:
                ahead.append(pool.submit(self._with_answers, batch))
                if len(ahead) > self.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _with_answers(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        kept = batch.columns[: len(self.schema) - len(self.scored)]
        answers = [answers(batch.columns) for answers in self.scored]
        return pa.RecordBatch.from_arrays([*kept, *answers], schema=self.schema)
