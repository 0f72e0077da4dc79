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
