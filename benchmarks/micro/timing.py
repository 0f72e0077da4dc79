"""Timing of one call, per thing that it works on."""

from __future__ import annotations

from typing import Any


def timed(benchmark: Any, n: int, function: Any, *arguments: Any) -> None:
    """Run the function and note the microseconds per each of n things."""
    benchmark(function, *arguments)
    if benchmark.stats:
        benchmark.extra_info["us_each"] = round(benchmark.stats.stats.min / n * 1e6, 2)
