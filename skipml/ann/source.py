"""The rows that an index is made of: Parquet files larger than memory, or an Arrow table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skipml.ann.postings import OWN_NAMES
from skipml.ann.vectors import is_int8
from skipml.errors import FileChangedError, FooterError, SchemaError
from skipml.identity import FileIdentity, Path, expand, identity

_BATCH_ROWS = 2048
_MOST_CHUNK_ROWS, _LEAST_CHUNK_ROWS = 1 << 18, 1024
_COPIES = 12
"""How many times a chunk is held while it is worked on."""
_READ_BYTES = 1 << 20
"""Read from a column at a time, so that a row group may be larger than memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Rows in order, of one schema, with vectors in `column`."""

    column: str
    schema: pa.Schema
    n_rows: int
    table: pa.Table | None = None
    files: tuple[str, ...] = ()
    file_rows: tuple[int, ...] = ()
    identities: tuple[FileIdentity, ...] = ()

    @classmethod
    def open(cls, source: Path | Sequence[Path] | pa.Table, column: str) -> Source:
        """Raises FooterError for a file that cannot be read, SchemaError for files whose schemas differ or a column
        that holds no vectors.
        """
        if isinstance(source, pa.Table):
            return cls(column, _checked(source.schema, column, "the table"), source.num_rows, source)
        files = expand(source)
        identities, schemas, rows = [], [], []
        for file in files:
            try:
                identities.append(identity(file))
                rows.append(int(pq.read_metadata(file).num_rows))
                schemas.append(pq.read_schema(file).remove_metadata())
            except (OSError, pa.ArrowException) as error:
                raise FooterError(f"'{file}' cannot be read: {error}; write the file again") from error
            if schemas[-1] != schemas[0]:
                raise SchemaError(f"'{file}' has another schema than '{files[0]}'; index files of one schema")
        schema = _checked(schemas[0], column, f"'{files[0]}'")
        return cls(column, schema, sum(rows), None, files, tuple(rows), tuple(identities))

    @property
    def is_int8(self) -> bool:
        """Whether the vectors are int8."""
        return is_int8(self.schema.field(self.column).type, f"column '{self.column}'")

    def state(self) -> Any:
        """What tells this source from another; None for a table, which nothing does."""
        return None if self.table is not None else [[f, asdict(i)] for f, i in zip(self.files, self.identities)]  # noqa: B905

    def batches(
        self, first_row: int = 0, columns: Sequence[str] | None = None, end: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches from a row on, up to the end or to another row, each with the number of its first row."""
        names = self.schema.names if columns is None else list(columns)
        end = self.n_rows if end is None else end
        if self.table is not None:
            start = first_row
            for batch in self.table.select(names).slice(first_row, end - first_row).to_batches(_BATCH_ROWS):
                yield start, batch
                start += batch.num_rows
            return
        start = 0
        for file, n_rows in zip(self.files, self.file_rows, strict=True):
            if start < end and start + n_rows > first_row:
                for first, batch in self._file(file, start, first_row, names):
                    if first >= end:
                        break
                    yield first, batch.slice(0, end - first)
            start += n_rows

    def _file(
        self, file: str, start: int, first_row: int, names: Sequence[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        with pq.ParquetFile(file, buffer_size=_READ_BYTES) as opened:
            for group in range(opened.num_row_groups):
                n = opened.metadata.row_group(group).num_rows
                if start + n > first_row:
                    yield from self._group(opened, group, start, first_row, names)
                start += n

    def _group(
        self, opened: pq.ParquetFile, group: int, start: int, first_row: int, names: Sequence[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        for batch in opened.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(names), use_threads=False):
            end = start + batch.num_rows
            if end > first_row:
                skip = max(0, first_row - start)
                yield start + skip, batch.slice(skip).select(names)
            start = end

    def ranges(self, row_bytes: int, memory: int) -> list[tuple[int, int]]:
        """Runs of rows, first and behind the last, that may be worked on in so much memory, if a row takes `row_bytes`
        in the space and little besides: what the footers tell. There is one at least.
        """
        starts = range(0, max(self.n_rows, 1), _limit(row_bytes, memory))
        return [(start, min(start + starts.step, self.n_rows)) for start in starts]

    def chunks(
        self, first_row: int, row_bytes: int, memory: int, end: int | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Rows from a row on, up to the end or to another row, in chunks that can be worked on in so much memory, if a
        row takes `row_bytes` in the space; each with the number of its first row.
        """
        limit = _limit(row_bytes, memory)
        held: list[pa.RecordBatch] = []
        rows = size = 0
        for _, batch in self.batches(first_row, end=end):
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= limit or size >= memory // 4:
                yield first_row, pa.Table.from_batches(held)
                first_row, held, rows, size = first_row + rows, [], 0, 0
        if held:
            yield first_row, pa.Table.from_batches(held)

    def check_unchanged(self) -> None:
        """Raise FileChangedError if a file is not what it was."""
        for file, before in zip(self.files, self.identities, strict=True):
            try:
                changed = identity(file) != before
            except OSError:
                changed = True
            if changed:
                raise FileChangedError(f"'{file}' changed while it was indexed; nothing was written: run it again")


def _limit(row_bytes: int, memory: int) -> int:
    """Rows of a chunk."""
    return max(_LEAST_CHUNK_ROWS, min(_MOST_CHUNK_ROWS, memory // (_COPIES * row_bytes)))


def _checked(schema: pa.Schema, column: str, where: str) -> pa.Schema:
    if column not in schema.names:
        raise SchemaError(f"{where} has no column {column!r}; its columns are {', '.join(schema.names)}")
    if len(set(schema.names)) < len(schema.names):
        raise SchemaError(f"{where} has two columns of one name; rename one")
    taken = [name for name in schema.names if name.lower() in OWN_NAMES]
    if taken:
        raise SchemaError(f"{where} has a column {taken[0]!r}, a name that the index needs itself; rename it")
    is_int8(schema.field(column).type, f"column {column!r} of {where}")
    return schema.remove_metadata()
