"""The rows of plans and queries over a store are those of the same files on the disk, and of a loaded table."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import EVALUATE, KEEP, SKIP
from skipml.parquet.reading import RangedFile
from tests.oracle import identity, model
from tests.soundness.axes import Axes
from tests.soundness.cases import NAME, write
from tests.soundness.conditions import conditions, predicate_of, sql_of
from tests.soundness.differential import case_of, connection
from tests.soundness.lakes import KINDS

LAKES, PLANS = 8, 5


def test_random_lakes(tmp_path: Path, memory: str, count_cases: Callable[[int], None]) -> None:
    filesystem = fsspec.filesystem("memory")
    skipped = number = lakes = 0
    with connection() as con:
        con.register_filesystem(filesystem)
        while lakes < LAKES:
            number += 1
            axes = Axes.draw(np.random.default_rng([12, number]))
            if not all(KINDS[kind].exact for kind in axes.types):
                continue
            lakes += 1
            case = case_of(axes)
            files = write(case, tmp_path / str(number))
            urls = [f"{memory}/{number}/{Path(path).name}" for path in files.paths]
            for path, url in zip(files.paths, urls, strict=True):
                filesystem.pipe_file(url, Path(path).read_bytes())
            if lakes % 2:
                skipml.enrich(urls, list(axes.lake.columns))
            values = files.rows  # noqa: F841 DuckDB reads it
            con.execute("CREATE OR REPLACE TABLE truth AS FROM values")
            con.register_model(NAME, case.model)
            inputs = ", ".join(
                KINDS[kind].arguments[0].format(name) for kind, name in zip(axes.types, axes.lake.columns, strict=True)
            )
            for condition in conditions(axes.rng(3), files.scores, PLANS):
                plan = skipml.plan(urls, predicate_of(condition, case.model), budget=Budget(1.0, prove_keep=True))
                text = sql_of(condition, NAME, inputs, case.model.n_outputs)
                expected = con.execute(f"SELECT id FROM truth WHERE {text} ORDER BY id").fetchall()
                ids = [row[0] for row in expected]
                assert plan.scan(["id"]).read_all()["id"].to_pylist() == ids, (number, condition)
                assert plan.to_polars(["id"]).collect()["id"].to_list() == ids, (number, condition)
                left = files.rows["id"].to_numpy()[np.repeat(plan.decisions != SKIP, plan.footers.n_rows)]
                assert plan.traffic.startswith("memory: "), "what was asked of the store"
                near = plan.candidates(["id"]).to_table()["id"].to_pylist()
                assert set(left.tolist()) <= set(near), (number, condition)
                asked = f"SELECT id FROM read_parquet({urls}) WHERE {text} ORDER BY id"
                assert con.execute(asked).fetchall() == expected, (number, condition)
                skipped += plan.decisions.tolist().count(SKIP)
            con.remove_function(NAME)
    assert skipped > LAKES * PLANS
    count_cases(LAKES * PLANS)


def test_row_groups_are_announced_with_what_is_read_of_them_and_held_when_they_are(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files whose row groups 0 and 1 are kept, scored and left out in turn: (KEEP, EVALUATE), (EVALUATE, SKIP)."""
    filesystem, urls = fsspec.filesystem("memory"), [f"{memory}/{i}.parquet" for i in range(2)]
    for url, a in zip(urls, ([3.0, 4.0, 1.0, 3.0], [1.0, 5.0, 0.0, 1.0]), strict=True):
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": range(4), "A": a, "b": a}), sink, row_group_size=2)
        filesystem.pipe_file(url, sink.getvalue())
    skipml.enrich(urls, ["A"])
    plan = skipml.plan(urls, model(identity("float64")) > 2, budget=Budget.unlimited(boxes_per_block=16))
    assert plan.decisions.tolist() == [KEEP, EVALUATE, EVALUATE, SKIP]
    announced = plan._announced(plan.schema(["id"]))
    assert [(group.number, group.columns) for group in announced] == [(0, ("id",)), (1, ("id", "A")), (0, ("id", "A"))]
    held, hold = [], RangedFile.hold

    def noted(file: RangedFile, parts: list[tuple[int, bytes]]) -> None:
        held.append(len(parts))
        hold(file, parts)

    monkeypatch.setattr(RangedFile, "hold", noted)
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == [0, 1, 3, 1]
    assert len(held) == 3
    assert plan.traffic.startswith("memory: ")
