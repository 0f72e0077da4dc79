"""What is stored of scores, rows and finer blocks makes skipping better; the battery shows that it is sound."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.bounds.outcome import Reason
from skipml.decisions import decide
from skipml.footers import read_footers
from skipml.metadata.loading import load
from skipml.metadata.refine import refine
from skipml.regions import Regions, from_refined
from tests.oracle import ask, identity, linear, model

pytestmark = pytest.mark.usefixtures("patient")

MINUS = model(linear([[1, -1]], [0]))
NO_WORK = Budget(cost_per_row=0.0, free_boxes=0)


def follows(path: Path, n: int = 4000, group: int = 500) -> pa.Table:
    """`b` follows the unsorted `a`; the difference is within 0.01, but for one row in the last row group."""
    rng = np.random.default_rng(0)
    a = rng.random(n)
    b = a + 0.01 * rng.random(n)
    b[-1] = a[-1] - 1.0
    table = pa.table({"id": np.arange(n), "a": a, "b": b})
    pq.write_table(table, path, row_group_size=group)
    return table


def regions(path: Path, columns: list[str]) -> Regions:
    return from_refined(refine(read_footers([str(path)], columns)), columns)


def test_stored_scores_decide_without_any_bounds(tmp_path: Path) -> None:
    table = follows(path := tmp_path / "x.parquet")
    test = MINUS > 0.02
    assert not (skipml.plan(path, test, budget=NO_WORK).decisions == skipml.SKIP).any()
    skipml.enrich(path, pairs=[], models=[MINUS])
    plan = skipml.plan(path, test, budget=NO_WORK)
    assert plan.decisions.tolist() == [skipml.SKIP] * 7 + [skipml.EVALUATE]
    assert plan.result.method_names[:7] == ["score_map"] * 7
    assert (plan.result.upper[:7] < 0.02).all()
    assert (plan.result.lower[:7] > -0.02).all()
    assert (skipml.plan(path, MINUS < 2, budget=NO_WORK).decisions == skipml.KEEP).all()
    assert plan.scan().read_all().num_rows == test.matches(table).sum() == 1
    with skipml.connect() as con:
        con.register_model("minus", MINUS)
        answers = ask(con, f"SELECT id FROM '{path}' WHERE minus(a, b) > 0.02")
        assert (answers.skipped, len(answers.plain)) == (7, 1)
        assert answers.skipping == answers.plain
        assert "stored scores" in str(answers.report)
        assert ask(con, f"SELECT id FROM '{path}' WHERE minus(b, a) > 1").skipped == 0, "another order of columns"


def test_cells_between_the_scores_are_empty(tmp_path: Path) -> None:
    follows(path := tmp_path / "x.parquet")
    skipml.enrich(path, pairs=[], models=[MINUS], score_bytes=8)
    gap = skipml.plan(path, MINUS.between(0.2, 0.8), budget=NO_WORK)
    assert (gap.decisions == skipml.SKIP).all()
    skipml.enrich(path, pairs=[], models=[MINUS], score_bytes=0)
    gap = skipml.plan(path, MINUS.between(0.2, 0.8), budget=NO_WORK)
    assert gap.decisions.tolist() == [skipml.SKIP] * 7 + [skipml.EVALUATE]


def test_scores_of_a_retrained_model_are_of_no_use(tmp_path: Path) -> None:
    follows(path := tmp_path / "x.parquet")
    skipml.enrich(path, pairs=[], models=[MINUS])
    other = model(linear([[1, -1.0001]], [0])) > 0.02
    assert not (skipml.plan(path, other, budget=NO_WORK).decisions == skipml.SKIP).any()
    assert skipml.enrich(path, pairs=[], models=[MINUS]).files[0].state == "up to date"
    assert skipml.enrich(path, pairs=[], models=[model(linear([[1, -1.0001]], [0]))]).files[0].state == "enriched"
    assert (skipml.plan(path, other, budget=NO_WORK).decisions == skipml.SKIP).sum() == 7


def test_classes_that_do_not_occur_are_skipped(tmp_path: Path) -> None:
    follows(path := tmp_path / "x.parquet")
    classes = model(linear([[1, -1], [-1, 1], [0, 0]], [-0.5, 0.0, -10.0]))  # the second, but for the last row
    skipml.enrich(path, pairs=[], models=[classes])

    def decided(test: skipml.Predicate) -> list[int]:
        return list(skipml.plan(path, test, budget=NO_WORK).decisions)

    assert decided(classes.is_class(0)) == [skipml.SKIP] * 7 + [skipml.EVALUATE]
    assert decided(~classes.is_class(1)) == [skipml.SKIP] * 7 + [skipml.EVALUATE]
    assert decided(classes.is_class(2)) == [skipml.SKIP] * 8
    assert decided(classes.output(2) > -9) == [skipml.SKIP] * 8


def test_finer_blocks_leave_fewer_rows_to_score(tmp_path: Path) -> None:
    table = follows(path := tmp_path / "x.parquet")
    skipml.enrich(path, pairs="all", block_rows=100)
    test = MINUS > 0.02
    plan = skipml.plan(path, test, budget=Budget.unlimited(16))
    assert plan.summary == "Row groups: 8 in 40 blocks, skipped 39, kept 0, evaluated 1"
    assert plan.table.column("first_row").to_pylist() == list(range(0, 4000, 100))
    assert plan.table.column("row_group").to_pylist()[-6:] == [6, 7, 7, 7, 7, 7]
    assert plan.scan().read_all().equals(table.slice(3999))
    with skipml.connect() as con:
        con.register_model("minus", MINUS)
        answers = ask(con, f"SELECT id FROM '{path}' WHERE minus(a, b) > 0.02")
        assert answers.report is not None
        assert answers.report.scans[0].counts["row_groups"] == 8
        assert answers.skipped == 7, "in DuckDB a row group is read or not"
        assert answers.skipping == answers.plain


def test_a_file_of_finer_blocks_lies_beside_one_of_row_groups(tmp_path: Path) -> None:
    for name, rows in (("a", 100), ("b", None), ("c", 77)):
        follows(tmp_path / f"{name}.parquet")
        skipml.enrich(tmp_path / f"{name}.parquet", pairs="all", block_rows=rows)
    follows(tmp_path / "d.parquet")
    plan = skipml.plan(str(tmp_path / "*.parquet"), MINUS > 0.02, budget=Budget.unlimited(16))
    assert plan.footers.n_row_groups == 32
    assert len(plan.decisions) == 40 + 8 + 8 * 7 + 8
    assert plan.scan().read_all().num_rows == 4


def test_rows_end_the_work_and_estimate_the_selectivity(tmp_path: Path) -> None:
    follows(path := tmp_path / "x.parquet")
    test = model(identity()) > 0.7
    assert skipml.plan(path, test).selectivity is None
    skipml.enrich(path, ["a"], pairs=[], witness_bytes=200)
    plan = skipml.plan(path, test)
    assert set(plan.result.reason.tolist()) == {Reason.WITNESS}
    assert plan.result.method_names == ["none"] * 8
    assert plan.selectivity == pytest.approx(0.3, abs=0.08)
    both = skipml.plan(path, test & (model(identity()) < 0.8))
    assert both.selectivity == pytest.approx(0.1, abs=0.06)
    metadata = load(path).metadata
    assert metadata is not None
    assert metadata.witnesses[0].rows.shape == (8, 200)


def test_a_region_of_the_whole_file_decides_all_of_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipml.metadata.refine._WORTH_A_LEVEL", 40)
    rng = np.random.default_rng(0)
    a = rng.random(4000)
    path, table = tmp_path / "x.parquet", pa.table({"a": a, "b": a + 0.01 * rng.random(4000)})
    pq.write_table(table, path, row_group_size=100)
    test = MINUS > 0.02
    skipml.enrich(path, pairs="all")
    found = decide(test, regions(path, ["a", "b"]), Budget.unlimited(256))
    assert (found.decision == skipml.SKIP).all()
    assert found.boxes.sum() == 0, "one hull for the file is enough"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_rows": 0}, "at least one row"),
        ({"score_bytes": -1}, "0 or more"),
        ({"witness_bytes": -1}, "0 or more"),
        ({"models": [skipml.Model(identity(), ("gone",))]}, "gone"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    follows(path := tmp_path / "x.parquet")
    with pytest.raises(skipml.EnrichmentError, match=message):
        skipml.enrich(path, ["a"], **arguments)  # type: ignore[arg-type]


def test_decimals_that_an_engine_reads_in_its_own_way_have_no_metadata(tmp_path: Path) -> None:
    """DuckDB makes a DOUBLE of a decimal of more than 38 digits, 1.5 even another number."""
    wide = pa.array([Decimal(i) / 4 for i in range(-200, 200)], pa.decimal256(40, 2))
    pq.write_table(pa.table({"a": wide, "b": np.arange(400.0)}), path := tmp_path / "x.parquet", row_group_size=100)
    skipml.enrich(path, models=[model(identity("float64"))])
    with skipml.connect() as con:
        con.register_model("same", model(identity("float64")))
        for limit in ("10", "1e10"):
            answers = ask(con, f"SELECT b FROM '{path}' WHERE same(a) > {limit}")
            assert answers.skipping == answers.plain


def test_columns_that_differ_in_case_are_scored_as_named(tmp_path: Path) -> None:
    x = np.arange(400.0)
    pq.write_table(pa.table({"a": x, "A": -x, "k": x}), path := tmp_path / "x.parquet", row_group_size=100)
    plan = skipml.plan(path, model(identity()) > 50.5, budget=NO_WORK)
    assert plan.scan(["k"]).read_all().num_rows == 349
    with pytest.raises(skipml.SchemaError, match="at least one column"):
        plan.scan([])
