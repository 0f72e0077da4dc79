"""The axes of random cases: what a file, its metadata, a model and the work on them may be, by name.

The version of DuckDB is an axis too: the one that is installed, so the same cases are run with each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from skipml.bounds.budget import Budget
from skipml.bounds.memory import SHARED
from tests.soundness.lakes import FASTPARQUET_KINDS, KINDS, NASTY, PLACES, Lake, Rng

TYPES = tuple(KINDS)
WRITERS = ("pyarrow", "pyarrow", "polars", "fastparquet", "duckdb")
GROUP_ROWS: Mapping[str, Callable[[Rng, int], list[int]]] = {
    "one row": lambda rng, n: [1] * n,
    "few rows": lambda rng, n: [int(rng.integers(2, 8))] * n,
    "tens of rows": lambda rng, n: [int(rng.integers(8, 60))] * n,
    "any size": lambda rng, n: rng.integers(1, 60, n).tolist(),
}
FILES = (1, 2, 4, 8, 16)
LAYOUTS = ("ascending", "no order")
MODELS = ("bare", "linear", "whole numbers", "shallow", "deep", "leaky", "constant", "loud", "huge", "quiet", "classes")
DTYPES = ("float32", "float32", "float64")
METADATA: Mapping[str, Mapping[str, Any] | None] = {
    "footers": None,
    "limits": {"pairs": []},
    "hulls of 4 bytes": {"pairs": "all", "hull_bytes": 4},
    "hulls of 8 bytes": {"pairs": "all", "hull_bytes": 8},
    "hulls of 13 bytes": {"pairs": "all", "hull_bytes": 13},
    "hulls of 45 bytes": {"pairs": "all", "hull_bytes": 45},
    "boxes": {"pairs": [], "boxes": 3},
    "many boxes": {"pairs": [], "boxes": 40},
    "blocks": {"pairs": "all", "hull_bytes": 13, "block_rows": 5},
    "large blocks": {"pairs": "all", "hull_bytes": 13, "boxes": 3, "block_rows": 700},
    "score maps": {"pairs": [], "models": True},
    "score limits": {"pairs": [], "models": True, "score_bytes": 0},
    "rows": {"pairs": [], "witness_bytes": 96},
    "everything": {"pairs": "all", "boxes": 3, "models": True, "witness_bytes": 96, "block_rows": 7},
    "everything in the footer": {"pairs": "all", "boxes": 3, "models": True, "witness_bytes": 96, "embed": True},
}
BUDGETS: Mapping[str, Callable[[float], Budget]] = {
    "as in a query": lambda cost: Budget(cost, memory=SHARED),
    "nothing remembered": Budget,
    "slow scores": lambda cost: Budget(1.0, boxes_per_block=32, memory=SHARED),
    "keep is worth work": lambda cost: Budget(1.0, boxes_per_block=32, prove_keep=True, memory=SHARED),
    "no time": lambda cost: Budget(0.0, free_boxes=0),
}


@dataclass(frozen=True)
class Axes:
    """One value on every axis; the case follows from it and the seed alone."""

    types: tuple[str, ...]
    writer: str
    group_rows: tuple[int, ...]
    n_files: int
    layout: str
    what: str
    where: str
    model: str
    dtype: str
    metadata: str
    budget: str
    seed: int

    @classmethod
    def draw(cls, rng: Rng) -> Axes:
        """Any combination that there can be."""
        writer = str(rng.choice(WRITERS))
        names = FASTPARQUET_KINDS if writer == "fastparquet" else TYPES
        n_files = 1 if writer == "fastparquet" else int(rng.choice(FILES[:2] if writer == "duckdb" else FILES))
        n_groups = max(2, n_files * int(rng.integers(1, 6)))
        rows = GROUP_ROWS[str(rng.choice(list(GROUP_ROWS)))](rng, n_groups)
        if writer == "duckdb":  # writes no smaller row groups
            rows = [2048] * int(rng.integers(2, 4))
        elif writer != "pyarrow":
            rows = [rows[0]] * n_groups
        metadata = str(rng.choice(list(METADATA)))
        if writer == "duckdb" and "block_rows" in (METADATA[metadata] or {}):
            metadata = "large blocks"  # not a thousand of them
        return cls(
            types=tuple(rng.choice(names, int(rng.integers(1, 4))).tolist()),
            writer=writer,
            group_rows=tuple(rows),
            n_files=n_files,
            layout=str(rng.choice(LAYOUTS)),
            what=str(rng.choice(list(NASTY))),
            where=str(rng.choice(list(PLACES))),
            model=str(rng.choice(MODELS)),
            dtype=str(rng.choice(DTYPES)),
            metadata=metadata,
            budget=str(rng.choice(list(BUDGETS))),
            seed=int(rng.integers(2**32)),
        )

    @property
    def lake(self) -> Lake:
        """The files."""
        return Lake(
            kinds=self.types,
            writer=self.writer,
            group_rows=self.group_rows,
            n_files=self.n_files,
            ascending=self.layout == "ascending",
            seed=self.seed,
            what=self.what,
            where=self.where,
        )

    def rng(self, purpose: int) -> Rng:
        """Random numbers of their own for each of several purposes."""
        return np.random.default_rng([self.seed, purpose])

    def values(self) -> dict[str, str]:
        """The axes by name, for counts of what was tried."""
        found = {
            name: str(value) for name, value in asdict(self).items() if name not in ("seed", "group_rows", "types")
        }
        return found | {"types": self.types[0]}
