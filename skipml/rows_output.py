"""Rows of a query on standard output: as JSON, as CSV, as a table."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """An array of objects, one a line, written while the rows arrive."""
    before = "["
    for row in rows:
        record = {name: _json_value(value) for name, value in zip(names, row, strict=True)}
        sys.stdout.write(f"{before}\n{json.dumps(record)}")
        before = ","
    sys.stdout.write("\n]\n" if before == "," else "[]\n")


def print_csv(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """A header and a line for each row."""
    csv.writer(sys.stdout, lineterminator="\n").writerows(chain([names], rows))


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


def console() -> Console:
    """Standard output; a pipe gets lines as wide as they are."""
    return Console() if sys.stdout.isatty() else Console(width=100_000)


def print_table(names: Sequence[str], rows: Iterator[Sequence[Any]], limit: int) -> bool:
    """A table of at most `limit` rows -> whether there are more."""
    shown = [row for _, row in zip(range(limit), rows, strict=False)]
    table = Table()
    for i, name in enumerate(names):
        numeric = all(isinstance(row[i], int | float | Decimal | None) for row in shown)
        table.add_column(Text(name), justify="right" if numeric else "left")
    for row in shown:
        table.add_row(*(Text("NULL" if value is None else str(value)) for value in row))
    console().print(table)
    return next(rows, None) is not None
