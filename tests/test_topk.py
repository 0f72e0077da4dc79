"""The first rows in the order of a score: ranks, the search over blocks, and files."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skipml
from skipml import threshold_search
from skipml.bounds.budget import Budget
from skipml.network import Affine, LeakyRelu, Network
from skipml.regions import Regions
from skipml.threshold_search import Found, search
from skipml.topk import Scored, TopK, Worst
from tests.oracle import identity, linear, model, relu

_CON = duckdb.connect(config={"threads": 1})
_SCORE = model(identity()).output(0)
_VALUES = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("nan")]))


@given(st.lists(_VALUES, min_size=1, max_size=20), st.booleans(), st.booleans())
@settings(max_examples=200)
def test_ranks_are_in_the_order_of_duckdb(values: list[float | None], ascending: bool, nulls_first: bool) -> None:
    asked = TopK(_SCORE, 1, ascending, 0, nulls_first)
    is_null = np.array([value is None for value in values])
    ranks = asked.ranks(np.array([np.nan if value is None else value for value in values]), is_null)
    order = f"{'ASC' if ascending else 'DESC'} NULLS {'FIRST' if nulls_first else 'LAST'}"
    rows = pa.table({"i": np.arange(len(values)), "x": pa.array(values, pa.float64())})
    _CON.register("rows_", rows)
    theirs = _CON.execute(f"SELECT dense_rank() OVER (ORDER BY x {order}) FROM rows_ ORDER BY i").fetchnumpy()
    ours = np.unique(ranks, return_inverse=True)[1] + 1
    assert ours.tolist() == next(iter(theirs.values())).tolist()
    for rank, value in zip(ranks.tolist(), values, strict=True):
        assert repr(asked.value(rank)) == repr(None if value is None else value + 0.0)


def _blocks(limits: list[tuple[float, float]]) -> Regions:
    n = len(limits)
    no = np.zeros((n, 1), np.bool_)
    lower, upper = np.array(limits).T[:, :, None]
    return Regions(("a",), lower, upper, np.arange(n), np.full(n, 3), no, no, no, no)


def _search(
    limits: list[tuple[float, float]], asked: TopK, *, leaves_rest: bool = False, budget: Budget | None = None
) -> Found:
    """Each block has its limits and their middle for rows."""

    def visit(groups: np.ndarray, _: Worst | None) -> Scored:
        low, high = np.array(limits)[groups].T
        rows = np.stack([low, (low + high) / 2, high], axis=1).reshape(-1, 1)
        values = asked.score.evaluate(rows)[:, 0]
        row = np.tile(np.arange(3), len(groups))
        return Scored(values, np.zeros(len(values), np.bool_), np.repeat(groups, 3), row)

    regions = _blocks(limits)
    budget = budget or Budget.unlimited()
    return search(asked, regions, np.arange(len(limits)), visit, budget, leaves_rest=leaves_rest)


_STEPS = [(float(i), i + 1.0) for i in range(40)]


def test_only_the_blocks_with_the_best_bounds_are_visited() -> None:
    found = _search(_STEPS, TopK(_SCORE, 3))
    assert np.flatnonzero(found.visited).tolist() == [38, 39]
    assert list(zip(found.top_group.tolist(), found.top_row.tolist(), strict=True)) == [(39, 2), (39, 1), (38, 2)]
    assert np.flatnonzero(found.needed).tolist() == [38, 39]
    assert (found.threshold, found.is_full, found.waves, found.rows_scored) == (39.0, True, 1, 6)


@pytest.mark.parametrize("cost_per_row", [0.0, 1e-9, 1e-3])
def test_every_block_is_looked_at_whatever_may_be_spent(cost_per_row: float) -> None:
    steps = [(float(i), i + 1.0) for i in range(600)]
    found = _search(steps, TopK(_SCORE, 3), budget=Budget(cost_per_row))
    assert np.flatnonzero(found.visited).tolist() == [598, 599]
    assert (found.threshold, found.waves) == (599.0, 1)


def test_a_tie_at_the_border_is_visited_only_where_something_breaks_it() -> None:
    zero = model(relu()).output(0)
    level = [(-5.0, -1.0)] * 10
    assert _search(level, TopK(zero, 2)).visited.sum() == 2
    found = _search(level, TopK(zero, 2, breaks_ties=True))
    assert found.visited.all()
    assert found.needed.all()


def test_an_engine_reads_the_last_wave_by_itself() -> None:
    found = _search([*_STEPS, (30.0, 45.0)], TopK(_SCORE, 3), leaves_rest=True)
    assert np.flatnonzero(found.visited).tolist() == [39, 40]
    found = _search([(0.0, 1.0), (2.0, 3.0)], TopK(_SCORE, 1), leaves_rest=True)
    assert not found.visited.any()
    assert found.open.all()


def test_rows_left_out_by_the_offset_count() -> None:
    found = _search(_STEPS, TopK(_SCORE, 1, offset=9, ascending=True))
    assert found.needed.sum() == 4
    assert found.top_value[-1] == 3.0


@pytest.mark.parametrize(("k", "offset"), [(-1, 0), (1, -1)])
def test_neither_k_nor_offset_is_negative(k: int, offset: int) -> None:
    with pytest.raises(skipml.PredicateError, match="cannot be negative"):
        TopK(_SCORE, k, offset=offset)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Forty row groups whose values rise."""
    n = np.arange(400)
    path = tmp_path / "rising.parquet"
    pq.write_table(pa.table({"id": n, "a": n // 2, "b": n % 7, "Text": n.astype(str)}), path, row_group_size=10)
    return path


def test_rows_come_in_order_with_what_was_visited(path: Path) -> None:
    found = skipml.top_k(path, model(identity()), 3, columns=["Text", "id"])
    assert found.table.column_names == ["Text", "id"]
    assert found.table["id"].to_pylist() == [398, 399, 396]
    assert found.scores.to_pylist() == [199.0, 199.0, 198.0]
    assert found.blocks["visited"].to_numpy().sum() == 2
    assert found.blocks["needed"].to_pylist()[-2:] == [False, True]
    assert found.rows_scored == 20
    assert found.summary == "Row groups: 40, visited 2 in 1 waves, 1 hold the rows; 5.0 % of 400 rows were scored"
    assert found.blocks["upper"][0].as_py() < 198


def test_a_condition_narrows_the_rows(path: Path) -> None:
    chosen = model(linear([[1]], [0]), "a")
    found = skipml.top_k(path, chosen, 2, where=(chosen < 100) & (model(identity(), "b") > 5))
    assert found.table["id"].to_pylist() == [195, 188]
    assert found.rows_scored <= 100


def test_no_rows_wanted_or_left(path: Path) -> None:
    assert skipml.top_k(path, model(identity()), 0).table.num_rows == 0
    beyond = skipml.top_k(path, model(identity()), 5, offset=400)
    assert beyond.table.num_rows == 0
    assert beyond.table.column_names == ["id", "a", "b", "Text"]
    assert skipml.top_k(path, model(identity()), 1000).table.num_rows == 400
    assert skipml.top_k(path, model(identity()), 5, where=model(identity()) > 1000).rows_scored == 0


def test_what_cannot_be_ordered_is_refused(path: Path) -> None:
    several = model(linear([[1], [2]], [0, 0]))
    with pytest.raises(skipml.PredicateError, match=r"use model\.output"):
        skipml.top_k(path, several, 1)
    assert skipml.top_k(path, several.output(1), 1).scores.to_pylist() == [398.0]
    with pytest.raises(skipml.SchemaError, match="at least one column"):
        skipml.top_k(path, model(identity()), 1, columns=[])
    with pytest.raises(skipml.FooterError, match="no file matches"):
        skipml.top_k(path.with_name("none.parquet"), model(identity()), 1)


def test_a_file_rewritten_meanwhile_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threshold_search.search

    def rewrite(*args: object, **kwargs: object) -> Found:
        pq.write_table(pa.table({"id": np.arange(9), "a": np.arange(9)}), path)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("skipml.threshold_search.search", rewrite)
    with pytest.raises(skipml.FileChangedError, match="look again"):
        skipml.top_k(path, model(identity()), 3)


def test_metadata_of_another_state_of_a_file_is_ignored(path: Path) -> None:
    skipml.enrich(path, ["a"], models=[model(identity())])
    n = np.arange(400)
    pq.write_table(pa.table({"id": n, "a": 500 - n}), path, row_group_size=10)
    os.utime(path, ns=(10**18, 10**18))
    found = skipml.top_k(path, model(identity()), 2)
    assert found.scores.to_pylist() == [500.0, 499.0]


def _network(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    first, last = rng.normal(size=(8, 2)), rng.normal(size=(1, 8))
    return Network(
        2,
        1,
        np.dtype(np.float32),
        (
            Affine(first.astype(np.float32), rng.normal(size=8).astype(np.float32)),
            LeakyRelu(0.0),
            Affine(last.astype(np.float32), np.zeros(1, np.float32)),
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_random_tables_have_the_answer_of_a_full_sort(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 1500))
    walk = np.cumsum(rng.normal(size=(rows, 2)), axis=0) / 10
    values = np.where(rng.random((rows, 2)) < 0.01, np.nan, np.round(walk, int(rng.integers(0, 4))))
    table = pa.table(
        {"id": np.arange(rows), "a": values[:, 0], "b": pa.array(values[:, 1], mask=rng.random(rows) < 0.02)}
    )
    pq.write_table(table, tmp_path / "walk.parquet", row_group_size=int(rng.integers(20, 200)))
    chosen = model(_network(seed))
    if seed % 3 == 1:
        skipml.enrich(tmp_path / "walk.parquet", ["a", "b"], pairs="all", boxes=3)
    elif seed % 3 == 2:
        skipml.enrich(tmp_path / "walk.parquet", ["a", "b"], models=[chosen], block_rows=16)
    scores = chosen.evaluate(table)[:, 0].astype(np.float64)
    is_null = np.array([value is None for value in table["b"].to_pylist()])
    for ascending in (False, True):
        k, offset, nulls_first = int(rng.integers(0, 30)), int(rng.integers(0, 3)) * 7, bool(rng.integers(2))
        asked = TopK(chosen.output(0), k, ascending, offset, nulls_first)
        expected = np.sort(asked.ranks(scores, is_null))[offset : offset + k]
        found = skipml.top_k(
            tmp_path, chosen, k, ascending=ascending, offset=offset, nulls_first=nulls_first, columns=["id"]
        )
        ids = found.table["id"].to_numpy()
        assert len(set(ids.tolist())) == len(expected)
        assert asked.ranks(scores[ids], is_null[ids]).tolist() == expected.tolist()
