"""Pipelines in SQL: text and NULL as arguments, the same rows with skipping and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skipml
from skipml.inspection import parquet_facts

CALL = "m(a, b, s)"
CONDITIONS = [
    f"{CALL} > 0.6",
    f"{CALL} <= 0.2",
    f"{CALL} BETWEEN 0.4 AND 0.45",
    f"NOT {CALL} > 0.5 AND b < 0.4",
    f"{CALL} IS NULL",
    "m(a, b, NULL) > 0.5",
    "m(NULL, b, s) > 0.55",
    "m(a + 1, b, upper(s)) > 0.7",
    "m(a, b, 'mail') > 0.6",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose rows come in the order of b and of s, written by DuckDB, so that no NaN is possible."""
    path = tmp_path_factory.mktemp("pipelines")
    duckdb.connect().execute(
        f"""COPY (SELECT i AS id, CASE WHEN hash(i) % 7 = 0 THEN NULL ELSE sin(i) END AS a, i / 20000 AS b,
                  CASE WHEN hash(i) % 11 = 0 THEN NULL ELSE ['air', 'mail', 'new', 'ship'][1 + i // 5000] END AS s
                  FROM range(20000) t(i)) TO '{path / "t.parquet"}' (ROW_GROUP_SIZE 2048)"""
    )
    return path


@pytest.fixture(scope="module", params=["logistic", "forest"])
def model(request: pytest.FixtureRequest) -> skipml.Model:
    rng = np.random.default_rng(0)
    text = pd.Series(rng.choice(["air", "mail", "ship"], 500), dtype=object)
    rows = pd.DataFrame({"a": rng.normal(size=500), "b": rng.random(500), "s": text})
    target = rows["a"] / 4 + rows["b"] + (text == "mail") + rng.normal(size=500) / 4 > 1
    numbers = make_pipeline(SimpleImputer(strategy="constant", fill_value=0.5), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore" if request.param == "logistic" else "error")
    last = LogisticRegression() if request.param == "logistic" else RandomForestClassifier(10, max_depth=4)
    preparation = ColumnTransformer([("n", numbers, ["a", "b"]), ("s", encoder, ["s"])])
    return skipml.Model.from_sklearn(make_pipeline(preparation, last).fit(rows, target))


@pytest.fixture
def con(model: skipml.Model) -> Iterator[skipml.Connection]:
    with skipml.connect() as connection:
        connection.register_model("m", model)
        yield connection


def _both(con: skipml.Connection, sql: str) -> list[tuple[object, ...]]:
    found = sorted(con.execute(sql).fetchall(), key=str)
    report = con.last_report
    assert report is None or not report.counters["errors"], str(report)
    con.skipping = False
    assert sorted(con.execute(sql).fetchall(), key=str) == found, str(report)
    con.skipping = True
    return found


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_same_rows_with_skipping_and_without(con: skipml.Connection, folder: Path, condition: str) -> None:
    _both(con, f"SELECT id, {CALL} FROM '{folder}/t.parquet' WHERE {condition}")


def test_rows_are_those_that_the_model_gives(con: skipml.Connection, model: skipml.Model, folder: Path) -> None:
    rows = pq.read_table(folder / "t.parquet")
    scores = model.evaluate(rows)[:, 0]
    found = con.execute(f"SELECT id FROM '{folder}/t.parquet' WHERE {CALL} > 0.6").fetchnumpy()["id"]
    assert sorted(found) == np.flatnonzero(scores > 0.6).tolist()


@pytest.mark.parametrize("model", ["logistic"], indirect=True)
def test_row_groups_are_skipped_by_text_alone(con: skipml.Connection, folder: Path) -> None:
    scores = con.execute(f"SELECT max({CALL}) FROM '{folder}/t.parquet' WHERE s = 'air'").fetchall()[0][0]
    limit = max(
        scores, con.execute(f"SELECT max({CALL}) FROM '{folder}/t.parquet' WHERE s IS NULL").fetchall()[0][0] or 0
    )
    con.execute(f"SELECT count(*) FROM '{folder}/t.parquet' WHERE {CALL} > {limit + 0.02}").fetchall()
    assert con.last_report is not None
    assert con.last_report.counters["skipped"] >= 1


def test_joins_and_first_rows(con: skipml.Connection, folder: Path) -> None:
    file = f"'{folder}/t.parquet'"
    _both(con, f"SELECT l.id FROM {file} l LEFT JOIN {file} r ON l.id = r.id + 15000 WHERE m(r.a, r.b, r.s) > 0.3")
    _both(con, f"SELECT l.id FROM {file} l LEFT JOIN {file} r ON l.id = r.id + 15000 WHERE m(r.a, l.b, l.s) > 0.8")
    _both(con, f"SELECT {CALL} AS p FROM {file} ORDER BY p DESC NULLS LAST LIMIT 5")
    _both(con, f"SELECT {CALL} AS p FROM {file} ORDER BY p ASC NULLS FIRST LIMIT 5")


@pytest.fixture(scope="module")
def enriched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in no order, of whose row groups some lack a text between two that they have."""
    folder = tmp_path_factory.mktemp("texts")
    word = "CASE WHEN i // 2048 % 3 = 0 THEN 2 * (i % 2) ELSE i % 4 END"
    for k in range(2):
        duckdb.connect().execute(
            f"""COPY (SELECT i AS id, CASE WHEN hash(i) % 7 = 0 THEN NULL ELSE sin(i) END AS a,
                      hash(i) % 100 / 100 AS b, ['air', 'mail', 'ship', 'new'][1 + {word}] AS s
                      FROM range({k * 12288}, {k * 12288 + 12288}) t(i))
                TO '{folder / f"{k}.parquet"}' (ROW_GROUP_SIZE 2048)"""
        )
    report = skipml.enrich(f"{folder}/*.parquet")
    assert [file.texts for file in report.files] == [(("s", 4, 6),)] * 2
    return folder


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_same_rows_where_it_is_known_which_texts_occur(
    con: skipml.Connection, enriched: Path, condition: str
) -> None:
    _both(con, f"SELECT id, {CALL} FROM '{enriched}/*.parquet' WHERE {condition}")


@pytest.mark.parametrize("model", ["logistic"], indirect=True)
def test_row_groups_that_lack_a_text_are_skipped(
    con: skipml.Connection, model: skipml.Model, enriched: Path, tmp_path: Path
) -> None:
    files = f"'{enriched}/*.parquet'"
    limit = con.execute(f"SELECT max({CALL}) FROM {files} WHERE s IN ('air', 'ship')").fetchall()[0][0] + 0.01
    assert _both(con, f"SELECT id FROM {files} WHERE {CALL} > {limit}")
    report = con.explain(f"SELECT id FROM {files} WHERE {CALL} > {limit}")
    assert report.counters["skipped"] == 4
    assert "column s: which texts occur is known (12 blocks)" in str(report)
    for cache in (None, tmp_path / "made", tmp_path / "made"):
        plan = skipml.plan(f"{enriched}/*.parquet", model > limit, cache=cache)
        assert (plan.decisions == skipml.SKIP).tolist() == [i % 3 == 0 for i in range(12)]
        assert "column s: which texts occur is known (12 blocks)" in plan.notes
    without = skipml.plan(f"{enriched}/*.parquet", model > limit, root=tmp_path)
    assert not (without.decisions == skipml.SKIP).any()


def test_what_is_known_of_texts_can_be_looked_at(enriched: Path) -> None:
    assert parquet_facts(f"{enriched}/*.parquet")["texts"] == [{"column": "s", "texts": 4, "blocks": 12}]
