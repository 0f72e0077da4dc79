"""Makes one plan in a process of its own, and says what it took: `python -m benchmarks.lake.worker FILES [CACHE]`."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import skipml
from benchmarks.lake.files import lake, model

LIMIT = 0.41
"""What about one of two thousand rows passes."""


def main(n_files: int, cache: str | None) -> dict[str, Any]:
    """The seconds of a first and of a second plan, and the memory of the process at its highest."""
    files, predicate, seconds = lake(n_files), model() > LIMIT, []
    for _ in range(2):
        start = time.perf_counter()
        plan = skipml.plan(files, predicate, cache=cache)
        seconds.append(time.perf_counter() - start)
    left = plan.footers.file_index[plan.decisions != skipml.SKIP]
    paths = {plan.footers.files[i] for i in left.tolist()}
    return {
        "seconds": seconds[0],
        "again_seconds": seconds[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "plan": {"files_out": len(plan.pruned.files), "left": [len(left), len(paths)], "summary": plan.summary},
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))
