"""Makes a failing case simpler while it keeps failing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TypeVar

Item = TypeVar("Item")


def shrunk(
    item: Item, smaller: Callable[[Item], Iterable[Item]], fails: Callable[[Item], bool], seconds: float
) -> Item:
    """The simplest item that still fails, of those found within the time; `fails` counts an exception as its own."""
    start, is_smaller = perf_counter(), True
    while is_smaller:
        is_smaller = False
        for candidate in smaller(item):
            if perf_counter() - start > seconds:
                return item
            if fails(candidate):
                item, is_smaller = candidate, True
                break
    return item
