"""The commands `skipml cache build` and `skipml cache inspect`."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from skipml.lake.cache import build_cache, inspect_cache
from skipml.terminal import errors_as_exit, share_progress, working

app = typer.Typer(no_args_is_help=True, help="Keep what the footers of a table's files say in one Parquet file.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: skipml cache build 'tx/*.parquet' tx.skipml-cache --columns amount,age,hour")
def build(
    files: Annotated[list[str], typer.Argument(help="Parquet files, folders or globs of them, then the cache.")],
    *,
    columns: Annotated[str | None, typer.Option(help="Model inputs, with commas between; all by default.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where `skipml enrich --root` has written.")] = None,
    json: AsJson = False,
) -> None:
    """Write the cache of a table, or bring it up to date: only files that have changed are read."""
    if len(files) < 2:
        raise typer.BadParameter("give the files and the cache", param_hint="FILES")
    *sources, cache = files
    wanted = columns.split(",") if columns is not None else None
    with errors_as_exit(), share_progress("reading footers") as progress:
        report = build_cache(
            sources, cache, wanted, root=root, progress=lambda done, total: progress(done / total if total else 1.0)
        )
    typer.echo(json_format.dumps(asdict(report), indent=2) if json else str(report))


@app.command(epilog="Example: skipml cache inspect tx.skipml-cache")
def inspect(
    cache: Annotated[Path, typer.Argument(help="The cache.")],
    *,
    json: AsJson = False,
) -> None:
    """Say what a cache holds, and of how many of its files that is still what they hold."""
    with errors_as_exit(), working(f"reading {cache}"):
        facts = inspect_cache(cache)
    if json:
        typer.echo(json_format.dumps(facts, indent=2))
        return
    typer.echo(
        f"{facts['file']}: {facts['files']:,} files, {facts['up_to_date']:,} up to date, {facts['row_groups']:,} row "
        f"groups, {facts['rows']:,} rows, {facts['enriched']:,} enriched; {facts['bytes']:,} bytes"
    )
    typer.echo(f"columns: {', '.join(facts['columns'])}")
