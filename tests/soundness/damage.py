"""Damaged files in processes of their own: no crash, no hang, no memory beyond bounds, no wrong row.

python -m tests.soundness.damage --files 50000 [--seed 1]
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import pytest

import skipml
from skipml.errors import SkipmlError
from skipml.footers import read_footers
from skipml.metadata.storage import sidecar_path
from tests import scorers
from tests.soundness.command import fuzzer_parser
from tests.soundness.corpus import FOLDER, store
from tests.soundness.damaged_files import MODEL, Base, Damage, damages, put, written

SCORERS = ("python", "kernels", "native", "batches")
"""What scores in turn, in a process each; see tests/scorers.py."""
SECONDS, BYTES = 10.0, 2 << 30
"""What one file may take."""
_BATCH = 400
_ENOUGH = 20
"""Problems after which a run ends."""
_QUERIES = (
    "SELECT id FROM '{path}' WHERE minus(a, b) > 20",
    "SELECT id FROM '{path}' WHERE minus(a, b) < -10 OR minus(a, b) BETWEEN 5 AND 6",
)


class Checker:
    """What a worker does with damaged files."""

    def __init__(self) -> None:
        self.asked = 0
        self.open()

    def open(self) -> None:
        """Open new databases: DuckDB gives one up where a file leads it into an error of its own."""
        self.plain = duckdb.connect(config={"threads": 1, "memory_limit": "500MB"})
        self.con = skipml.connect(config={"threads": 1, "memory_limit": "500MB"})
        self.con.register_model("minus", MODEL)

    def check(self, path: Path, *, trusted: bool, stage: Callable[[str], None]) -> tuple[str, Counter[str]]:
        """What is wrong, "" if nothing is; of metadata that is not `trusted` any row may be wrong."""
        stage("plan")
        predicates = [MODEL > 20, (MODEL < -10) | MODEL.between(5, 6)]
        for predicate in predicates:
            plan = skipml.plan(path, predicate)
            if plan.result.error:
                return f"pruning failed: {plan.result.error}", Counter()
        stage("DuckDB alone")
        try:
            rows = self.plain.execute(f"SELECT id, a, b FROM '{path}'").fetchall()
        except (duckdb.FatalException, duckdb.InternalException):
            self.open()
            return "", Counter(fatal_to_duckdb=1)
        except (duckdb.Error, UnicodeDecodeError):  # DuckDB may quote a damaged name of a column
            rows = None
        stage("queries")
        self.asked = (self.asked + 1) % len(_QUERIES)
        query = _QUERIES[self.asked].format(path=path)
        found = self._rows(query, skipping=True)
        if self.con.last_report is not None and self.con.last_report.counters["errors"]:
            notes = self.con.last_report.notes
            self.open()
            return f"pruning failed: {notes}", Counter()
        expected = self._rows(query, skipping=False) if rows is not None else None
        counts = Counter(readable=int(expected is not None))
        if not trusted or expected is None or found == expected:
            return "", counts
        if self._lies(path):
            return "", counts + Counter(lying=1)
        return f"{query}: {'an error' if found is None else len(found)} instead of {len(expected)} rows", counts

    def _rows(self, query: str, *, skipping: bool) -> list[str] | None:
        self.con.skipping, self.con.last_report = skipping, None
        try:
            return sorted(map(repr, self.con.execute(query).fetchall()))
        except (duckdb.Error, SkipmlError, UnicodeDecodeError):
            return None

    def _lies(self, path: Path) -> bool:
        """Whether the footer says of the rows that DuckDB reads what is not so: then DuckDB itself leaves rows out."""
        footers = read_footers([str(path)], ["a", "b"])
        start = 0
        rows = self.plain.execute(f"SELECT a, b FROM '{path}'").fetchnumpy()
        for group, n in enumerate(footers.n_rows.tolist()):
            for name in ("a", "b"):
                stats, values = footers.columns[name], np.ma.asarray(rows[name][start : start + n])
                is_null = np.ma.getmaskarray(values)
                numbers = values.data[~is_null].astype(np.float64)
                is_nan = np.isnan(numbers)
                outside = (numbers < stats.lower[group]) | (numbers > stats.upper[group])
                nulls = int(is_null.sum())
                if stats.known[group] and (outside[~is_nan].any() or stats.null_count[group] not in (-1, nulls)):
                    return True
                if (stats.all_null[group] and len(numbers)) or (is_nan.any() and not stats.may_be_nan[group]):
                    return True
            start += n
        return start != len(rows["a"])


def _say(pipe: Pipe, number: int, stage: str) -> None:
    pipe.send((number, stage, ""))


def work(
    pipe: Pipe, bases: dict[str, Base], batch: Sequence[Damage], first: int, folder: str, scorer: str | None
) -> None:
    """Check a batch of damaged files, and say before each step what it is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if scorer is not None:
        scorers.use(scorer, pytest.MonkeyPatch())  # for the rest of this process
    checker = Checker()
    for number, damage in enumerate(batch, start=first):
        path = Path(folder) / f"{number}.parquet"
        put(bases[damage.base], damage, path)
        pipe.send((number, "start", ""))
        try:
            stage = partial(_say, pipe, number)
            problem, counts = checker.check(path, trusted=damage.part != "sealed sidecar", stage=stage)
        except Exception as error:
            problem, counts = f"{type(error).__name__}: {error}", Counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if peak > BYTES and not problem:
            problem = f"{peak >> 20} MiB of memory"
        pipe.send((number, "end", json.dumps([problem, counts])))
        path.unlink()
        Path(sidecar_path(path)).unlink(missing_ok=True)
        if peak > BYTES:
            return


def run_batch(
    bases: dict[str, Base], batch: Sequence[Damage], folder: str, scorer: str | None = None
) -> Iterator[tuple[Damage, str, dict[str, int]]]:
    """The damages with what is wrong with each, and counts; a process that dies or hangs is replaced."""
    done = 0
    context = multiprocessing.get_context("fork")
    while done < len(batch):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, bases, batch[done:], done, folder, scorer))
        process.start()
        theirs.close()
        stage = "begin"
        try:
            while done < len(batch):
                if not ours.poll(SECONDS + (20 if stage == "begin" else 0)):
                    yield batch[done], f"hangs in: {stage}", {}
                    done += 1
                    break
                number, stage, text = ours.recv()
                if stage == "end":
                    problem, counts = json.loads(text)
                    yield batch[number], problem, counts
                    done = number + 1
        except EOFError:
            process.join()
            yield batch[done], f"dies with {process.exitcode} in: {stage}", {}
            done += 1
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        ours.close()


def damage_all(
    seed: int,
    files: int,
    *,
    every: int = 1,
    scored_by: Sequence[str | None] = (None,),
    seconds: float = 1e9,
    corpus: Path = FOLDER,
    say: Callable[[str], object] = print,
) -> tuple[Counter[str], list[str]]:
    """Check so many damaged files, each `every`-th of all, until the time is over or too much is wrong; each batch with
    the next of `scored_by`, None for whatever scores in this process.
    """
    totals, problems, start = Counter[str](), list[str](), perf_counter()
    turns = itertools.cycle(scored_by)
    with tempfile.TemporaryDirectory() as folder:
        bases = written(Path(folder))
        time.sleep(0.01)
        todo = itertools.islice(damages(bases, seed), 0, None, every)
        while totals["files"] < files and perf_counter() - start < seconds and len(problems) < _ENOUGH:
            batch = list(itertools.islice(todo, min(_BATCH, files - totals["files"])))
            scorer = next(turns)
            for damage, problem, counts in run_batch(bases, batch, folder, scorer):
                totals += Counter(files=1, **counts)
                totals[f"scored by {scorer}"] += 1
                totals[f"{damage.part}, {damage.kind}"] += 1
                if problem:
                    problems.append(f"{damage}, scored by {scorer}: {problem}")
                    say(problems[-1])
                    store("damage", {"problem": problem, "scorer": scorer, **asdict(damage)}, corpus)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(totals.items()) if ", " in kind)
    by = ", ".join(f"{count:,} {kind}" for kind, count in sorted(totals.items()) if kind.startswith("scored by "))
    say(
        f"seed {seed}, DuckDB {duckdb.__version__}: {totals['files']:,} damaged files ({kinds}); DuckDB reads "
        f"{totals['readable']:,} and breaks down over {totals['fatal_to_duckdb']:,}, {totals['lying']:,} have "
        f"statistics that are not true; {by}; {len(problems)} problems, {perf_counter() - start:,.0f} s"
    )
    return totals, problems


def main(arguments: list[str] | None = None) -> int:
    parser = fuzzer_parser(__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=1, help="take each n-th of all kinds of damage")
    parser.add_argument("--scorers", nargs="+", choices=SCORERS, default=SCORERS)
    given: Any = parser.parse_args(arguments)
    problems = damage_all(
        given.seed, given.files, every=given.every, scored_by=given.scorers, seconds=60 * given.minutes
    )[1]
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
