"""Random fitted models of every kind, held against their library: scores of edge rows, and decisions about them.

usage: python -m tests.models.thousand [--count 1000] [--kind xgboost] [--minutes 60] [--output FILE]

Kinds take turns, 20 models each, so that a run that is stopped has tried as many of all. A model is that of its kind
and seed. Writes what was tried into results/thousand.json beside this file, after every turn, and goes on there if it
is of the same versions. Fails where a score is not the library's, or a decision about a block loses a row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

import skipml
from benchmarks.environment import environment
from skipml.bounds.budget import Budget
from tests.models import fitted, fitted_onnx, fitted_pipelines
from tests.soundness import text_fuzz
from tests.soundness.battery import broken, regions_of

RESULTS = Path(__file__).with_name("results") / "thousand.json"
_TURN, _BLOCK = 20, 8
_BUDGET = Budget.unlimited(boxes_per_block=4, prove_keep=True)
_LIBRARIES = ("xgboost-cpu", "lightgbm", "scikit-learn", "onnxruntime", "skl2onnx")


@dataclass(frozen=True)
class Compared:
    """One model: how far scores are from the library's, relative to the largest, and what is wrong."""

    apart: float
    problems: tuple[str, ...]


@dataclass
class Record:
    """All models of a kind so far."""

    models: int = 0
    bit_for_bit: int = 0
    largest_difference: float = 0.0
    wrong: int = 0

    def add(self, found: Compared) -> None:
        """One more."""
        self.models += 1
        self.bit_for_bit += found.apart == 0
        self.largest_difference = max(self.largest_difference, found.apart)
        self.wrong += bool(found.problems)


def _tree_model(kind: str, rng: np.random.Generator) -> Compared:
    fit, name = fitted.KINDS[kind]
    found = fit(rng, name)
    rows = fitted.edges(found, rng)
    apart = fitted.difference(found, rows)
    names = [f"x{i}" for i in range(rows.shape[1])]
    table = pa.table({name: pa.array(rows[:, i], pa.float64(), from_pandas=False) for i, name in enumerate(names)})
    return _compared(skipml.Model(found.trees, tuple(names)), table, apart, found.tolerance)


def _pipeline(kind: str, rng: np.random.Generator) -> Compared:
    found = fitted_pipelines.fit(rng, kind, refused=4)
    is_exact = kind in ("forest", "hist", "gbm")
    apart = fitted_pipelines.difference(found)
    with TemporaryDirectory() as folder:
        lost = tuple(text_fuzz.problems(found, rng, Path(folder)))
    return Compared(apart, (*_lines(apart, 0.0 if is_exact else fitted_pipelines.TOLERANCE), *lost))


def _onnx(kind: str, rng: np.random.Generator) -> Compared:
    found = fitted_onnx.fit(rng, kind)
    apart = fitted_onnx.difference(found)
    return Compared(apart, _lines(apart, found.tolerance))


KINDS: Mapping[str, Callable[[np.random.Generator], Compared]] = {
    **{kind: partial(_tree_model, kind) for kind in fitted.KINDS},
    **{f"pipeline {kind}": partial(_pipeline, kind) for kind in fitted_pipelines.KINDS},
    **{f"onnx {kind}": partial(_onnx, kind) for kind in fitted_onnx.KINDS},
}


def compared(kind: str, seed: int) -> Compared:
    """Fit the model of a kind and seed, and hold it against its library."""
    return KINDS[kind](np.random.default_rng([seed, *kind.encode()]))


def _lines(apart: float, allowed: float) -> tuple[str, ...]:
    return () if apart <= allowed else (f"scores are {apart:.3g} apart, {allowed:.3g} allowed",)


def _compared(model: skipml.Model, rows: pa.Table, apart: float, allowed: float) -> Compared:
    """Adds what decisions about blocks of the rows, sorted by a column, get wrong."""
    rows = rows.sort_by(rows.column_names[0])
    blocks = [rows.slice(start, _BLOCK) for start in range(0, rows.num_rows, _BLOCK)]
    regions = regions_of(blocks, rows.column_names)
    lost = [line for what, test in _tests(model, rows) for line in broken(what, test, regions, blocks, _BUDGET)]
    return Compared(apart, (*_lines(apart, allowed), *lost))


def _tests(model: skipml.Model, rows: pa.Table) -> Iterator[tuple[str, Any]]:
    """Limits that are scores of rows, so that a decision just holds or just fails."""
    scores = model.evaluate(rows)[:, 0]
    known = np.sort(scores[~np.isnan(scores)].astype(np.float64))
    for share in (0.0, 0.3, 0.97) if len(known) else ():
        limit = float(known[int(share * (len(known) - 1))])
        yield f"> {limit!r}", model.output(0) > limit
        yield f"<= {limit!r}", model.output(0) <= limit


def run(kinds: Sequence[str], count: int, until: float, records: dict[str, Record]) -> Iterator[str]:
    """Try models in turns, and give a line on each turn of a kind."""
    while True:
        left = [kind for kind in kinds if records.setdefault(kind, Record()).models < count]
        if not left or time.monotonic() > until:
            return
        for kind in left:
            record, first = records[kind], records[kind].models
            wrong = []
            for seed in range(first, min(first + _TURN, count)):
                found = compared(kind, seed)
                record.add(found)
                wrong += [f"  WRONG: seed {seed}: {line}" for line in found.problems[:3]]
            yield "\n".join([f"{kind}: seeds {first} to {record.models - 1}, {record}", *wrong])
            if time.monotonic() > until:
                return


def _same_code() -> dict[str, Any]:
    """What a record must agree with to be gone on with."""
    return {"skipml": version("skipml"), **{name: version(name) for name in _LIBRARIES}}


def main() -> None:
    """Compare as many models as the command line says, and fail where one differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.models.thousand", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=1000, help="models per kind (default 1000)")
    parser.add_argument("--kind", default="", help="kinds whose name contains this")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help="where results go")
    options = parser.parse_args()
    chosen = [kind for kind in KINDS if options.kind in kind]
    head, records = _same_code(), dict[str, Record]()
    if options.output.exists():
        before = json.loads(options.output.read_text())
        if before["versions"] == head:
            records = {kind: Record(**record) for kind, record in before["kinds"].items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for line in run(chosen, options.count, time.monotonic() + 60 * options.minutes, records):
        print(line, flush=True)  # noqa: T201
        content = {"environment": environment(), "versions": head, "kinds": {k: asdict(r) for k, r in records.items()}}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(any(record.wrong for record in records.values()))


if __name__ == "__main__":
    main()
