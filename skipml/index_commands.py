"""The commands `skipml index build` and `skipml index search`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from skipml.ann.index import VectorIndex
from skipml.engines.ray_executor import connected
from skipml.errors import FooterError, SchemaError, VectorError
from skipml.rows_output import print_csv, print_json, print_table
from skipml.terminal import RayAddress, errors_as_exit, rows_progress, say, working

_MIB = 1 << 20

app = typer.Typer(no_args_is_help=True, help="Build and search nearest-neighbour indexes in plain Parquet.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: skipml index build docs.parquet docs.index --column embedding --metric cosine")
def build(
    files: Annotated[list[str], typer.Argument(help="Parquet files, folders or globs of them, then the index folder.")],
    *,
    column: Annotated[str, typer.Option(help="The column of vectors.")],
    metric: Annotated[str, typer.Option(help="l2, ip or cosine.")] = "l2",
    memory: Annotated[int, typer.Option(min=64, help="How many MiB to use beside the page cache.")] = 1024,
    lists: Annotated[int | None, typer.Option(min=1, help="Posting lists; by default by the number of rows.")] = None,
    ray: RayAddress = None,
    json: AsJson = False,
) -> None:
    """Index the vectors of Parquet files; the same command goes on with a build that was stopped."""
    if len(files) < 2:
        raise typer.BadParameter("give the files and the folder of the index", param_hint="FILES")
    *sources, folder = files
    start = perf_counter()
    with errors_as_exit(), rows_progress() as progress:
        index = VectorIndex.build(
            sources,
            column=column,
            path=folder,
            metric=metric,
            memory=memory * _MIB,
            n_lists=lists,
            progress=progress,
            executor=connected(ray) if ray is not None else None,
        )
    facts = {
        "index": folder,
        "rows": len(index),
        "skipped_nulls": index.skipped_nulls,
        "dimension": index.dimension,
        "metric": index.metric,
        "lists": index.snapshot.n_lists,
        "bytes": sum(file.stat().st_size for file in Path(folder).iterdir()),
        "seconds": round(perf_counter() - start, 3),
    }
    if json:
        typer.echo(json_format.dumps(facts, indent=2))
    else:
        typer.echo(
            f"{facts['rows']:,} vectors of {facts['dimension']} values in {facts['lists']:,} lists, "
            f"{facts['bytes']:,} bytes, {facts['seconds']:.1f} s"
        )
        if index.skipped_nulls:
            typer.echo(f"{index.skipped_nulls:,} rows without a vector are left out")


@app.command(epilog='Example: skipml index search docs.index --query "[0.1, 0.7, 0.2]" --nprobe 16')
def search(  # noqa: PLR0913
    folder: Annotated[Path, typer.Argument(help="The folder of the index.")],
    *,
    query: Annotated[str | None, typer.Option(help="A vector, as JSON.")] = None,
    queries: Annotated[Path | None, typer.Option(help="A Parquet file with a vector per row, or a .npy file.")] = None,
    column: Annotated[str | None, typer.Option(help="The vectors in --queries; by default the only ones.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rows for each query.")] = 10,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Lists to read for each query.")] = None,
    recall: Annotated[float | None, typer.Option(help="The share of the true neighbours to find.")] = None,
    columns: Annotated[str | None, typer.Option(help="With commas between; all but the vector by default.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads for many queries.")] = 1,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Print the nearest rows to one query or many, exactly unless --nprobe or --recall says otherwise."""
    if (query is None) == (queries is None):
        raise typer.BadParameter("give one of --query and --queries")
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")
    with errors_as_exit():
        with working("searching"):
            asked = _vector(query) if query is not None else _vectors(queries or Path(), column)
            names = columns.split(",") if columns is not None else None
            index = VectorIndex.open(folder)
            options: dict[str, Any] = {"nprobe": nprobe, "recall": recall, "exact": nprobe is None and recall is None}
            start = perf_counter()
            found = index.search(asked, k, columns=names, threads=threads, **options)
            seconds = perf_counter() - start
        rows = (tuple(row.values()) for batch in found.to_batches() for row in batch.to_pylist())
        if json:
            print_json(found.column_names, rows)
        elif csv:
            print_csv(found.column_names, rows)
        elif print_table(found.column_names, rows, 40):
            say("Only 40 rows are shown; --csv and --json show more")
        stats = index.stats
        if stats is not None:
            say(
                f"{stats.lists:,} lists and {stats.bytes_read:,} bytes read for {stats.queries:,} queries in "
                f"{seconds * 1e3:.1f} ms; {stats.guarantee}"
            )


def _vector(text: str) -> Any:
    try:
        return json_format.loads(text)
    except ValueError as error:
        raise VectorError(f"the query is no JSON array of numbers: {error}") from error


def _vectors(path: Path, column: str | None) -> Any:
    """The vectors in a file; raises FooterError where it cannot be read, SchemaError for a missing column."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        table = pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FooterError(f"'{path}' cannot be read: {error}") from error
    names = [f.name for f in table.schema if pa.types.is_nested(f.type)] if column is None else [column]
    if len(names) != 1 or names[0] not in table.column_names:
        raise SchemaError(f"'{path}': name the column of vectors with --column; it has {', '.join(table.column_names)}")
    return table.column(names[0])
