"""Enrichment: one pass over Parquet files that stores per block of rows what their footers do not say: exact limits,
NULL and NaN counts, convex hulls of column pairs, boxes, a few rows, which texts occur, and maps of the scores that
models give the rows.

A file is written to only when all of it has been read in one state, and in one step: whoever reads it meanwhile finds
the old metadata or the new. A file whose metadata was made with the same settings is left alone, so that a run that
was stopped goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skipml.adviser import ROW_GROUPS, choose_pairs
from skipml.distinct import distinct, text_columns
from skipml.enclosing import LARGEST, Directions, largest, principal, unit
from skipml.enrich_report import EnrichReport, FileReport
from skipml.errors import EnrichmentError, SchemaError, SkipmlError
from skipml.features import input_columns, vector_columns
from skipml.footers import Footers, read_footers
from skipml.heads import Head
from skipml.identity import Path, expand, metadata_root
from skipml.locations import absolute
from skipml.metadata import hulls
from skipml.metadata.contents import Metadata
from skipml.metadata.format import encode
from skipml.metadata.loading import load
from skipml.metadata.storage import embed as write_embedded
from skipml.metadata.storage import write_sidecar
from skipml.metadata.tie import tie
from skipml.parquet.reading import RowGroup, open_parquet, read_row_group
from skipml.pipelines import Pipeline
from skipml.samples import Sample
from skipml.scored import READS_MORE, Scorer
from skipml.scores import Model
from skipml.summaries import Summary, Wanted, metadata_of, summarise
from skipml.vectors import common_dimension, vectors_of

Pairs = Literal["auto", "all"] | Sequence[tuple[str, str]]
COMPONENTS = 16
"""Principal directions of a column of vectors that are stored by default."""
WORDS = 512
"""Distinct texts of a column that are told apart in a file by default."""
_SAMPLE = 2048
_MOST_OUTPUTS = 16
Progress = Callable[[str, int, int], None]
"""Called with a file, its rows read so far and its rows."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides the metadata of a file besides its rows."""

    columns: tuple[str, ...] | None
    pairs: Pairs
    hull_bytes: int
    boxes: int
    models: tuple[Model, ...]
    score_bytes: int
    witness_bytes: int
    block_rows: int | None
    components: int = COMPONENTS
    slices: int = 0
    words: int = WORDS

    def texts(self) -> dict[str, str]:
        return {
            "columns": "all" if self.columns is None else repr(self.columns),
            "pairs": self.pairs if isinstance(self.pairs, str) else repr(tuple(map(tuple, self.pairs))),
            "hull bytes": str(self.hull_bytes),
            "boxes": str(self.boxes),
            "models": "; ".join(f"{model.hash} of {', '.join(model.columns)}" for model in self.models),
            "score map bytes": str(self.score_bytes),
            "witness bytes": str(self.witness_bytes),
            "block rows": "row groups" if self.block_rows is None else str(self.block_rows),
            "words": str(self.words),
        } | ({} if self._usual else {"vectors": f"{self.components} components, {self.slices} slices"})

    @property
    def _usual(self) -> bool:
        """Whether vectors are stored as by default, which files enriched before know nothing of."""
        return (self.components, self.slices) == (COMPONENTS, 0)

    def check(self) -> None:
        """Raise EnrichmentError for settings that make no sense."""
        if self.hull_bytes not in hulls.SIZES:
            raise EnrichmentError(f"hulls have {', '.join(map(str, hulls.SIZES))} bytes, not {self.hull_bytes}")
        numbers = (self.boxes, self.score_bytes, self.witness_bytes, 1 if self.block_rows is None else self.block_rows)
        if not all(isinstance(number, int) for number in numbers):
            raise EnrichmentError(f"boxes, score_bytes, witness_bytes and block_rows are integers, not {numbers}")
        if min(self.components, self.slices, self.words) < 0:
            raise EnrichmentError("components, slices and words are counts: give 0 or more")
        if not all(isinstance(model, Model) for model in self.models):
            raise EnrichmentError("models are skipml.Model: load them with Model.load or Model.from_torch")
        if any(isinstance(model.function, Pipeline) for model in self.models):
            raise EnrichmentError(READS_MORE)
        if min(self.boxes, self.score_bytes, self.witness_bytes) < 0:
            raise EnrichmentError("boxes, score_bytes and witness_bytes are counts: give 0 or more")
        if self.block_rows is not None and self.block_rows < 1:
            raise EnrichmentError(f"a block has at least one row, not {self.block_rows}; None is the whole row group")
        pairs = self.pairs
        if pairs not in ("auto", "all") and (isinstance(pairs, str) or not all(map(_is_pair, pairs))):
            raise EnrichmentError(f"pairs are 'auto', 'all' or a list of pairs of two columns, not {pairs!r}")


def _is_pair(pair: Any) -> bool:
    return not isinstance(pair, str) and len(pair) == 2 and len({str(name).lower() for name in pair}) == 2


def enrich(  # noqa: PLR0913
    paths: Path | Sequence[Path],
    columns: Sequence[str] | None = None,
    *,
    pairs: Pairs = "auto",
    hull_bytes: int = 45,
    boxes: int = 0,
    models: Sequence[Model] = (),
    score_bytes: int = 32,
    witness_bytes: int = 0,
    block_rows: int | None = None,
    components: int = COMPONENTS,
    slices: int = 0,
    words: int = WORDS,
    embed: bool = False,
    root: Path | None = None,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
    filesystem: Any = None,
    executor: Executor | None = None,
) -> EnrichReport:
    """Store metadata of Parquet files, beside them as `NAME.parquet.skipml`, below `root`, or with `embed` in them.

    `columns` are model inputs, all that can be by default. `pairs` get a convex hull of `hull_bytes` (4, 8, 13 or 45)
    each; "auto": those by which more is skipped on a sample, see `recommend`. `boxes` is how many boxes over all
    columns a block gets. Of each of the `models`, whose columns are added to the others, limits of the scores are
    stored and a map of `score_bytes` of which scores occur. `witness_bytes` may be taken by rows: extreme ones and a
    sample. Blocks are the row groups, or runs of `block_rows` rows inside them. Columns of vectors, if they are named
    or one of the models reads them, get a ball, a box over as many principal `components` and over the direction of
    each linear model, and the distances of `slices`. Of columns of text the distinct texts of each block are stored, if
    the file has at most so many `words`; 0: none.

    Paths and `root` may be URLs, as in `plan`; nothing can be embedded in a file in a store.

    Row groups are read in parallel, by as many threads as Arrow has (`pyarrow.set_cpu_count`). With an `executor`, such
    as `engines.ray_executor.RayExecutor`, each file is a call of its own there, on one thread, and the metadata is the
    same byte for byte; its workers find the files under the same paths, and it is told to `progress` when it is done.
    Files that cannot be enriched do not stop the others; EnrichmentError at the end names them. Raises FooterError
    where a path matches no file.
    """
    if isinstance(columns, str):
        raise EnrichmentError(f"columns are a list of names, not the text {columns!r}: write [{columns!r}]")
    if embed and root is not None:
        raise EnrichmentError("embedded metadata has no root: choose one place")
    if isinstance(models, Model):
        raise EnrichmentError("models are a list of models: write [model]")
    wanted = None if columns is None else tuple(columns)
    settings = _Settings(wanted, pairs, hull_bytes, boxes, tuple(models), score_bytes, witness_bytes, block_rows)
    settings = replace(settings, components=components, slices=slices, words=words)
    settings.check()
    place = metadata_root(root, storage_options, filesystem)
    target = _Target(embed, None if place is None else absolute(place))
    found = expand(paths, storage_options, filesystem)
    if executor is not None:
        files = _elsewhere(executor, found, partial(_enrich_alone, settings, target), progress)
    else:
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            files = [_enrich_file(path, settings, target, pool, progress) for path in found]
    report = EnrichReport(tuple(files))
    if any(file.state == "failed" for file in files):
        failed = sum(file.state == "failed" for file in files)
        raise EnrichmentError(f"{failed} of {len(files)} files could not be enriched:\n{report}")
    return report


def _elsewhere(
    executor: Executor, paths: Sequence[str], enrich_file: Callable[[str], FileReport], progress: Progress | None
) -> list[FileReport]:
    """Enrich each file by a call on an executor, whose workers may have another working directory."""
    numbers = {executor.submit(enrich_file, absolute(path)): i for i, path in enumerate(paths)}
    reports = [FileReport(path, "failed") for path in paths]
    for future in as_completed(numbers):
        i = numbers[future]
        try:
            reports[i] = replace(future.result(), path=paths[i])
        except Exception as error:  # whatever became of the worker
            reports[i] = replace(reports[i], error=f"{type(error).__name__}: {error}")
        if progress is not None and reports[i].state == "enriched":
            progress(paths[i], reports[i].n_rows, reports[i].n_rows)
    return reports


def _enrich_alone(settings: _Settings, target: _Target, path: str) -> FileReport:
    with ThreadPoolExecutor(1) as pool:
        return _enrich_file(path, settings, target, pool, None)


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
            return FileReport(path, "up to date", int(old.n_rows.sum()), len(old.group_starts))
        state = tie(path)
        metadata, gains = _read(path, settings, pool, progress)
        target.write(path, metadata, state)
    except (SkipmlError, OSError, pa.ArrowException) as error:
        return FileReport(path, "failed", error=f"{type(error).__name__}: {error}")
    rows, groups, seconds = int(metadata.n_rows.sum()), len(metadata.group_starts), perf_counter() - started
    texts = tuple((t.column, len(t.words), int((t.sets[:, 0] >> 7).sum())) for t in metadata.texts)
    return FileReport(path, "enriched", rows, groups, len(encode(metadata, state)), seconds, gains, texts)


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    # Arrow ends the process on encrypted columns, so our own reader looks first.
    read_footers([path], [], strict=True)
    with open_parquet(path) as file:
        yield file


def _read(
    path: str, settings: _Settings, pool: ThreadPoolExecutor, progress: Progress | None
) -> tuple[Metadata, tuple[tuple[str, str, float], ...]]:
    with _opened(path) as file:
        needed = [name for model in settings.models for name in model.columns]
        vectors = vector_columns(file.schema_arrow, [*(settings.columns or ()), *needed])
        texts = text_columns(file.schema_arrow, settings.columns) if settings.words else ()
        names = input_columns(file.schema_arrow, _without(settings.columns, (*vectors, *texts)), path)
        names = input_columns(file.schema_arrow, [*names, *(_without(needed, vectors) or ())], path)
        footers = read_footers([path], [*names, *texts], strict=True)
        source = _Source(path, file.metadata, names, vectors)
        pairs, gains = _pairs(source, settings)
        wanted = Wanted(
            columns=names,
            pairs=pairs,
            hull_bytes=settings.hull_bytes,
            boxes=settings.boxes,
            scorers=tuple(dict.fromkeys(_scorer(model, (*names, *vectors), footers) for model in settings.models)),
            score_bytes=settings.score_bytes,
            witness_bytes=settings.witness_bytes,
            vectors=tuple(found for name in vectors if (found := _directions(source, name, settings)) is not None),
            texts=_repeating(replace(source, names=(), vectors=(), texts=texts), settings, footers),
            words=settings.words,
        )
        source = replace(source, texts=wanted.texts)
        rows_read = 0
        groups: list[list[Summary]] = []
        for blocks in pool.map(partial(_summaries, source, wanted, settings.block_rows), range(file.num_row_groups)):
            groups.append(blocks)
            rows_read += sum(block.n_rows for block in blocks)
            if progress is not None:
                progress(path, rows_read, file.metadata.num_rows)
    return metadata_of(groups, wanted, footers, settings.texts()), gains


def _summaries(source: _Source, wanted: Wanted, block_rows: int | None, group: int) -> list[Summary]:
    """Those of the blocks of a row group."""
    rows = source.read(group)
    step = block_rows or max(rows.num_rows, 1)
    return [summarise(rows.slice(start, step), wanted) for start in range(0, max(rows.num_rows, 1), step)]


def _scorer(model: Model, names: Sequence[str], footers: Footers) -> Scorer:
    """A model over the columns as a file spells them."""
    spelled = {name.lower(): name for name in names}
    columns = tuple(spelled[name.lower()] for name in model.columns)
    if isinstance(model.function, Head):
        return Scorer(model.function, columns, ("",))
    return Scorer(model.function, columns, tuple(footers.columns[name].sql_type for name in columns))


@dataclass(frozen=True, slots=True)
class _Source:
    """A file whose footer is parsed once for all its row groups, and the columns to read."""

    path: str
    metadata: pq.FileMetaData
    names: Sequence[str]
    vectors: Sequence[str] = ()
    texts: tuple[str, ...] = ()

    def read(self, group: int) -> pa.Table:
        wanted = (*self.names, *self.vectors, *self.texts)
        return read_row_group(RowGroup(self.path, group, wanted, self.texts), self.metadata)

    def sampled_groups(self) -> list[int]:
        """Some of the row groups, at equal distances."""
        n_groups = self.metadata.num_row_groups
        return list(map(int, np.unique(np.linspace(0, n_groups - 1, min(ROW_GROUPS, n_groups)).astype(np.int64))))


def _without(names: Sequence[str] | None, left_out: Sequence[str]) -> list[str] | None:
    lowered = {name.lower() for name in left_out}
    return None if names is None else [name for name in names if name.lower() not in lowered]


def _repeating(source: _Source, settings: _Settings, footers: Footers) -> tuple[str, ...]:
    """Those of the columns of text that DuckDB takes for such and that have few distinct texts in some of a sample of
    the row groups.
    """
    names = [name for name in source.texts if footers.columns[name].sql_type == "VARCHAR"]
    chosen: dict[str, None] = {}
    for group in source.sampled_groups()[:: ROW_GROUPS // 2 - 1]:
        left = tuple(name for name in names if name not in chosen)
        rows = replace(source, texts=left).read(group) if left else pa.table({})
        chosen |= {name: None for name in left if distinct(rows[name], settings.words).words is not None}
    return tuple(name for name in names if name in chosen)


def _directions(source: _Source, name: str, settings: _Settings) -> Directions | None:
    """What to store of the vectors of a column: the directions are those of a sample and of linear models. None for
    a column without a vector in the sample.
    """
    column = pa.chunked_array(
        [chunk for group in source.sampled_groups() for chunk in source.read(group)[name].slice(0, _SAMPLE).chunks],
        source.metadata.schema.to_arrow_schema().field(name).type,
    )
    heads = [
        m.function for m in settings.models if m.columns[0].lower() == name.lower() and isinstance(m.function, Head)
    ]
    dimension = heads[0].dimension if heads else common_dimension(column)
    if not dimension:
        return None
    vectors, usable = vectors_of(column, dimension, name)
    fine = vectors[usable & (largest(vectors) <= LARGEST)]
    bases = [principal(fine, settings.components)] if settings.components and len(fine) else []
    for head in heads:
        weight = head.first.weight.astype(np.float64)
        if len(weight) <= _MOST_OUTPUTS and weight.shape[1] == dimension and not head.first.scaling:
            bases += [unit(row[None]) for row in weight]
    return Directions(name, dimension, min(settings.slices, dimension), tuple(bases))


def _pairs(
    source: _Source, settings: _Settings
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str, float], ...]]:
    """The pairs to store, and what share of the box the hulls of each cut off on a sample of the row groups."""
    names, n_groups = source.names, source.metadata.num_row_groups
    spelled = {name.lower(): name for name in names}
    if isinstance(settings.pairs, str):
        wanted = list(combinations(names, 2))
    else:
        named = [(spelled.get(a.lower(), a), spelled.get(b.lower(), b)) for a, b in settings.pairs]
        wanted = list({frozenset(pair): pair for pair in named}.values())
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
