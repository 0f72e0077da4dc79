"""Break the code in every small way, and print what no test notices.

python -m tests.mutation [bounds decisions metadata conditions] [--every 10] [--again] [--module NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import pytest

from tests.mutation.operators import mutants
from tests.mutation.session import Session, Target, Verdict
from tests.mutation.targets import GROUPS, modules_of

_HERE = Path(__file__).parent
_OPTIONS = ("-o", "addopts=", "-m", "not exhaustive", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-s")
Key = tuple[str, str, str, str, int]


def justified() -> dict[Key, str]:
    """Why mutants that survive do no harm, from justified.toml."""
    entries = tomllib.loads((_HERE / "justified.toml").read_text()).get("mutant", [])
    return {
        (e["module"], e["function"], e["operator"], change, occurrence): e["reason"]
        for e in entries
        for change in e["changes"]
        for occurrence in e.get("occurrences", [0])
    }


def key_of(target: Target) -> Key:
    return target.module, *target.mutant.key


class Tally:
    """The verdicts of a run, as they come."""

    def __init__(self, reasons: dict[Key, str]) -> None:
        self.reasons, self.start = reasons, perf_counter()
        self.counts: dict[str, Counter[str]] = {}
        self.survivors: list[Key] = []
        self.done = 0

    def add(self, verdict: Verdict) -> None:
        key = key_of(verdict.target)
        kind = "killed" if verdict.by else "justified" if key in self.reasons else "survived"
        if verdict.by == "nothing changes":
            kind = "no change"
        self.counts.setdefault(key[0], Counter())[kind] += 1
        self.done += 1
        if self.done % 50 == 0:
            seconds = perf_counter() - self.start
            print(f"# {self.done} mutants, {len(self.survivors)} survived, {seconds:,.0f} s", flush=True)  # noqa: T201
        if kind == "survived":
            self.survivors.append(key)
            print(f"{key[0]}:{verdict.target.mutant.line} {key[1]} [{key[2]}] {key[3]} #{key[4]}", flush=True)  # noqa: T201

    def results(self) -> dict[str, Any]:
        """Plain data for the results file."""
        modules = {name: dict(sorted(count.items())) for name, count in self.counts.items()}
        return {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "duckdb": duckdb.__version__,
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "seconds": round(perf_counter() - self.start),
            "modules": modules,
            "score": {name: score(Counter(count)) for name, count in modules.items()},
            "survivors": self.survivors,
        }


def score(count: Counter[str]) -> float:
    """The share of mutants that were killed, of those that are not justified."""
    tried = count["killed"] + count["survived"]
    return round(count["killed"] / tried, 4) if tried else 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all if none is given")
    parser.add_argument("--module", help="only those whose name ends so")
    parser.add_argument("--every", type=int, default=1, help="take each n-th mutant only")
    parser.add_argument("--first", type=int, default=0, help="from this one on")
    parser.add_argument("--seconds", type=float, default=20.0, help="of tests that a mutant meets at the most")
    parser.add_argument("--again", action="store_true", help="only those that survived in the results file")
    given = parser.parse_args()
    failed = False
    for group in given.groups or GROUPS:
        failed |= _run(group, given)
    return int(failed)


def _run(group: str, given: argparse.Namespace) -> bool:
    modules = {n: p for n, p in modules_of(group).items() if not given.module or n.endswith(f".{given.module}")}
    place = _HERE / "results" / f"{group}.json"
    again = {tuple(key) for key in json.loads(place.read_text())["survivors"]} if given.again else None

    reasons = justified()

    def targets() -> Iterator[Target]:
        for name, path in modules.items():
            found = (Target(name, mutant) for mutant in mutants(path.read_text()))
            if again is not None:
                yield from (target for target in found if key_of(target) in again)
            else:
                yield from islice(found, given.first, None, given.every)

    tally = Tally(reasons)
    session = Session(group, modules_of(group), targets, tally.add, given.seconds)
    code = pytest.main([*_OPTIONS, "--hypothesis-profile=mutants", *GROUPS[group][1]], plugins=[session])
    results = tally.results() | {"every": given.every, "first": given.first}
    if given.again:
        results = _updated(json.loads(place.read_text()), results)
    for name, count in results["modules"].items():
        print(f"{name:40} {results['score'][name]:.1%} {count}")  # noqa: T201
    total = sum((Counter(count) for count in results["modules"].values()), Counter[str]())
    print(f"{group}: {score(total):.1%} of {sum(total.values())} mutants, 1 in {results['every']}: {dict(total)}")  # noqa: T201
    if not given.module:
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(results, indent=1) + "\n")
    return bool(code) or bool(tally.survivors)


def _updated(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Results after those that had survived were tried again."""
    modules = {}
    for name, old in before["modules"].items():
        count = Counter(old) - Counter(survived=old.get("survived", 0)) + Counter(now["modules"].get(name, {}))
        modules[name] = dict(sorted(count.items()))
    scores = {name: score(Counter(count)) for name, count in modules.items()}
    return before | {"modules": modules, "score": scores, "survivors": now["survivors"]}


if __name__ == "__main__":
    sys.exit(main())
