"""Enriches and clusters the files of a lake until it is killed.

usage: python -m benchmarks.kills.worker FOLDER SEED [--once]

Prints the name of each operation before it starts, and `idle` after it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import skipml
from benchmarks.kills.lake import COLUMNS, ROW_GROUP_ROWS, Lake
from skipml.layout import METHODS

IDLE = "idle"
_SETTINGS: list[dict[str, Any]] = [
    {"pairs": []},
    {"pairs": [], "boxes": 4},
    {"pairs": [("a", "b")], "hull_bytes": 8},
    {"pairs": [("a", "b")], "hull_bytes": 13, "boxes": 4},
    {"pairs": "auto", "hull_bytes": 45, "boxes": 16},
    {"pairs": "all", "hull_bytes": 4, "block_rows": 300, "witness_bytes": 64},
]


def operations(lake: Lake, rng: random.Random) -> Mapping[str, Callable[[], object]]:
    """What a worker does, by name, with settings drawn at random."""

    def settings() -> dict[str, Any]:
        return rng.choice(_SETTINGS)

    def cluster(source: Path, target: Path) -> object:
        return skipml.cluster(source, target, COLUMNS, method=rng.choice(METHODS), row_group_rows=ROW_GROUP_ROWS)

    return {
        "enrich, sidecars": lambda: skipml.enrich(lake.files, COLUMNS, **settings()),
        "enrich, sidecar root": lambda: skipml.enrich(lake.files, COLUMNS, root=lake.root, **settings()),
        "enrich, embedded": lambda: skipml.enrich(lake.files, COLUMNS, embed=True, **settings()),
        "cluster to another file": lambda: cluster(lake.files[0], lake.clustered),
        "cluster in place": lambda: [cluster(path, path) for path in lake.files[1:]],
    }


def main() -> None:
    """Work until killed, or do everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--once", action="store_true", help="do every operation once and end")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    work = operations(Lake(options.folder), rng)
    names = list(work) if options.once else None
    print(IDLE, flush=True)
    while names is None or names:
        name = names.pop() if names else rng.choice(list(work))
        print(name, flush=True)
        work[name]()
        print(IDLE, flush=True)


if __name__ == "__main__":
    main()
