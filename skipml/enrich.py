"""Enrichment: one pass over Parquet files that stores per row group what their footers do not say: exact limits, NULL
and NaN counts, convex hulls of column pairs, and boxes.

A file is written to only when all of it has been read in one state, and in one step: whoever reads it meanwhile finds
the old metadata or the new. A file whose metadata was made with the same settings is left alone, so that a run that
was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.adviser import ROW_GROUPS, choose_pairs
from skipml.errors import EnrichmentError, SchemaError, SkipmlError
from skipml.features import model_inputs
from skipml.footers import Footers, read_footers
from skipml.identity import Path, expand
from skipml.metadata import boxes as boxes_of
from skipml.metadata import hulls
from skipml.metadata.format import BoxMetadata, ColumnMetadata, Metadata, PairMetadata
from skipml.metadata.loading import load
from skipml.metadata.storage import embed as write_embedded
from skipml.metadata.storage import write_sidecar
from skipml.metadata.tie import tie
from skipml.samples import Sample
from skipml.summaries import BOX_BITS, Summary, Wanted, summarise

Floats = NDArray[np.float64]
Pairs = Literal["auto", "all"] | Sequence[tuple[str, str]]
Progress = Callable[[str, int, int], None]
"""Called with a file, its rows read so far and its rows."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was done with one file; `pair_gains` is the mean share of the box of a pair that its hulls cut off."""

    path: str
    state: Literal["enriched", "up to date", "failed"]
    n_rows: int = 0
    n_row_groups: int = 0
    n_bytes: int = 0
    seconds: float = 0.0
    pair_gains: tuple[tuple[str, str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class EnrichReport:
    """What was done with each file."""

    files: tuple[FileReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {"files": [asdict(file) for file in self.files]}

    def __str__(self) -> str:
        counts = {state: sum(f.state == state for f in self.files) for state in ("enriched", "up to date", "failed")}
        done = [f for f in self.files if f.state == "enriched"]
        rows, seconds, groups = (sum(getattr(f, name) for f in done) for name in ("n_rows", "seconds", "n_row_groups"))
        lines = [", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no files"]
        if done:
            size = sum(f.n_bytes for f in done) / max(groups, 1)
            lines.append(f"{rows:,} rows in {seconds:.2f} s, {size:,.0f} bytes for each of {groups:,} row groups")
            gains = {(a, b): gain for f in done for a, b, gain in f.pair_gains}
            lines += [f"  hulls of {a}, {b} cut off {gain:.0%} of their boxes" for (a, b), gain in gains.items()]
        return "\n".join(lines + [f"  {f.path}: {f.error}" for f in self.files if f.error])


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides the metadata of a file besides its rows."""

    columns: tuple[str, ...] | None
    pairs: Pairs
    hull_bytes: int
    boxes: int

    def texts(self) -> dict[str, str]:
        return {
            "columns": "all" if self.columns is None else repr(self.columns),
            "pairs": self.pairs if isinstance(self.pairs, str) else repr(tuple(map(tuple, self.pairs))),
            "hull bytes": str(self.hull_bytes),
            "boxes": str(self.boxes),
        }


def enrich(
    paths: Path | Sequence[Path],
    columns: Sequence[str] | None = None,
    *,
    pairs: Pairs = "auto",
    hull_bytes: int = 45,
    boxes: int = 0,
    embed: bool = False,
    root: Path | None = None,
    progress: Progress | None = None,
) -> EnrichReport:
    """Store metadata of Parquet files, beside them as `NAME.parquet.skipml`, below `root`, or with `embed` in them.

    `columns` are model inputs, all that can be by default; `pairs` get a convex hull of `hull_bytes` (8, 13 or 45) each
    ("auto": those by which more is skipped on a sample, see `recommend`); `boxes` is how many boxes over all
    columns a row group gets. Row groups are read in parallel, by as many threads as Arrow has
    (`pyarrow.set_cpu_count`). Files that cannot be enriched do not stop the others; EnrichmentError at the end names
    them. Raises FooterError where a path matches no file.
    """
    if hull_bytes not in hulls.SIZES:
        raise EnrichmentError(f"hulls have {', '.join(map(str, hulls.SIZES))} bytes, not {hull_bytes}")
    if boxes < 0 or (embed and root is not None):
        raise EnrichmentError("boxes is a count, and embedded metadata has no root: choose one place")
    if pairs not in ("auto", "all") and (isinstance(pairs, str) or any(len(pair) != 2 for pair in pairs)):
        raise EnrichmentError(f"pairs are 'auto', 'all' or a list of pairs of columns, not {pairs!r}")
    if isinstance(columns, str):
        raise EnrichmentError(f"columns are a list of names, not the text {columns!r}: write [{columns!r}]")
    settings = _Settings(None if columns is None else tuple(columns), pairs, hull_bytes, boxes)
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        files = [_enrich_file(path, settings, _Target(embed, root), pool, progress) for path in expand(paths)]
    report = EnrichReport(tuple(files))
    if any(file.state == "failed" for file in files):
        raise EnrichmentError(f"some files could not be enriched; the others were:\n{report}")
    return report


@dataclass(frozen=True, slots=True)
class _Target:
    embed: bool
    root: Path | None

    def write(self, path: str, metadata: Metadata, state: Any) -> None:
        if self.embed:
            write_embedded(path, metadata, state)
        else:
            write_sidecar(path, metadata, state, self.root)


def _enrich_file(
    path: str, settings: _Settings, target: _Target, pool: ThreadPoolExecutor, progress: Progress | None
) -> FileReport:
    started = perf_counter()
    try:
        loaded = load(path, target.root)
        old = loaded.metadata if loaded.is_embedded == target.embed else None
        if old is not None and dict(old.settings) == settings.texts():
            return FileReport(path, "up to date", int(old.n_rows.sum()), len(old))
        state = tie(path)
        metadata, gains = _read(path, settings, pool, progress)
        target.write(path, metadata, state)
    except (SkipmlError, OSError, pa.ArrowException) as error:
        return FileReport(path, "failed", error=f"{type(error).__name__}: {error}")
    n_bytes = sum(pair.hulls.nbytes for pair in metadata.pairs) + sum(box.boxes.nbytes for box in metadata.boxes)
    n_bytes += 32 * len(metadata) * len(metadata.columns)
    seconds = perf_counter() - started
    return FileReport(path, "enriched", int(metadata.n_rows.sum()), len(metadata), n_bytes, seconds, gains)


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    # Arrow ends the process on encrypted columns, so our own reader looks first.
    read_footers([path], [], strict=True)
    with pq.ParquetFile(path) as file:
        yield file


def _read(
    path: str, settings: _Settings, pool: ThreadPoolExecutor, progress: Progress | None
) -> tuple[Metadata, tuple[tuple[str, str, float], ...]]:
    with _opened(path) as file:
        names = _columns(file, path, settings)
        footers = read_footers([path], names, strict=True)
        pairs, gains = _pairs(_Source(path, file.metadata, names), settings)
        rows_read = 0
        blocks: list[Summary] = []
        source, wanted = _Source(path, file.metadata, names), Wanted(names, pairs, settings.hull_bytes, settings.boxes)
        for block in pool.map(lambda group: summarise(source.read(group), wanted), range(file.num_row_groups)):
            blocks.append(block)
            rows_read += block.n_rows
            if progress is not None:
                progress(path, rows_read, file.metadata.num_rows)
    return _metadata(blocks, names, footers, pairs, settings), gains


def _columns(file: pq.ParquetFile, path: str, settings: _Settings) -> tuple[str, ...]:
    """The columns to enrich, as the file spells them; raises SchemaError for one that is no model input."""
    schema = file.schema_arrow
    counts = Counter(name.lower() for name in schema.names)
    if settings.columns is None:
        return tuple(name for name in schema.names if counts[name.lower()] == 1 and _is_input(schema, name))
    spelled = {name.lower(): name for name in schema.names}
    names = tuple(dict.fromkeys(spelled.get(name.lower(), name) for name in settings.columns))
    for name in names:
        if counts[name.lower()] > 1:
            raise SchemaError(f"{path}: several columns are named {name!r} but for case; rename them to enrich one")
        try:
            model_inputs(schema.empty_table(), [name])
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error
    return names


def _is_input(schema: pa.Schema, name: str) -> bool:
    try:
        model_inputs(schema.empty_table(), [name])
    except SchemaError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Source:
    """A file whose footer is parsed once for all its row groups, and the columns to read."""

    path: str
    metadata: pq.FileMetaData
    names: Sequence[str]

    def read(self, group: int) -> pa.Table:
        with pq.ParquetFile(self.path, metadata=self.metadata, coerce_int96_timestamp_unit="us") as file:
            return file.read_row_group(group, columns=list(self.names), use_threads=False)


def _pairs(
    source: _Source, settings: _Settings
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str, float], ...]]:
    """The pairs to store, and what share of the box the hulls of each cut off on a sample of the row groups."""
    names, n_groups = source.names, source.metadata.num_row_groups
    spelled = {name.lower(): name for name in names}
    if isinstance(settings.pairs, str):
        wanted = list(combinations(names, 2))
    else:
        wanted = [(spelled.get(a.lower(), a), spelled.get(b.lower(), b)) for a, b in settings.pairs]
        unknown = [name for pair in wanted for name in pair if name not in names]
        if unknown:
            raise SchemaError(
                f"{source.path}: the pair column {unknown[0]!r} is not among the columns {', '.join(names)}"
            )
    if not wanted or not n_groups:
        return tuple(wanted), ()
    sampled = np.unique(np.linspace(0, n_groups - 1, ROW_GROUPS).astype(np.int64)).tolist()
    sample = Sample(names, map(source.read, sampled))
    if settings.pairs == "auto":
        wanted = list(choose_pairs(sample, hull_bytes=settings.hull_bytes)[0])
    cut = [sample.share_cut(pair, settings.hull_bytes) for pair in wanted]
    order = np.argsort(np.negative(cut), kind="stable").tolist()
    return tuple(wanted[i] for i in order), tuple((*wanted[i], cut[i]) for i in order)


def _metadata(
    blocks: Sequence[Summary],
    names: Sequence[str],
    footers: Footers,
    pairs: Sequence[tuple[str, str]],
    settings: _Settings,
) -> Metadata:
    def column(i: int, name: str) -> ColumnMetadata:
        return ColumnMetadata(
            name=name,
            sql_type=footers.columns[name].sql_type,
            lower=np.array([block.lower[i] for block in blocks], np.float64),
            upper=np.array([block.upper[i] for block in blocks], np.float64),
            null_count=np.array([block.null_count[i] for block in blocks], np.int64),
            nan_count=np.array([block.nan_count[i] for block in blocks], np.int64),
        )

    def payloads(arrays: Sequence[NDArray[np.uint8]], size: int) -> NDArray[np.uint8]:
        return np.array(arrays, np.uint8).reshape(len(blocks), size)

    box_size = boxes_of.size(settings.boxes, len(names), BOX_BITS) if settings.boxes else 0
    stored = BoxMetadata(tuple(names), BOX_BITS, payloads([block.boxes for block in blocks], box_size))
    return Metadata(
        row_group=footers.row_group,
        first_row=footers.first_row,
        n_rows=footers.n_rows,
        columns=tuple(column(i, name) for i, name in enumerate(names)),
        pairs=tuple(
            PairMetadata(pair, payloads([block.hulls[i] for block in blocks], settings.hull_bytes))
            for i, pair in enumerate(pairs)
        ),
        boxes=(stored,) if settings.boxes else (),
        settings=settings.texts(),
    )
