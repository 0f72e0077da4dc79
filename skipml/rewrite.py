"""Rewrite Parquet files as one, in another order: through DuckDB, out of core, and compared with the source before the
new file gets its name.

DuckDB sorts (it spills beside the target) and pyarrow writes: row groups of any size are exact, and fields keep their
metadata, codecs and nullability. What pyarrow leaves out is how many NaN a float column has; it is added to the footer,
because a row group that may hold NaN cannot be skipped by `score > limit`.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.errors import EnrichmentError, FileChangedError, FooterError, SchemaError
from skipml.features import model_inputs
from skipml.identity import FileIdentity, identity
from skipml.parquet.nan_counts import record_nan_counts
from skipml.partitions import partition_values

T = TypeVar("T")
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Tell = Callable[[float], None]

MEMORY_SHARE = 0.5
"""Of the memory that DuckDB would take (80 % of the machine or container)."""
_BYTES_PER_THREAD = 2**28
"""What a thread of DuckDB needs to sort wide rows without failing."""
_LEAST_BATCH_ROWS, _MOST_BATCH_ROWS = 2048, 122_880
_SORTED, _WRITTEN = 0.6, 0.9
"""Shares of the whole when the rows are sorted and when they are written; the rest is comparing them."""
_POLL_SECONDS = 0.1
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_EPOCH = re.compile(r"DATE|TIME(STAMP(_S|_MS|_NS)?( WITH TIME ZONE)?|_NS)?")
_NUMBER = re.compile(r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")
_NESTED = re.compile(r".*\]|(STRUCT|MAP|UNION|VARIANT)\b.*", re.DOTALL)
_WRITERS_OWN = (b"ARROW:", b"duckdb.", b"skipml")
"""Key-value metadata that speaks of the old file's bytes."""
_CODECS = {"UNCOMPRESSED": "NONE"}


@contextmanager
def connection(folder: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private DuckDB that spills into the folder, with no more threads than its memory feeds."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "arrow_lossless_conversion": True,
        "temp_directory": os.path.join(folder, "spill"),
    }
    with duckdb.connect(":memory:", config=config) as con:
        con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        number, unit = str(con.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]).split()
        memory = int(float(number) * _UNITS[unit] * MEMORY_SHARE)
        threads = int(con.execute("SELECT current_setting('threads')").fetchall()[0][0])
        con.execute(f"SET memory_limit = '{memory}B'")
        con.execute(f"SET threads = {max(1, min(threads, memory // _BYTES_PER_THREAD))}")
        yield con


def watched(con: duckdb.DuckDBPyConnection, action: Callable[[], T], tell: Tell) -> T:
    """Run an action on the connection in a thread and tell the share that is done; an interrupt ends the query."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(action)
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except TimeoutError:
                _tell_progress(con, tell)
            except BaseException:
                con.interrupt()
                raise


def _tell_progress(con: duckdb.DuckDBPyConnection, tell: Tell) -> None:
    try:
        tell(max(0.0, con.query_progress() / 100))
    except BaseException:
        con.interrupt()
        raise


def quote(name: str) -> str:
    """A column name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def relation(files: Sequence[str]) -> str:
    """The table function that reads exactly these files, and only what is in them."""
    paths = ", ".join("'" + glob.escape(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


@dataclass(frozen=True, slots=True)
class Source:
    """The Parquet files to rewrite, all of one schema."""

    files: tuple[str, ...]
    identities: tuple[FileIdentity, ...]
    schema: pa.Schema
    sql_types: Mapping[str, str]
    """By column name as DuckDB has it, in order."""
    n_rows: int
    n_bytes: int

    @classmethod
    def open(cls, con: duckdb.DuckDBPyConnection, files: Sequence[str]) -> Source:
        """Raises FooterError for a file that cannot be read, SchemaError where files differ or rewriting would change
        a column.
        """
        identities, metadata, schemas = [], [], []
        for file in files:
            try:
                identities.append(identity(file))
                metadata.append(pq.read_metadata(file))
                schemas.append(pq.read_schema(file))
            except (OSError, pa.ArrowException) as error:
                raise FooterError(f"'{file}' cannot be read: {error}; write the file again") from error
        schema = _common_schema(files, schemas)
        described = con.execute(f"DESCRIBE FROM {relation(files)}").fetchall()
        source = cls(
            tuple(files),
            tuple(identities),
            schema,
            {row[0]: row[1] for row in described},
            sum(each.num_rows for each in metadata),
            sum(each.size for each in identities),
        )
        arrow = con.sql(f"FROM {relation(files)} LIMIT 0").to_arrow_table().schema
        for field, seen in zip(schema, arrow, strict=True):
            if not _holds(seen.type, field.type):
                raise SchemaError(
                    f"'{files[0]}': column '{field.name}' is {field.type}, which DuckDB {duckdb.__version__} reads as "
                    f"{seen.type}: rewriting would change it; cast it to a type DuckDB has"
                )
        return source

    def column(self, name: str) -> str:
        """The column a name means, as DuckDB spells it; raises SchemaError where there is none that orders rows."""
        names = list(self.sql_types)
        hits = [each for each in names if each == name] or [each for each in names if each.lower() == name.lower()]
        if len(hits) != 1:
            what = f"has {len(hits)} columns" if hits else "has no column"
            raise SchemaError(f"'{self.files[0]}' {what} '{name}'; its columns are {', '.join(names)}")
        self.number(hits[0])
        return hits[0]

    def number(self, column: str) -> str:
        """SQL for the model input that a column stands for (see `skipml.features`), NULL and NaN kept."""
        kind = self.sql_types[column]
        if kind == "TIMESTAMPTZ_NS":
            return f"CAST(epoch(CAST({quote(column)} AS TIMESTAMP WITH TIME ZONE)) AS DOUBLE)"
        if _EPOCH.fullmatch(kind):
            return f"CAST(epoch({quote(column)}) AS DOUBLE)"
        if _NUMBER.fullmatch(kind):
            return f"CAST({quote(column)} AS DOUBLE)"
        raise SchemaError(
            f"'{self.files[0]}': column '{column}' is {kind}, which is no model input; "
            "name columns of numbers, dates or times"
        )

    def sample(self, con: duckdb.DuckDBPyConnection, columns: Sequence[str], n_rows: int) -> tuple[Floats, Bools]:
        """The model inputs of some rows, at random: float64 [n, d] and whether each is NULL, bool [n, d]."""
        numbers = ", ".join(self.number(column) for column in columns)
        sampled = con.sql(
            f"SELECT {numbers} FROM {relation(self.files)} USING SAMPLE reservoir({n_rows} ROWS) REPEATABLE (1)"
        ).to_arrow_table()
        return inputs_of(sampled.columns)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Raises FileChangedError in the end, or instead of another error, if a file is not what it was."""
        try:
            yield
        except Exception:
            self._check_unchanged()
            raise
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        for file, before in zip(self.files, self.identities, strict=True):
            if not os.path.exists(file) or identity(file) != before:
                raise FileChangedError(f"'{file}' changed while it was rewritten; nothing was written: run it again")


def inputs_of(columns: Sequence[pa.Array | pa.ChunkedArray]) -> tuple[Floats, Bools]:
    """Model inputs [n, d] and NULL flags [n, d] of Arrow columns."""
    names = [str(i) for i in range(len(columns))]
    return model_inputs(pa.Table.from_arrays(list(columns), names=names), names)


def _common_schema(files: Sequence[str], schemas: Sequence[pa.Schema]) -> pa.Schema:
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        if schema.remove_metadata() != first.remove_metadata():
            raise SchemaError(f"'{file}' has another schema than '{files[0]}'; rewrite files of one schema")
        if partition_values(file) != partition_values(files[0]):
            raise SchemaError(
                f"'{file}' and '{files[0]}' are in different partitions, which one file cannot say; "
                "rewrite each partition by itself"
            )
    kept = {key: value for key, value in (first.metadata or {}).items() if not key.startswith(_WRITERS_OWN)}
    return first.with_metadata(kept or None)


def _holds(seen: pa.DataType, own: pa.DataType) -> bool:
    """Whether every value of a file's type comes back unchanged from the type that DuckDB gives it."""
    if seen == own or (isinstance(seen, pa.Bool8Type) and pa.types.is_boolean(own)):
        return True
    if pa.types.is_dictionary(own):
        return _holds(seen, own.value_type)
    if pa.types.is_struct(own):
        return (
            pa.types.is_struct(seen)
            and [field.name for field in seen] == [field.name for field in own]
            and all(_holds(a.type, b.type) for a, b in zip(seen, own, strict=True))
        )
    if pa.types.is_map(own):
        return pa.types.is_map(seen) and _holds(seen.key_type, own.key_type) and _holds(seen.item_type, own.item_type)
    if pa.types.is_list(own) or pa.types.is_large_list(own) or pa.types.is_fixed_size_list(own):
        return pa.types.is_list(seen) and _holds(seen.value_type, own.value_type)
    if pa.types.is_timestamp(own):
        finer = _is_finer(seen, own)
        return pa.types.is_timestamp(seen) and (seen.tz is None) == (own.tz is None) and finer
    if pa.types.is_time(own):
        return pa.types.is_time(seen) and _is_finer(seen, own)
    return any(is_kind(own) and any(is_seen(seen) for is_seen in fits) for is_kind, fits in _FITS)


def _is_finer(seen: pa.DataType, own: pa.DataType) -> bool:
    units = ("s", "ms", "us", "ns")
    return hasattr(seen, "unit") and units.index(seen.unit) >= units.index(own.unit)


_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_FITS = (
    *((is_kind, _TEXT) for is_kind in _TEXT),
    *((is_kind, _BYTES) for is_kind in (*_BYTES, pa.types.is_fixed_size_binary)),
    (pa.types.is_float16, (pa.types.is_float32,)),
    (pa.types.is_duration, (pa.types.is_int64,)),
    (pa.types.is_date64, (pa.types.is_date32,)),
)


@dataclass(frozen=True, slots=True)
class Writer:
    """How the new file is written."""

    schema: pa.Schema
    row_group_rows: int
    compression: str | Mapping[str, str]
    """One codec, or one for each leaf column by its path."""
    integer_decimals: bool

    @classmethod
    def like(cls, con: duckdb.DuckDBPyConnection, source: Source, row_group_rows: int, probe: str) -> Writer:
        """The codecs and types of the source; `probe` is the name of a file to try them on.

        Raises SchemaError where the new file would have another type for DuckDB.
        """
        empty = cls(source.schema, row_group_rows, "none", False)
        empty.write(iter(()), probe, lambda rows: None)
        for column, kind, *_ in con.execute(f"DESCRIBE FROM {relation([probe])}").fetchall():
            if source.sql_types.get(column) != kind:
                raise SchemaError(
                    f"'{source.files[0]}': column '{column}' is {source.sql_types.get(column)} and would be {kind} "
                    "after rewriting; cast it to a type Arrow has"
                )
        leaves = pq.read_metadata(probe).schema
        paths = [leaves.column(i).path for i in range(len(leaves))]
        metadata = next((found for file in source.files if (found := pq.read_metadata(file)).num_row_groups), None)
        if metadata is None:
            return cls(source.schema, row_group_rows, "snappy", False)
        chunks = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
        codecs = {
            path: _CODECS.get(chunk.compression, chunk.compression) for path, chunk in zip(paths, chunks, strict=True)
        }
        integers = any(
            metadata.schema.column(i).logical_type.type == "DECIMAL" and chunk.physical_type in ("INT32", "INT64")
            for i, chunk in enumerate(chunks)
        )
        return cls(source.schema, row_group_rows, codecs, integers)

    def write(self, batches: Iterator[pa.RecordBatch], path: str, tell: Callable[[int], None]) -> None:
        """Write all rows in their order and tell how many are written; raises OSError and pyarrow's errors."""
        floats = [i for i, field in enumerate(self.schema) if pa.types.is_floating(field.type)]
        nan_counts: list[list[int]] = []
        written = 0
        with pq.ParquetWriter(
            path,
            self.schema,
            compression=dict(self.compression) if isinstance(self.compression, Mapping) else self.compression,
            store_decimal_as_integer=self.integer_decimals,
        ) as writer:
            for rows in _in_groups(batches, self.row_group_rows):
                columns = [c.cast(f.type) for c, f in zip(rows.columns, self.schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), row_group_size=len(rows))
                nan_counts.append([pc.sum(pc.is_nan(rows.column(i))).as_py() or 0 for i in floats])
                written += len(rows)
                tell(written)
        if floats and nan_counts:
            first_leaf = np.cumsum([0, *(_leaves(field.type) for field in self.schema)])
            record_nan_counts(path, first_leaf[floats], np.array(nan_counts))


def _in_groups(batches: Iterator[pa.RecordBatch], n_rows: int) -> Iterator[pa.Table]:
    """The same rows as tables of exactly that many, the last one of what is left."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        held.append(batch)
        n_held += len(batch)
        while n_held >= n_rows:
            rows = pa.Table.from_batches(held)
            yield rows.slice(0, n_rows)
            held, n_held = rows.slice(n_rows).to_batches(), n_held - n_rows
    if n_held:
        yield pa.Table.from_batches(held)


def _leaves(kind: pa.DataType) -> int:
    """Parquet columns that an Arrow column becomes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_nested(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    return 1


def checksum(con: duckdb.DuckDBPyConnection, files: Sequence[str], sql_types: Mapping[str, str]) -> tuple[int, ...]:
    """The number of rows, and sum and XOR of a hash of each: equal for equal multisets of rows.

    DuckDB's hash knows neither the sign of zero nor NULL from an empty list, so signs and texts are hashed as well.
    """
    parts = []
    for column, kind in sql_types.items():
        name = quote(column)
        parts.append(name)
        if kind in ("FLOAT", "DOUBLE"):
            parts.append(f"signbit({name}) AND NOT isnan({name})")
        elif _NESTED.fullmatch(kind):
            parts.append(f"CAST({name} AS VARCHAR)")
    row = f"hash({', '.join(parts)})"
    sums = f"SELECT count(*), coalesce(sum({row}), 0), coalesce(bit_xor({row}), 0) FROM {relation(files)}"
    return tuple(int(value) for value in con.execute(sums).fetchall()[0])


def write_sorted(
    con: duckdb.DuckDBPyConnection, source: Source, order_by: str, writer: Writer, path: str, *, tell: Tell
) -> None:
    """Write the source's rows in the order of an SQL expression to a new file, and compare its rows with the source's.

    Raises EnrichmentError where they differ.
    """
    sort = f"FROM {relation(source.files)} ORDER BY {order_by}"
    size = min(max(writer.row_group_rows, _LEAST_BATCH_ROWS), _MOST_BATCH_ROWS)
    n = max(1, source.n_rows)
    batches = watched(con, lambda: con.sql(sort).to_arrow_reader(size), lambda share: tell(_SORTED * share))
    writer.write(iter(batches), path, lambda rows: tell(_SORTED + (_WRITTEN - _SORTED) * rows / n))
    files = {"source": source.files, "new file": (path,)}
    sums = {
        name: watched(con, lambda chosen=chosen: checksum(con, chosen, source.sql_types), lambda _: None)  # type: ignore[misc]
        for name, chosen in files.items()
    }
    if sums["source"] != sums["new file"]:
        raise EnrichmentError(
            f"the rewritten rows of '{source.files[0]}' are not those of the source (rows, checksums: {sums}); "
            "nothing was written: check the disk, and report this if it happens again"
        )
