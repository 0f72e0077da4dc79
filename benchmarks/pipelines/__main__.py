"""A fraud filter on a million rows of lineitem: imputer and scaler on numbers, one-hot on text, logistic regression; in
SQL with skipml and with the pipeline's own predict_proba in a DuckDB function.

    python -m benchmarks.pipelines [--folder .data/pipelines]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skipml

_ROW_GROUP = 10_240
_TABLE_ROWS = 1_000_000
_NUMBERS = ["l_quantity", "l_extendedprice", "l_discount"]
_TEXTS = ["l_shipmode", "l_returnflag"]
_SELECTIVITIES = (1e-3, 1e-4)
_WARM, _LIBRARY_RUNS = 4, 1
_LAYOUTS = {
    "generated": "",
    "sorted by l_extendedprice": "ORDER BY l_extendedprice",
    "sorted by text, then price": "ORDER BY l_returnflag, l_shipmode, l_extendedprice",
}


def fitted(rows: pd.DataFrame) -> Pipeline:
    """A pipeline that learnt which rows are suspicious."""
    rng = np.random.default_rng(0)
    score = (
        rows["l_extendedprice"] / 20_000
        + 25 * rows["l_discount"]
        - rows["l_quantity"] / 25
        + 1.5 * (rows["l_shipmode"] == "AIR")
        + 1.0 * (rows["l_returnflag"] == "R")
        + rng.logistic(size=len(rows))
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    preparation = ColumnTransformer([("n", numbers, _NUMBERS), ("t", OneHotEncoder(handle_unknown="ignore"), _TEXTS)])
    return make_pipeline(preparation, LogisticRegression()).fit(rows, score > score.quantile(0.98))


def write_layouts(source: Path, folder: Path) -> dict[str, Path]:
    """The table in each order."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, order in _LAYOUTS.items():
        path = found[name] = folder / f"{name.replace(' ', '_').replace(',', '')}.parquet"
        if not path.exists():
            rows = f"SELECT * FROM (FROM '{source}' LIMIT {_TABLE_ROWS}) {order}"
            duckdb.connect().execute(f"COPY ({rows}) TO '{path}' (ROW_GROUP_SIZE {_ROW_GROUP})")
    return found


def library_function(pipeline: Pipeline) -> Callable[..., Any]:
    """The pipeline's own prediction as DuckDB calls it."""
    names = [*_NUMBERS, *_TEXTS]

    def predict(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        frame = pd.DataFrame(dict(zip(names, (column.to_pandas() for column in (a, b, c, d, e)), strict=True)))
        return pa.array(pipeline.predict_proba(frame)[:, 1])

    return predict


def timed(run: Callable[[], Any], times: int) -> tuple[float, Any]:
    """The median of some runs in seconds, and what they give."""
    taken, result = [], None
    for _ in range(times):
        start = time.perf_counter()
        result = run()
        taken.append(time.perf_counter() - start)
    return median(taken), result


def _rows(con: skipml.Connection, sql: str) -> Any:
    return con.execute(sql).fetchall()


def main() -> None:
    """Run every filter on every layout, and print and keep what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines")
    parser.add_argument("--folder", type=Path, default=Path(".data/pipelines"))
    parser.add_argument("--source", type=Path, default=Path(".data/tpch-sf1/lineitem.parquet"))
    options = parser.parse_args()
    columns = ", ".join([*_NUMBERS, *_TEXTS])
    sample = (
        duckdb.connect()
        .execute(
            f"SELECT {', '.join(f'{n}::DOUBLE AS {n}' for n in _NUMBERS)}, {', '.join(_TEXTS)} "
            f"FROM '{options.source}' USING SAMPLE 20000 ROWS (reservoir, 1)"
        )
        .df()
    )
    pipeline = fitted(sample)
    model = skipml.Model.from_sklearn(pipeline)
    con = skipml.connect()
    con.register_model("fraud", model)
    library: Any = con
    double, text = "DOUBLE", "VARCHAR"
    library.create_function(
        "library", library_function(pipeline), [double] * 3 + [text] * 2, double, type="arrow", null_handling="special"
    )
    results: list[dict[str, object]] = []
    theirs, same_too = 0.0, [(0,)]
    con.skipping = False
    for layout, path in write_layouts(options.source, options.folder).items():
        scores = con.execute(f"SELECT fraud({columns}) AS s FROM '{path}'").fetchnumpy()["s"]
        for share in _SELECTIVITIES:
            limit = float(np.quantile(scores, 1 - share))
            sql = f"SELECT count(*), max(l_orderkey) FROM '{path}' WHERE {{}}({columns}) > {limit!r}::DOUBLE"
            needed = len(np.unique(np.flatnonzero(scores > limit) // _ROW_GROUP))
            con.skipping = True
            ours, rows = timed(partial(_rows, con, sql.format("fraud")), _WARM + 1)
            report = con.last_report
            con.skipping = False
            scoring, same = timed(partial(_rows, con, sql.format("fraud")), 1)
            if not results:  # it scores every row of the same table, whatever the order and the limit
                theirs, same_too = timed(partial(_rows, con, sql.format("library")), _LIBRARY_RUNS)
            assert report is not None
            results.append(
                {
                    "layout": layout,
                    "selectivity": share,
                    "rows": rows[0][0],
                    "rows_by_library": same_too[0][0] if not results else None,
                    "row_groups": report.counters["row_groups"],
                    "needed": needed,
                    "skipped": report.counters["skipped"],
                    "skipml_seconds": ours,
                    "scoring_only_seconds": scoring,
                    "library_seconds": theirs,
                    "times_as_fast": theirs / ours,
                }
            )
            assert rows == same, "the same rows with skipping and without"
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in results[-1].items()}, flush=True)
    kept = Path(__file__).parent / "results" / "pipelines.json"
    kept.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
