"""Attacks on row groups that are skipped: a qualifying row is searched for inside the limits, and one is planted.

python -m tests.soundness.planted --groups 5000 [--seed 1]
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import skipml
from skipml.bounds.verifier import Verifier
from skipml.decisions import SKIP
from skipml.features import model_inputs
from skipml.footers import read_footers
from skipml.plans import Plan
from skipml.regions import from_footers
from tests.oracle import standing_clock
from tests.soundness.axes import BUDGETS, METADATA, Axes
from tests.soundness.cases import Case, Files, write
from tests.soundness.command import fuzzer_parser
from tests.soundness.conditions import Condition, Scores, conditions, predicate_of
from tests.soundness.differential import case_of
from tests.soundness.lakes import KINDS, Rng, write_groups

Floats = NDArray[np.float64]

WHOLE_GROUPS = tuple(name for name, settings in METADATA.items() if "block_rows" not in (settings or {}))
_CONDITIONS, _STARTS, _STEPS = 6, 8, 12


@dataclass(frozen=True)
class Attack:
    """A case, with the types of its columns."""

    axes: Axes
    case: Case
    rng: Rng

    def points(self, lower: Floats, upper: Floats) -> Floats:
        """Inputs [n, d] between two corners [d]: the corners, points on the border and within, the ways up and down
        along the gradients of each output, and what lies between the highest and the lowest.
        """
        d, rng = len(lower), self.rng
        with np.errstate(over="ignore"):
            span = np.minimum(upper - lower, 1e300)
        share = rng.random((4 * _STARTS, d))
        share[_STARTS : 2 * _STARTS] = np.round(share[_STARTS : 2 * _STARTS])
        share[:_STARTS, int(rng.integers(d))] = rng.integers(0, 2, _STARTS)
        corners = np.array(list(itertools.islice(itertools.product((0.0, 1.0), repeat=d), 32)))
        starts = np.clip(lower + np.concatenate([corners, share]) * span, lower, upper)
        verifier = Verifier(self.case.network)
        found = [starts]
        for output in range(self.case.network.n_outputs):
            for sign in (1.0, -1.0):
                x, direction = starts, np.zeros((len(starts), self.case.network.n_outputs))
                direction[:, output] = sign
                for step in range(_STEPS):
                    gradient = np.nan_to_num(verifier.gradients(x, direction), posinf=0, neginf=0)
                    x = np.clip(x + np.sign(gradient) * span * 0.5 ** (step / 2 + 1), lower, upper)
                    found.append(x)
        ends = np.concatenate([found[-1], found[_STEPS]])
        mix = rng.random((64, 1))
        some, others = rng.integers(len(ends), size=(2, 64))
        return np.concatenate([*found, np.clip(ends[some] + mix * (ends[others] - ends[some]), lower, upper)])

    def qualifying(self, inputs: Floats, condition: Condition) -> Floats:
        """Those of the inputs that pass."""
        scores = Scores(self.case.network.forward(inputs), np.zeros(len(inputs), np.bool_))
        return inputs[scores.holds(condition)[0]]

    def rows(self, inputs: Floats) -> pa.Table:
        """Rows whose inputs are as near to the given ones as their types allow."""
        kinds = [KINDS[name] for name in self.axes.types]
        columns = [
            kind.array([kind.value((x - kind.centre) / kind.scale) for x in column.tolist()])
            for kind, column in zip(kinds, inputs.T, strict=True)
        ]
        return pa.table([pa.array([-1] * len(inputs), pa.int64()), *columns], ["id", *self.case.model.columns])

    def from_nowhere(self, files: Files, condition: Condition) -> pa.Table | None:
        """One row that passes: of another row group, or found far from the data."""
        true, _ = files.scores.holds(condition)
        if true.any():
            at = int(self.rng.choice(np.flatnonzero(true)))
            return files.rows.slice(at, 1)
        kinds = [KINDS[name] for name in self.axes.types]
        wide = np.array([[kind.centre - 9 * kind.scale, kind.centre + 9 * kind.scale] for kind in kinds]).T
        found = self.qualifying(self.points(*wide), condition)[:32]
        if not len(found):
            return None
        rows = self.rows(found).cast(files.rows.schema, safe=False)
        inputs, null = model_inputs(rows, self.case.model.columns)
        passed, _ = Scores(self.case.network.forward(inputs), np.asarray(null.any(axis=1), np.bool_)).holds(condition)
        return rows.slice(int(np.flatnonzero(passed)[0]), 1) if passed.any() else None

    def plan(self, files: list[Path], condition: Condition) -> Plan:
        predicate = predicate_of(condition, self.case.model)
        return skipml.plan(files, predicate, budget=BUDGETS[self.axes.budget](predicate.seconds_per_row))

    def inside(self, files: Files, condition: Condition, skipped: list[int]) -> tuple[list[str], int]:
        """Points within the limits of the columns in skipped row groups that pass nevertheless: none may where nothing
        is known but these limits; and how many points were tried.
        """
        if self.axes.metadata != "footers":
            return [], 0
        regions = from_footers(
            read_footers(list(map(str, files.paths)), self.case.model.columns), self.case.model.columns
        )
        problems, tried = [], 0
        for group in skipped:
            if regions.unknown[group].any() or regions.all_null[group].any():
                continue
            points = self.points(regions.lower[group], regions.upper[group])
            found = self.qualifying(points, condition)
            tried += len(points)
            if len(found):
                problems.append(f"{condition}: row group {group} is SKIP, and {found[0].tolist()} within it passes")
        return problems, tried

    def planted(self, files: Files, condition: Condition, skipped: list[int], row: pa.Table, folder: Path) -> list[str]:
        """Put the row into each skipped row group, in the same files: none of them may be skipped any more, with what
        was stored before, and with what is stored anew.
        """
        case, problems = self.case, []
        sizes = self.plan(files.paths, condition).footers.n_rows
        groups, start = [], 0
        for number, size in enumerate(sizes.tolist()):
            rows = files.rows.slice(start, size)
            start += size
            if number in skipped:
                at = int(self.rng.integers(size))
                rows = pa.concat_tables([rows.slice(0, at), row, rows.slice(at + 1)])
            groups.append(rows.combine_chunks())
        write_groups(case.writer, groups, case.n_files, folder)
        problems += self._still_skipped(files, condition, skipped, "old metadata")
        settings = METADATA[case.metadata]
        if settings is not None:
            models = [case.model] if settings.get("models") else []
            skipml.enrich(files.paths, list(case.model.columns), **{**settings, "models": models})
            problems += self._still_skipped(files, condition, skipped, "new metadata")
        return problems

    def _still_skipped(self, files: Files, condition: Condition, skipped: list[int], what: str) -> list[str]:
        decisions = self.plan(files.paths, condition).decisions
        return [f"{condition}: row group {g} stays SKIP with {what}" for g in skipped if decisions[g] == SKIP]


def attacked(axes: Axes, folder: Path) -> tuple[list[str], Counter[str]]:
    """Attack the row groups that some conditions skip."""
    attack = Attack(axes, case_of(axes), axes.rng(4))
    problems, counts = [], Counter[str]()
    for number in range(_CONDITIONS):
        here = folder / str(number)
        files = write(attack.case, here)
        (condition,) = conditions(attack.rng, files.scores, 1)
        skipped = np.flatnonzero(attack.plan(files.paths, condition).decisions == SKIP).tolist()
        if skipped:
            wrong, tried = attack.inside(files, condition, skipped)
            problems += wrong
            counts += Counter(points=tried)
            row = attack.from_nowhere(files, condition)
            if row is not None:
                problems += attack.planted(files, condition, skipped, row, here)
                counts += Counter(groups=len(skipped), rewritten=1)
        shutil.rmtree(here)
    return problems, counts


def attack_all(
    seed: int, groups: int, say: Callable[[str], object] = print, seconds: float = 1e9
) -> tuple[Counter[str], list[str]]:
    """Attack random lakes until so many row groups were attacked, or the time is over."""
    totals, problems, start = Counter[str](), list[str](), perf_counter()
    said = start
    with tempfile.TemporaryDirectory() as place, standing_clock():
        for number in itertools.count():
            if totals["groups"] >= groups or perf_counter() - start > seconds:
                break
            rng = np.random.default_rng([seed, number])
            axes = Axes.draw(rng)
            if axes.metadata not in WHOLE_GROUPS:
                axes = replace(axes, metadata=str(rng.choice(WHOLE_GROUPS)))
            folder = Path(place) / str(number)
            folder.mkdir()
            found, counts = attacked(axes, folder)
            folder.rmdir()
            totals += counts + Counter(lakes=1)
            for problem in found:
                say(f"seed {seed}, lake {number}, {axes}: {problem}")
            problems += found
            if perf_counter() - said > 60:
                said = perf_counter()
                say(_summary(totals, problems, said - start))
    say(f"seed {seed}: {_summary(totals, problems, perf_counter() - start)}")
    return totals, problems


def _summary(totals: Counter[str], problems: list[str], seconds: float) -> str:
    """One line."""
    return (
        f"{totals['groups']:,} skipped row groups of {totals['lakes']:,} lakes attacked, {totals['points']:,} points "
        f"tried inside, {totals['rewritten']:,} lakes rewritten, {len(problems)} problems, {seconds:,.0f} s"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = fuzzer_parser(__doc__)
    parser.add_argument("--groups", type=int, default=5000)
    given = parser.parse_args(arguments)
    return 1 if attack_all(given.seed, given.groups, seconds=60 * given.minutes)[1] else 0


if __name__ == "__main__":
    sys.exit(main())
