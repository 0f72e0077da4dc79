"""The command line: `skipml explain`, `skipml query` and `skipml inspect`.

Results go to standard output, everything said about them to standard error. Exit codes: 0 all went well, 1 an error
(one line on standard error says what, where and what to do), 2 wrong usage.
"""

from __future__ import annotations

import csv as csv_format
import json as json_format
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import duckdb
import numpy as np

import skipml
from skipml.engines.dialect import quote_name, quote_text
from skipml.errors import SkipmlError
from skipml.footers import ColumnStats, Footers, read_footers
from skipml.identity import expand, private_connection
from skipml.models import load_onnx
from skipml.network import Affine, LeakyRelu, Network, Op
from skipml.report import Report

try:
    import typer
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as missing:
    raise SystemExit(f"the skipml command needs {missing.name}: pip install 'skipml[cli]'") from None

_FETCH_ROWS = 2048
_BINDING = re.compile(r"([^=]*)=(.+)", re.DOTALL)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
    with _errors_as_exit(), _session(model or (), database) as con, _working("analysing"):
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
    with _errors_as_exit(), _session(model or (), database) as con:
        con.skipping = skipping
        with _working("running"):
            con.execute(_text(sql))
            names = [column[0] for column in con.description or ()]
            first = con.fetchmany(_FETCH_ROWS) if names else []
        if json:
            _print_json(names, _all_rows(con, first))
        elif csv:
            csv_format.writer(sys.stdout, lineterminator="\n").writerows(_chain(names, _all_rows(con, first)))
        elif names:
            _print_table(names, _all_rows(con, first), rows)
        _say(_skipped(con.last_report if skipping else None, skipping, perf_counter() - started))


@app.command(epilog="Example: skipml inspect 'tx/*.parquet'; skipml inspect fraud.onnx")
def inspect(
    file: Annotated[str, typer.Argument(help="A Parquet file, a folder or glob of them, or an ONNX model (.onnx).")],
    json: AsJson = False,
) -> None:
    """Show what the zone maps of Parquet files know about each column, or what a model consists of."""
    with _errors_as_exit(), _working(f"reading {file}"):
        facts = _model_facts(file) if file.lower().endswith(".onnx") else _parquet_facts(file)
    if json:
        typer.echo(json_format.dumps(facts, indent=2))
    elif "columns" in facts:
        _print_parquet(facts)
    else:
        for name, value in facts.items():
            typer.echo(f"{name + ':':<12}{', '.join(value) if isinstance(value, list) else value}")


@contextmanager
def _errors_as_exit() -> Iterator[None]:
    """Print an expected error as one line and exit with 1; the rest is a bug and keeps its traceback."""
    try:
        yield
    except (SkipmlError, duckdb.Error) as error:
        text = str(error).partition("\n\nLINE ")[0]
        if "Scalar Function with name" in text:
            text += " To use a model, bind it with --model NAME=FILE."
        _say(f"error: {' '.join(text.split())}")
        raise typer.Exit(1) from error


@contextmanager
def _session(models: Sequence[str], database: Path | None) -> Iterator[skipml.Connection]:
    """A connection with the models registered and the database in use."""
    bindings = [_BINDING.fullmatch(text) for text in models]
    for text, binding in zip(models, bindings, strict=True):
        if binding is None:
            raise typer.BadParameter(f"{text!r} is not NAME=FILE, as in fraud=fraud.onnx", param_hint="--model")
    with skipml.connect() as con:
        for binding in filter(None, bindings):
            network = load_onnx(binding[2])
            names = tuple(f"x{i}" for i in range(network.n_inputs))
            con.register_model(binding[1].strip(), skipml.Model(network, names))
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


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _working(what: str) -> Any:
    """A spinner on a terminal, nothing on a pipe."""
    return Console(stderr=True).status(what)


def _skipped(report: Report | None, skipping: bool, seconds: float) -> str:
    if not skipping:
        return f"Nothing is skipped: skipping is switched off ({seconds:.3f} s)"
    found = report or Report("")
    return f"{found.summary()} ({seconds:.3f} s, analysis {found.seconds * 1e3:.1f} ms)"


def _all_rows(con: skipml.Connection, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    while rows:
        yield from rows
        rows = con.fetchmany(_FETCH_ROWS)


def _chain(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    yield names
    yield from rows


def _print_json(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """An array of objects, one a line, written while the rows arrive."""
    before = "["
    for row in rows:
        record = {name: _json_value(value) for name, value in zip(names, row, strict=True)}
        sys.stdout.write(f"{before}\n{json_format.dumps(record)}")
        before = ","
    sys.stdout.write("\n]\n" if before == "," else "[]\n")


def _json_value(value: Any) -> Any:
    """A value as JSON has it; numbers that JSON cannot hold exactly become text, NaN and infinity null."""
    match value:
        case float():
            return value if np.isfinite(value) else None
        case Decimal():
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        case date() | datetime() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _json_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_json_value(inner) for inner in value]
        case None | bool() | int() | str():
            return value
    return str(value)


def _console() -> Console:
    """Standard output; a pipe gets lines as wide as they are."""
    return Console() if sys.stdout.isatty() else Console(width=100_000)


def _print_table(names: Sequence[str], rows: Iterator[Sequence[Any]], limit: int) -> None:
    shown = [row for _, row in zip(range(limit), rows, strict=False)]
    table = Table()
    for i, name in enumerate(names):
        numeric = all(isinstance(row[i], int | float | Decimal | None) for row in shown)
        table.add_column(Text(name), justify="right" if numeric else "left")
    for row in shown:
        table.add_row(*(Text("NULL" if value is None else str(value)) for value in row))
    _console().print(table)
    if next(rows, None) is not None:
        _say(f"Only {limit} rows are shown; --rows, --csv and --json show more")


def _parquet_facts(pattern: str) -> dict[str, Any]:
    files = expand(pattern)
    read_footers(files, [], strict=True)
    described = private_connection().execute("DESCRIBE SELECT * FROM read_parquet(?)", [files[0]]).fetchall()
    types = {str(row[0]): str(row[1]) for row in described}
    footers = read_footers(files, list(types), strict=True)
    return {
        "file": pattern,
        "files": len(files),
        "row_groups": len(footers),
        "rows": int(footers.n_rows.sum()),
        "bytes": int(footers.n_bytes.sum()),
        "columns": [_column_facts(footers, name, sql_type) for name, sql_type in types.items()],
    }


def _column_facts(footers: Footers, name: str, sql_type: str) -> dict[str, Any]:
    stats: ColumnStats = footers.columns[name]
    limited = stats.known & ~stats.all_null
    reasons, counts = np.unique(stats.reason.astype(str), return_counts=True)
    return {
        "name": name,
        "type": sql_type,
        "min": float(stats.lower[limited].min()) + 0.0 if limited.any() else None,  # + 0.0: no -0
        "max": float(stats.upper[limited].max()) + 0.0 if limited.any() else None,
        "row_groups_known": int((stats.known | stats.all_null).sum()),
        "nulls": int(stats.null_count.sum()) if (stats.null_count >= 0).all() else None,
        "row_groups_that_may_hold_nan": int(stats.may_be_nan.sum()) if stats.known.any() else None,
        "notes": {str(reason): int(count) for reason, count in zip(reasons, counts, strict=True) if reason},
    }


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
    _console().print(table)


def _model_facts(path: str) -> dict[str, Any]:
    network = load_onnx(path)
    return {
        "file": path,
        "inputs": network.n_inputs,
        "outputs": network.n_outputs,
        "dtype": network.dtype.name,
        "ops": [_op_text(op) for op in network.ops],
        "parameters": _parameters(network),
        "hash": network.hash,
    }


def _op_text(op: Op) -> str:
    match op:
        case Affine(weight):
            return f"Affine {weight.shape[1]} -> {weight.shape[0]}"
        case LeakyRelu(slope):
            return "Relu" if slope == 0 else f"LeakyRelu {slope:g}"
    return type(op).__name__


def _parameters(network: Network) -> int:
    arrays = [
        getattr(op, name)
        for op in network.ops
        for name in ("weight", "bias", "factor", "divisor", "offset")
        if hasattr(op, name)
    ]
    return sum(array.size for array in arrays)
