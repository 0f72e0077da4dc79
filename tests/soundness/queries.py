"""Fuzzing of queries: the same rows with skipping, without it, and from loaded tables.

python -m tests.soundness.queries --queries 10000 [--seed 1]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np

import skipml
from tests.soundness.command import fuzzer_parser
from tests.soundness.corpus import FOLDER, store
from tests.soundness.query_lake import QueryLake, query_connection, write_lake
from tests.soundness.query_shapes import Select, random_select
from tests.soundness.shrink import shrunk

_SHRINK_SECONDS = 30.0
_DEPTHS = (1, 1, 2, 2, 3)


PARAMETERS = {"limit": 62.5}


def rows_of(con: skipml.Connection, sql: str, *, skipping: bool, before: Sequence[str] = ()) -> list[str]:
    """The rows as sorted text, -0.0 as 0.0, or the error; some statements are run `before`."""
    con.skipping = skipping
    try:
        for statement in before:
            con.execute(statement)
        rows = con.execute(sql, PARAMETERS if "$limit" in sql else None).fetchall()
    except (duckdb.Error, skipml.SkipmlError) as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        con.skipping = True
    return sorted(repr([value + 0.0 if isinstance(value, float) else value for value in row]) for row in rows)


def is_error(rows: list[str]) -> bool:
    return len(rows) == 1 and ("Error: " in rows[0] or "Exception: " in rows[0])


def problem_of(
    con: skipml.Connection, lake: QueryLake, sql: str, before: Sequence[str] = ()
) -> tuple[str, Counter[str]]:
    """What is wrong with a query, "" if nothing is, and counts."""
    con.last_report = None
    skipping = rows_of(con, lake.on_files(sql), skipping=True, before=before)
    report = _report(con)
    plain = rows_of(con, lake.on_files(sql), skipping=False, before=before)
    skipped = 0 if report is None else report.counters["skipped"]
    counts = Counter(queries=1, with_skips=int(skipped > 0), skipped=skipped, errors=int(is_error(plain)))
    counts += Counter(unscored=int(bool(report and report.counters["rows_unscored"])))
    if report is not None and report.counters["errors"]:
        return f"an error while pruning: {report.notes}", counts
    if is_error(plain):  # a row that is not read raises nothing
        return ("" if is_error(skipping) or skipped else "an error only without skipping"), counts
    if skipping != plain:
        return f"{len(skipping)} rows with skipping, {len(plain)} without, {_difference(skipping, plain)}", counts
    on_tables = lake.on_tables(sql)
    if on_tables is not None:
        counts["with_tables"] = 1
        tables = rows_of(con, on_tables, skipping=False, before=before)
        if tables != skipping:
            return f"{len(skipping)} rows, {len(tables)} from tables, {_difference(skipping, tables)}", counts
    return "", counts


def _report(con: skipml.Connection) -> skipml.Report | None:
    return con.last_report


def _difference(found: list[str], expected: list[str]) -> str:
    lost, added = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return f"lost {list(lost)[:2]}, added {list(added)[:2]}"


def fuzz(
    seed: int, queries: int, *, corpus: Path = FOLDER, say: Callable[[str], object] = print, seconds: float = 1e9
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Ask random queries -> counts, how often each shape was among them, and the problems."""
    totals, shapes, problems, start = Counter[str](), Counter[str](), list[str](), perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lake = write_lake(Path(folder))
        with query_connection(lake) as con:
            for number in range(queries):
                if perf_counter() - start > seconds:
                    break
                rng = np.random.default_rng([seed, number])
                select = random_select(rng, int(rng.choice(_DEPTHS)))
                problem, counts = problem_of(con, lake, select.sql)
                totals += counts
                shapes.update(select.shapes())
                if problem:
                    simple = shrunk(
                        select, Select.smaller, lambda s: bool(problem_of(con, lake, s.sql)[0]), _SHRINK_SECONDS
                    )
                    problems.append(f"{problem}: {simple.sql}")
                    say(f"seed {seed}, query {number}: {problems[-1]}")
                    store("queries", {"problem": problem, "sql": simple.sql}, corpus)
    say(
        f"seed {seed}, DuckDB {duckdb.__version__}: {totals['queries']:,} queries of {len(shapes)} shapes, "
        f"{totals['with_skips']:,} skip {totals['skipped']:,} row groups, {totals['unscored']:,} leave rows unscored, "
        f"{totals['with_tables']:,} against tables, {totals['errors']:,} are errors, {len(problems)} problems, "
        f"{perf_counter() - start:,.0f} s"
    )
    return totals, shapes, problems


def main(arguments: list[str] | None = None) -> int:
    parser = fuzzer_parser(__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    given = parser.parse_args(arguments)
    _, shapes, problems = fuzz(given.seed, given.queries, seconds=60 * given.minutes)
    for shape, number in shapes.most_common():
        print(f"  {number:6,} {shape}")  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
