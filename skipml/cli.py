"""The command line: `skipml explain`, `query`, `enrich`, `advise`, `cluster`, `inspect`, `index` and `cache`.

Results go to standard output, everything said about them to standard error. Exit codes: 0 all went well, 1 an error
(one line on standard error says what, where and what to do), 2 wrong usage.
"""

from __future__ import annotations

import json as json_format
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import duckdb

import skipml
from skipml.engines.dialect import quote_name, quote_text
from skipml.engines.ray_executor import connected
from skipml.enrich import WORDS
from skipml.inspection import model_facts, parquet_facts
from skipml.layout import Method
from skipml.models import load
from skipml.plots import plot_row_group, save
from skipml.report import Report

try:
    import typer
    from rich.table import Table
    from rich.text import Text

    from skipml import cache_commands, index_commands
    from skipml.rows_output import console, print_csv, print_json, print_table
    from skipml.terminal import RayAddress, errors_as_exit, rows_progress, say, share_progress, working
except ModuleNotFoundError as missing:
    raise SystemExit(f"the skipml command needs {missing.name}: pip install 'skipml[cli]'") from None

_FETCH_ROWS = 2048
_MODELS = ".onnx, .json, .ubj, .txt, .skops"
_BINDING = re.compile(r"([^=]*)=(.+)", re.DOTALL)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(index_commands.app, name="index")
app.add_typer(cache_commands.app, name="cache")

Sql = Annotated[str, typer.Argument(help="The SQL; - reads it from standard input.", metavar="SQL")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME=FILE",
        help="Make the ONNX model in FILE the SQL function NAME; its inputs are the arguments of the call. Repeatable.",
    ),
]
Database = Annotated[
    Path | None,
    typer.Option(help="A DuckDB database whose tables and views the SQL may use; it is opened read-only."),
]
ModelColumns = Annotated[
    list[str] | None, typer.Option(help="The inputs of each --model in order; by default --columns.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skipml {skipml.__version__}, DuckDB {duckdb.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Queries with a model in their WHERE that skip the Parquet row groups no row of which can match."""


@app.command(
    epilog="Example: skipml explain \"SELECT * FROM 'tx/*.parquet' WHERE fraud(amount) > 0.9\" -m fraud=fraud.onnx"
)
def explain(sql: Sql, *, model: Models = None, database: Database = None, json: AsJson = False) -> None:
    """Say which row groups the last statement would skip, and why, without running it."""
    with errors_as_exit(), _session(model or (), database) as con, working("analysing"):
        *before, last = con.extract_statements(_text(sql))
        for statement in before:
            con.execute(statement.query)
        report = con.explain(last.query)
    typer.echo(report.to_json() if json else str(report))


@app.command(
    epilog="Example: skipml query \"SELECT * FROM 'tx/*.parquet' WHERE fraud(amount) > 0.9\" -m fraud=fraud.onnx --csv"
)
def query(
    sql: Sql,
    *,
    model: Models = None,
    database: Database = None,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Rows of the printed table; JSON and CSV have them all.")] = 40,
    skipping: Annotated[bool, typer.Option(help="Whether to skip row groups; the rows are the same.")] = True,
) -> None:
    """Run SQL and print the rows of the last statement; what was skipped goes to standard error."""
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")
    started = perf_counter()
    with errors_as_exit(), _session(model or (), database) as con:
        con.skipping = skipping
        with working("running"):
            con.execute(_text(sql))
            names = [column[0] for column in con.description or ()]
            first = con.fetchmany(_FETCH_ROWS) if names else []
        if json:
            print_json(names, _all_rows(con, first))
        elif csv:
            print_csv(names, _all_rows(con, first))
        elif names and print_table(names, _all_rows(con, first), rows):
            say(f"Only {rows} rows are shown; --rows, --csv and --json show more")
        say(_skipped(con.last_report if skipping else None, skipping, perf_counter() - started))


@app.command(epilog="Example: skipml enrich 'tx/*.parquet' --columns amount,age,hour")
def enrich(  # noqa: PLR0913
    files: Annotated[list[str], typer.Argument(help="Parquet files, folders or globs of them.")],
    *,
    columns: Annotated[
        str | None, typer.Option(help="Model inputs, with commas between; all numbers, times and texts by default.")
    ] = None,
    pairs: Annotated[str, typer.Option(help="Pairs of columns that get a hull: auto, all, none, or a:b,c:d.")] = "auto",
    hull_bytes: Annotated[int, typer.Option(help="Bytes of a hull: 4, 8, 13 or 45.")] = 45,
    boxes: Annotated[int, typer.Option(min=0, help="Boxes over all columns for each block.")] = 0,
    model: Annotated[list[str] | None, typer.Option(help="An ONNX model whose scores to map. Repeatable.")] = None,
    model_columns: ModelColumns = None,
    score_bytes: Annotated[int, typer.Option(min=0, help="Bytes of the map of which scores occur.")] = 32,
    witness_bytes: Annotated[int, typer.Option(min=0, help="Bytes that a few rows of each block may take.")] = 0,
    block_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a block; by default the row group.")] = None,
    words: Annotated[int, typer.Option(min=0, help="Distinct texts of a column told apart in a file.")] = WORDS,
    embed: Annotated[bool, typer.Option("--embed", help="Write into the files' own footers.")] = False,
    root: Annotated[Path | None, typer.Option(help="Write below this folder instead of beside the files.")] = None,
    ray: RayAddress = None,
    json: AsJson = False,
) -> None:
    """Store what footers do not say: exact limits, NaN counts, hulls of pairs, boxes, texts, scores of models."""
    wanted = columns.split(",") if columns is not None else None
    chosen: Any = {"none": []}.get(pairs, pairs)
    if ":" in pairs:
        chosen = [tuple(pair.split(":", 1)) for pair in pairs.split(",")]
    with errors_as_exit(), rows_progress() as progress:
        report = skipml.enrich(
            files,
            wanted,
            pairs=chosen,
            hull_bytes=hull_bytes,
            boxes=boxes,
            models=_models(model, model_columns, columns),
            score_bytes=score_bytes,
            witness_bytes=witness_bytes,
            block_rows=block_rows,
            words=words,
            embed=embed,
            root=root,
            progress=progress,
            executor=connected(ray) if ray is not None else None,
        )
    typer.echo(json_format.dumps(report.to_dict(), indent=2) if json else str(report))


@app.command(epilog="Example: skipml advise 'tx/*.parquet' --columns amount,age,hour --bytes 128")
def advise(
    files: Annotated[list[str], typer.Argument(help="Parquet files, folders or globs of them.")],
    *,
    columns: Annotated[
        str | None, typer.Option(help="Model inputs, with commas between; those of the models, or all, by default.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="An ONNX model that filters use. Repeatable.")] = None,
    model_columns: ModelColumns = None,
    size: Annotated[int, typer.Option("--bytes", min=0, help="Bytes per row group beside the limits.")] = 512,
    json: AsJson = False,
) -> None:
    """Say which hulls, boxes and blocks enrich should store in a number of bytes, and what they gain on a sample."""
    with errors_as_exit(), share_progress("advising") as progress:
        models = _models(model, model_columns, columns)
        wanted = columns.split(",") if columns is not None else None
        advice = skipml.recommend(files, wanted, models=models, bytes_per_row_group=size, progress=progress)
    typer.echo(json_format.dumps(advice.to_dict(), indent=2) if json else str(advice))


@app.command(epilog="Example: skipml cluster tx.parquet tx_clustered.parquet --by amount,age,hour --method kdtree")
def cluster(
    source: Annotated[str, typer.Argument(help="A Parquet file, or a glob of them.")],
    target: Annotated[Path, typer.Argument(help="The file to write; it may be the source.")],
    *,
    by: Annotated[str, typer.Option(help="The columns that models read, with commas between.")],
    method: Annotated[
        Method, typer.Option(help="Along a Z-order curve, or through the cells of a k-d tree.")
    ] = "zorder",
    row_group_rows: Annotated[int, typer.Option(min=1, help="Rows of a row group.")] = 16_384,
    json: AsJson = False,
) -> None:
    """Rewrite a table so that rows near each other in some columns share a row group."""
    with errors_as_exit(), share_progress("clustering") as progress:
        report = skipml.cluster(
            source, target, by.split(","), method=method, row_group_rows=row_group_rows, progress=progress
        )
    typer.echo(json_format.dumps(asdict(report), indent=2) if json else str(report))


@app.command(epilog="Example: skipml inspect 'tx/*.parquet'; skipml inspect tx.parquet --plot tx.png --pair amount,age")
def inspect(  # noqa: PLR0913
    file: Annotated[str, typer.Argument(help=f"A Parquet file, a folder or glob of them, or a model ({_MODELS}).")],
    *,
    root: Annotated[Path | None, typer.Option(help="Where `skipml enrich --root` has written.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a row group over --pair into this picture.")] = None,
    pair: Annotated[str | None, typer.Option(help="The two columns to draw, with a comma between.")] = None,
    row_group: Annotated[int | None, typer.Option(help="By default the one whose hull cuts most off.")] = None,
    model: Annotated[str | None, typer.Option(help="An ONNX model whose decision boundary to draw.")] = None,
    limit: Annotated[float | None, typer.Option(help="What the model's score is to exceed.")] = None,
    columns: Annotated[str | None, typer.Option(help="The model's inputs in order; by default the pair.")] = None,
    json: AsJson = False,
) -> None:
    """Show what footers and metadata of Parquet files know about each column, or what a model consists of."""
    if (plot is None) != (pair is None) or (plot is None and {row_group, model, limit, columns} != {None}):
        raise typer.BadParameter("--plot and --pair go together, and the options of the picture with them")
    with errors_as_exit(), working(f"reading {file}"):
        if plot is not None and pair is not None:
            scorer = skipml.Model.load(model, columns=(columns or pair).split(",")) if model is not None else None
            pieces = pair.split(",")
            save(plot_row_group(file, pieces, row_group=row_group, model=scorer, limit=limit, root=root), plot)
        facts = model_facts(file) if file.lower().endswith(tuple(_MODELS.split(", "))) else parquet_facts(file, root)
    if json:
        typer.echo(json_format.dumps(facts, indent=2))
    elif "columns" in facts:
        _print_parquet(facts)
    else:
        for name, value in facts.items():
            typer.echo(f"{name + ':':<12}{', '.join(value) if isinstance(value, list) else value}")
    if "error" in facts:
        raise typer.Exit(1)


def _models(paths: Sequence[str] | None, inputs: Sequence[str] | None, columns: str | None) -> list[skipml.Model]:
    """The models in some files, over the columns given for each or for all."""
    names = inputs or [columns or ""] * len(paths or ())
    if len(names) != len(paths or ()) or "" in names:
        raise typer.BadParameter("give --columns, or one --model-columns for each --model")
    return [skipml.Model.load(path, columns=each.split(",")) for path, each in zip(paths or (), names, strict=True)]


@contextmanager
def _session(models: Sequence[str], database: Path | None) -> Iterator[skipml.Connection]:
    """A connection with the models registered and the database in use."""
    bindings = [_BINDING.fullmatch(text) for text in models]
    for text, binding in zip(models, bindings, strict=True):
        if binding is None:
            raise typer.BadParameter(f"{text!r} is not NAME=FILE, as in fraud=fraud.onnx", param_hint="--model")
    with skipml.connect() as con:
        for binding in filter(None, bindings):
            function = load(binding[2])
            names = tuple(f"x{i}" for i in range(function.n_inputs))
            con.register_model(binding[1].strip(), skipml.Model(function, names))
        if database is not None:
            name = quote_name(database.stem)
            con.execute(f"ATTACH {quote_text(str(database))} AS {name} (READ_ONLY)")
            con.execute(f"USE {name}")
        yield con


def _text(sql: str) -> str:
    text = sys.stdin.read() if sql == "-" else sql
    if not text.strip(" \t\r\n;"):
        raise typer.BadParameter("it is empty", param_hint="SQL")
    return text


def _skipped(report: Report | None, skipping: bool, seconds: float) -> str:
    if not skipping:
        return f"Nothing is skipped: skipping is switched off ({seconds:.3f} s)"
    found = report or Report("")
    return f"{found.summary()} ({seconds:.3f} s, analysis {found.seconds * 1e3:.1f} ms)"


def _all_rows(con: skipml.Connection, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    while rows:
        yield from rows
        rows = con.fetchmany(_FETCH_ROWS)


def _print_parquet(facts: dict[str, Any]) -> None:
    counted = f"{facts['files']:,} file{'s' if facts['files'] > 1 else ''}, {facts['row_groups']:,} row groups"
    typer.echo(f"{facts['file']}: {counted}, {facts['rows']:,} rows, {facts['bytes']:,} bytes")
    table = Table(title="What the zone maps know, as a model sees the columns", title_justify="left")
    for heading in ("column", "type"):
        table.add_column(heading)
    for heading in ("min", "max", "NULLs", "known in", "NaN in"):
        table.add_column(heading, justify="right")
    table.add_column("note")
    for column in facts["columns"]:
        low, high = ("-" if column[side] is None else f"{column[side]:.10g}" for side in ("min", "max"))
        nulls = "?" if column["nulls"] is None else f"{column['nulls']:,}"
        nan = column["row_groups_that_may_hold_nan"]
        counts = (nulls, f"{column['row_groups_known']:,}", "?" if nan is None else f"{nan:,}")
        cells = (column["name"], column["type"], low, high, *counts, "; ".join(column["notes"]))
        table.add_row(*map(Text, cells))
    console().print(table)
    finer = facts["blocks"] > facts["row_groups"]
    if finer:
        typer.echo(f"{facts['blocks']:,} blocks, finer than the row groups")
    for pair, count in facts["hulls"].items():
        typer.echo(f"hulls of {pair} in {count:,} {'blocks' if finer else 'row groups'}")
    for names, count in facts["boxes"].items():
        typer.echo(f"{count:,} boxes over {names}")
    for each in facts["texts"]:
        known = f"{each['blocks']:,} {'blocks' if finer else 'row groups'}"
        typer.echo(f"which of {each['texts']:,} texts of {each['column']} occur in {known}")
    for each in facts["score_maps"]:
        name = f"output {each['output']} of model {each['model'][:12]} over {', '.join(each['columns'])}"
        typer.echo(f"scores of {name}, {each['bytes']} bytes for each block")
    for each in facts["label_maps"]:
        name = f"{each['labels']} classes of model {each['model'][:12]} over {', '.join(each['columns'])}"
        typer.echo(f"which of the {name} occur in each block")
    if facts["rows_stored"]:
        typer.echo(f"{facts['rows_stored']:,} rows as witnesses")
    for note in facts["ignored"]:
        typer.echo(f"ignored: {note}")
