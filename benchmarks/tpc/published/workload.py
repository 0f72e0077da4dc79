"""The published workload: functions to learn, as in workload.json, and the networks that learn them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKLOAD = Path(__file__).with_name("workload.json")
TRAINING_ROWS = 2_000
EVALUATED_ROWS = 100_000
BLOCK_ROWS = 1_000
HIDDEN = {"shallow": (32,), "deep": (32, 32)}
"""Widths of the hidden layers of the two published networks."""

_CAST = re.compile(r"CAST\((.*) AS DOUBLE\)")


@dataclass(frozen=True, slots=True)
class Function:
    """A target, an SQL expression over a table, and the SQL expressions it is learned from; `classes` is 0 for a
    regressor.
    """

    suite: str
    table: str
    name: str
    target: str
    features: tuple[str, ...]
    classes: int

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the evaluated file: their names and SQL. A cast is left out, so that each has its own type."""
        plain = [_CAST.sub(r"\1", feature) for feature in self.features]
        return {re.sub(r"\W+", "_", text).strip("_").lower(): text for text in plain}


def functions(suite: str) -> list[Function]:
    """Those of a suite, tpch or tpcds."""
    raw: dict[str, Any] = json.loads(WORKLOAD.read_text())
    return [
        Function(f["database"], f["table"], f["name"], f["target"], tuple(f["features"]), f.get("classes") or 0)
        for f in raw["functions"]
        if f["database"] == suite
    ]


def published() -> dict[str, float]:
    """The paper's own figures."""
    raw: dict[str, Any] = json.loads(WORKLOAD.read_text())
    return dict(raw["published"])
