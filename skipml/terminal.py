"""What every command says on standard error: errors, spinners and progress bars."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import duckdb
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from skipml.errors import SkipmlError

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Share the work out on this Ray cluster; local: on this machine's cores."
    ),
]


@contextmanager
def errors_as_exit() -> Iterator[None]:
    """Print an expected error as one line and exit with 1; the rest is a bug and keeps its traceback."""
    try:
        yield
    except (SkipmlError, duckdb.Error) as error:
        text = str(error).partition("\n\nLINE ")[0]
        if "Scalar Function with name" in text:
            text += " To use a model, bind it with --model NAME=FILE."
        say(f"error: {' '.join(text.split())}")
        raise typer.Exit(1) from error


def say(text: str) -> None:
    """A line."""
    typer.echo(text, err=True)


def working(what: str) -> Any:
    """A spinner on a terminal, nothing on a pipe."""
    return Console(stderr=True).status(what)


@contextmanager
def rows_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar over the rows of each file on a terminal, nothing on a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(os.path.basename(file), total=total)
            bars.update(tasks[file], completed=done)

        yield show


@contextmanager
def share_progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar from 0 to 100 % on a terminal, nothing on a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=1.0)
        yield lambda share: bars.update(task, completed=share)
