"""Decisions about blocks whose scores are known: how they are made, merged, passed down and scanned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Outcome, Reason
from skipml.decisions import Decisions, decide, prove_keep, prune
from skipml.errors import FileChangedError, FooterError, SchemaError
from skipml.footers import read_footers
from skipml.network import Affine, LeakyRelu, Network
from skipml.plans import common_schema, own_names
from skipml.regions import Regions
from tests.oracle import identity, linear, model

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
SCORE = model(identity("float64"))


def regions(*limits: tuple[float, float], **more: Any) -> Regions:
    """A block for each range of the column a."""
    lower, upper = np.array(limits, np.float64).T[:, :, None]
    n = len(limits)
    no = np.zeros((n, 1), np.bool_)
    return Regions(("a",), lower, upper, np.arange(n), np.full(n, 10), no, no, no, no, **more)


def made(decision: list[int], **more: Any) -> Decisions:
    n = len(decision)
    known: dict[str, Any] = {
        "decision": np.array(decision, np.int8),
        "lower": np.arange(n, dtype=np.float64),
        "upper": np.arange(n) + 10.0,
        "method": np.full(n, Method.CROWN, np.int8),
        "reason": np.full(n, Reason.PROVED, np.int8),
        "seconds": 1.0,
    }
    return Decisions(**(known | more))


def test_blocks_that_are_below_at_and_above_a_limit() -> None:
    found = prune(SCORE > 2, regions((0, 1), (1, 1.99), (1, 3), (3, 4)), _THOROUGH)
    assert found.decision.tolist() == [SKIP, SKIP, EVALUATE, KEEP]
    assert not found.error
    assert (found.lower <= [0, 1, 1, 3]).all()
    assert (found.upper >= [1, 1.99, 3, 4]).all()
    np.testing.assert_allclose(found.lower, [0, 1, 1, 3], atol=1e-6)
    np.testing.assert_allclose(found.upper, [1, 1.99, 3, 4], atol=1e-6)


def test_an_error_is_noted_and_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Outcome:
        raise RuntimeError("broken")

    monkeypatch.setattr("skipml.decisions.decide", fail)
    found = prune(SCORE > 2, regions((0, 1), (3, 4)), _THOROUGH)
    assert found.decision.tolist() == [EVALUATE, EVALUATE]
    assert found.error == "RuntimeError: broken"
    assert np.isnan([found.lower, found.upper]).all()
    before = made([SKIP, EVALUATE])
    after = prove_keep(SCORE > 2, regions((0, 1), (3, 4)), _THOROUGH, before)
    assert after.decision.tolist() == [SKIP, EVALUATE]
    assert after.error == "RuntimeError: broken"


def test_what_is_open_is_tried_once_more_for_keep() -> None:
    blocks = regions((0, 1), (3, 4), (1, 3))
    budget = replace(_THOROUGH, prove_keep=False)
    before = made([SKIP, EVALUATE, EVALUATE], seconds=100.0)
    after = prove_keep(SCORE > 2, blocks, budget, before)
    assert after.decision.tolist() == [SKIP, KEEP, EVALUATE]
    assert after.seconds >= 100.0
    assert after.lower[1] == pytest.approx(3)
    assert (after.lower[[0, 2]] == before.lower[[0, 2]]).all()


def test_keep_that_takes_work_is_proved_only_where_it_is_worth_it() -> None:
    """relu(a) + relu(1 - a) is at least 1, which only the halves of the box show."""
    first = Affine(np.array([[1.0], [-1.0]]), np.array([0.0, 1.0]))
    network = Network(1, 1, np.dtype(np.float64), (first, LeakyRelu(0.0), Affine(np.ones((1, 2)), np.zeros(1))))
    at_least = model(network) > 0.9
    blocks, budget = regions((-3, 1)), replace(_THOROUGH, prove_keep=False)
    before = prune(at_least, blocks, budget)
    assert before.decision.tolist() == [EVALUATE]
    assert prove_keep(at_least, blocks, budget, before).decision.tolist() == [KEEP]


def test_runs_of_blocks_are_decided_as_all_of_them_are() -> None:
    reason = np.array([Reason.PROVED, Reason.PROVED, Reason.PROVED, Reason.BUDGET, Reason.FALSIFIED, Reason.PROVED])
    found = made([SKIP, SKIP, KEEP, EVALUATE, EVALUATE, KEEP], reason=reason.astype(np.int8))
    merged = found.merged(np.array([0, 0, 1, 1, 2, 3]))
    assert merged.decision.tolist() == [SKIP, EVALUATE, EVALUATE, KEEP]
    assert merged.lower.tolist() == [0, 2, 4, 5]
    assert merged.upper.tolist() == [11, 13, 14, 15]
    assert merged.reason.tolist() == [Reason.PROVED, Reason.BUDGET, Reason.FALSIFIED, Reason.PROVED]
    mixed = made([SKIP, KEEP]).merged(np.array([0, 0]))
    assert mixed.decision.tolist() == [EVALUATE]
    method = np.array([Method.CROWN, Method.BRANCH], np.int8)
    assert made([SKIP, SKIP], method=method).merged(np.array([0, 0])).method_names == ["branch"]
    assert made([SKIP, KEEP, KEEP]).merged(np.array([1, 2, 2])).decision.tolist() == [SKIP, KEEP]


def test_two_scans_keep_what_either_needs() -> None:
    one, other = made([SKIP, SKIP, KEEP, EVALUATE]), made([SKIP, KEEP, KEEP, SKIP], lower=np.full(4, 1.5), error="e")
    both = one.either(other)
    assert both.decision.tolist() == [SKIP, EVALUATE, EVALUATE, EVALUATE]
    assert both.lower.tolist() == [0, 1, 1.5, 1.5]
    assert both.upper.tolist() == [10, 11, 12, 13]
    assert both.seconds == 2.0
    assert both.error == "e"
    assert other.either(one).error == "e"
    assert one.either(made([SKIP] * 4, lower=np.full(4, np.nan))).lower.tolist() == [0, 1, 2, 3]


def test_bounds_of_several_scores_are_of_none() -> None:
    outcome = Outcome.evaluate_all(2)
    assert Decisions.of(outcome).decision.tolist() == [EVALUATE, EVALUATE]
    several = replace(outcome, lower=np.zeros((2, 3)), upper=np.ones((2, 3)))
    assert np.isnan(Decisions.of(several).lower).all()
    assert np.isnan(Decisions.of(several).upper).all()


@pytest.mark.parametrize("chosen", [None, [True, True, False, True, False, True]])
def test_coarser_blocks_decide_finer_ones(chosen: list[bool] | None) -> None:
    coarser = regions((0, 1), (0, 9), (7, 9))
    fine = regions((0, 1), (0, 1), (0, 1), (8, 9), (1, 3), (7, 8), coarser=coarser, parent=np.array([0, 0, 1, 1, 1, 2]))
    mask = None if chosen is None else np.array(chosen)
    found = decide(SCORE > 2, fine, _THOROUGH, mask)
    expected = np.array([SKIP, SKIP, SKIP, KEEP, EVALUATE, KEEP])
    assert found.decision.tolist() == np.where(True if mask is None else mask, expected, EVALUATE).tolist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Row groups with a from 0 to 1, from 1 to 3 and from 3 to 4."""
    path = tmp_path / "x.parquet"
    table = pa.table({"id": range(12), "A": [0.0, 0.5, 0.7, 1.0, 1.0, 1.5, 2.5, 3.0, 3.0, 3.5, 3.6, 4.0]})
    with pq.ParquetWriter(path, table.schema, store_decimal_as_integer=False) as writer:
        for start in (0, 4, 8):
            writer.write_table(table.slice(start, 4))
    skipml.enrich(path, ["A"])  # there are no NaN
    return path


def test_a_plan_says_what_it_decides_and_scans_what_is_left(path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP]
    assert plan.summary == "Row groups: 3, skipped 1, kept 1, evaluated 1"
    assert plan.table["decision"].to_pylist() == ["SKIP", "EVALUATE", "KEEP"]
    assert plan.table["first_row"].to_pylist() == [0, 4, 8]
    assert plan.table["n_rows"].to_pylist() == [4, 4, 4]
    assert plan.table["row_group"].to_pylist() == [0, 1, 2]
    assert plan.scan(columns=["id"]).read_all()["id"].to_pylist() == [6, 7, 8, 9, 10, 11]
    assert plan.scan().schema.names == ["id", "A"]
    everything = skipml.plan(path, SCORE > -1, budget=_THOROUGH)
    assert everything.decisions.tolist() == [KEEP] * 3
    assert everything.scan().read_all().num_rows == 12
    nothing = skipml.plan(path, SCORE > 9, budget=_THOROUGH)
    assert nothing.scan().read_all().num_rows == 0


def test_a_file_that_changes_is_noticed_before_and_after_its_rows(path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2, budget=_THOROUGH)
    table = pq.read_table(path)
    reader = plan.scan()
    reader.read_next_batch()
    pq.write_table(table.slice(0, 9), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    with pytest.raises(FileChangedError):
        reader.read_all()
    with pytest.raises(FileChangedError):
        plan.scan().read_all()


def test_what_cannot_be_scanned_is_refused(path: Path, tmp_path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2)
    with pytest.raises(SchemaError, match="at least one"):
        plan.scan(columns=[])
    with pytest.raises(SchemaError, match="no column 'b'"):
        plan.scan(columns=["b"])
    other = tmp_path / "y.parquet"
    pq.write_table(pa.table({"id": ["text"], "A": [1.0]}), other)
    both = read_footers([str(path), str(other)], ["A"])
    with pytest.raises(SchemaError, match="one schema"):
        common_schema(both, None)
    assert common_schema(both, ["A"]).names == ["A"]
    pq.write_table(pa.table({"id": [1]}), other)
    with pytest.raises(SchemaError, match="one schema"):
        common_schema(read_footers([str(path), str(other)], ["A"]), None)
    other.write_bytes(b"no Parquet")
    with pytest.raises(FooterError, match="repair"):
        skipml.plan([path, other], SCORE > 2).scan()


def test_names_are_found_as_the_file_spells_them(tmp_path: Path) -> None:
    path = tmp_path / "names.parquet"
    pq.write_table(pa.table({"Amount": [1.0], "b": [1.0], "B": [2.0]}), path)
    with pq.ParquetFile(path) as file:
        assert own_names(file, ["amount", "b", "B", "none"]) == ["Amount", "b", "B", "none"]


def test_blocks_of_two_files_and_rows_between(tmp_path: Path) -> None:
    """Finer blocks than row groups, so that a row group is partly kept, partly scored and partly left out."""
    paths = [tmp_path / f"{i}.parquet" for i in range(2)]
    a = np.array([0.0, 0.0, 1.0, 3.0, 4.0, 4.0, 9.0, 8.0])
    for i, path in enumerate(paths):
        pq.write_table(pa.table({"id": np.arange(8) + 8 * i, "a": a - i}), path, row_group_size=6)
    skipml.enrich(list(map(str, paths)), ["a"], block_rows=2)
    plan = skipml.plan(paths, SCORE > 2.5, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP, KEEP, SKIP, SKIP, KEEP, KEEP]
    assert plan.summary == "Row groups: 4 in 8 blocks, skipped 3, kept 4, evaluated 1"
    ids = plan.scan(columns=["id"]).read_all()["id"].to_pylist()
    assert ids == [3, 4, 5, 6, 7, 12, 13, 14, 15]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 5])
def test_decisions_are_those_of_the_rows_whatever_the_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """A row group of several blocks is read in batches that end within blocks."""
    monkeypatch.setattr("skipml.plans._BATCH_ROWS", batch_rows)
    whole = path.with_name("whole.parquet")
    a = [0.0, 1.0, 1.0, 3.0, 3.0, 9.0, 4.0, 4.0, 0.0, 0.0, 2.0, 3.0]
    pq.write_table(pa.table({"id": range(12), "A": a}), whole)
    skipml.enrich(whole, ["A"], block_rows=2)
    plan = skipml.plan(whole, SCORE > 2.5, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP, KEEP, SKIP, EVALUATE]
    assert plan.scan(columns=["id"]).read_all()["id"].to_pylist() == [3, 4, 5, 6, 7, 11]


def test_a_class_is_decided_by_the_outputs() -> None:
    chosen = model(linear([[1], [-1]], [0, 0], "float64"))
    found = prune(chosen.is_class(0), regions((1, 2), (-2, -1), (-1, 1)), _THOROUGH)
    assert found.decision.tolist() == [KEEP, SKIP, EVALUATE]
