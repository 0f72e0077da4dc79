"""The benchmark of whole tables, on small ones: limits, rows and oracles are what they say, and every system runs."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.tpc.suite import ModelSpec, Suite, TableSpec
from benchmarks.tpc.tables.filters import Filter
from benchmarks.tpc.tables.limits import Limits, NoLimitError
from benchmarks.tpc.tables.rows import Rows
from benchmarks.tpc.tables.run import run
from tests.small_tables import use_small_tables

pytestmark = pytest.mark.skipif(duckdb.__version__ < "2", reason="the oracle reads row groups by their number")

_ROWS = 40_960
_SUITE = Suite(
    name="small",
    folder=Path("small"),
    tables=(TableSpec("orders", ("id",), "price"),),
    representative="value",
    models=(
        ModelSpec("value", "orders", ("amount", "price"), "amount * price", (8, 8)),
        ModelSpec("kind", "orders", ("price", "day"), "(price > 500)::INT + (price > 900)::INT", (8,), classes=3),
    ),
)
_ORDERS = f"""
    SELECT i AS id, CASE WHEN hash(i) % 20 > 0 THEN (hash(i + 1) % 100)::BIGINT END AS amount,
           (hash(i + 2) % 100_000 / 100)::DECIMAL(7, 2) AS price, DATE '2020-01-01' + (i // 100)::INT AS day
    FROM range({_ROWS}) AS t(i)"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the benchmark finds its tables and keeps what it makes."""
    use_small_tables(monkeypatch, tmp_path, f"{_ORDERS} ORDER BY id")
    return tmp_path


def test_a_run_compares_every_system_and_counts_the_same_row_groups_twice(data: Path) -> None:
    suite = Suite(_SUITE.name, data, _SUITE.models, _SUITE.tables, _SUITE.representative)
    text = io.StringIO()
    found, again = (run(suite, runs=1, console=Console(file=text, width=130)) for _ in range(2))
    assert (suite.results / "tables.json").exists()
    assert all((suite.results / name).stat().st_size > 10_000 for name in ("tables.png", "systems.png"))
    assert [_counts(one) for one in found["filters"]] == [_counts(one) for one in again["filters"]]
    clustered = [one for one in found["filters"] if one["order"] == "clustered"]
    assert {one["skipml"][-1]["metadata"] for one in clustered} == {"none", "hulls"}
    assert any(one["skipml"][0]["row_groups_skipped"] for one in clustered)
    for one in found["filters"]:
        for skipping in one["skipml"]:
            assert skipping["row_groups_skipped"] <= one["row_groups"] - one["row_groups_with_a_match"]
    systems = {(one["system"], one["order"]) for one in found["systems"]}
    assert len(systems) == 15
    assert all(one["skipping_off_seconds"] for one in found["filters"])
    assert "geometric means" in text.getvalue()


def _counts(one: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in one.items() if key.startswith("row")}


@given(st.lists(st.integers(-1000, 1000), min_size=50, max_size=300), st.floats(0.05, 0.9), st.integers(0, 3))
def test_no_score_of_either_way_is_on_another_side_of_a_limit(scores: list[int], share: float, rounding: int) -> None:
    theirs = np.array(scores, np.float32)
    off = np.random.default_rng(0).integers(-rounding, rounding + 1, len(theirs))
    ours = (theirs + off / 4).astype(np.float32)
    try:
        limit = Limits.of(theirs, ours).limit(share, share)
    except NoLimitError:
        return
    assert ((theirs > limit) == (ours > limit)).all()
    assert ((theirs > np.float32(limit)) == (theirs > limit)).all()
    assert not (theirs == np.float32(limit)).any()


def test_ties_leave_no_limit() -> None:
    ones = np.ones(100, np.float32)
    with pytest.raises(NoLimitError):
        Limits.of(ones, ones).limit(0.1, 0.1)


def test_rows_are_equal_in_any_order_and_only_then() -> None:
    table = pa.table({"a": [1, 2, 3, 3], "b": [1.5, None, 2.5, 2.5]})
    same = Rows.of(table)
    assert Rows.of(table.take([3, 1, 0, 2])) == same
    assert Rows.of(table.slice(0, 3)) != same
    assert Rows.of(table.set_column(1, "b", pa.array([1.5, None, 2.5, 2.75]))) != same
    assert Rows.of(pa.table({"a": [2, 1, 3, 3], "b": [1.5, None, 2.5, 2.5]})) != same


def test_a_condition_is_said_as_the_model_is_called() -> None:
    assert Filter("m", "above", 0.1, 0, 2.5).condition("m(x, y)") == "m(x, y) > 2.5"
    assert Filter("m", "middle", 0.1, 0, 1.5, 2.5).condition("m(x)") == "m(x) BETWEEN 1.5 AND 2.5"
    assert Filter("m", "above", 0.1, 2, 2.5, is_list=True).condition("m(x)") == "m(x)[3] > 2.5"
    assert Filter("m", "class", 0.1, 2).condition("m(x)") == "m_class(x) = 2"
