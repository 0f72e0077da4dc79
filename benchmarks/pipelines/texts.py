"""Which row groups a pipeline over text skips by limits alone, and by the sets of their texts: share, bytes, seconds.

    python -m benchmarks.pipelines.texts [--folder .data/pipelines]

Each table is taken in the order it was generated in, sorted by a number, and sorted by its texts. A logistic
regression over numbers and one-hot texts learns which rows have certain texts and large numbers; filters that 0.1 % and
0.01 % of the rows pass.
Writes results/texts.json beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skipml
from benchmarks.environment import environment
from benchmarks.tpc.data import tpc_table
from skipml.bounds.budget import Budget

_MOST_ROWS, _SAMPLE = 1_000_000, 20_000
_SELECTIVITIES = (1e-3, 1e-4)
_RARE = 0.02


@dataclass(frozen=True)
class Case:
    """A table, the inputs of its pipeline, the rows of a row group, and which texts count for much."""

    suite: str
    name: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    group: int
    wanted: str

    @property
    def layouts(self) -> dict[str, str]:
        """The orders, as SQL has them."""
        by_text = ", ".join((*self.texts, self.numbers[0]))
        return {
            "generated": "",
            f"sorted by {self.numbers[0]}": f"ORDER BY {self.numbers[0]}",
            "sorted by text": f"ORDER BY {by_text}",
        }


CASES = (
    Case(
        "tpch",
        "lineitem",
        ("l_extendedprice", "l_quantity", "l_discount"),
        ("l_shipmode", "l_shipinstruct", "l_returnflag", "l_linestatus"),
        10_240,
        "l_shipmode = 'AIR' AND l_returnflag = 'R'",
    ),
    Case("tpch", "customer", ("c_acctbal",), ("c_mktsegment",), 2048, "c_mktsegment = 'FURNITURE'"),
    Case("tpch", "orders", ("o_totalprice",), ("o_orderpriority", "o_orderstatus"), 10_240, "o_orderstatus = 'P'"),
    Case("tpch", "part", ("p_retailprice", "p_size"), ("p_brand", "p_container"), 2048, "p_brand = 'Brand#34'"),
    Case("tpcds", "item", ("i_current_price",), ("i_category", "i_class"), 512, "i_class = 'football'"),
    Case(
        "tpcds",
        "customer_demographics",
        ("cd_purchase_estimate", "cd_dep_count"),
        ("cd_gender", "cd_marital_status", "cd_education_status", "cd_credit_rating"),
        2048,
        "cd_credit_rating = 'Good'",
    ),
)


def _written(case: Case, source: Path, order: str, path: Path) -> None:
    columns = ", ".join((*(f"{n}::DOUBLE AS {n}" for n in case.numbers), *case.texts))
    if not path.exists():
        sql = f"SELECT {columns} FROM (FROM '{source}' LIMIT {_MOST_ROWS}) {order}"
        rows = duckdb.connect().sql(sql)
        assert rows is not None
        pq.write_table(rows.to_arrow_table(), path, row_group_size=case.group)


def _model(case: Case, path: Path) -> skipml.Model:
    """Scores rows that have the wanted texts and large numbers."""
    names = ", ".join((*case.numbers, *case.texts))
    sql = f"SELECT {names}, ({case.wanted}) AS wanted FROM '{path}' USING SAMPLE {_SAMPLE} ROWS (reservoir, 1)"
    rows = duckdb.connect().execute(sql).df()
    filled = rows[list(case.numbers)].fillna(0.0)
    score = ((filled - filled.mean()) / filled.std()).sum(axis=1) + 3.0 * rows["wanted"].fillna(False).astype(float)
    score += np.random.default_rng(0).logistic(size=len(rows)) / 4
    text = OneHotEncoder(handle_unknown="ignore")
    preparation = ColumnTransformer([("n", StandardScaler(), list(case.numbers)), ("t", text, list(case.texts))])
    known = rows.dropna()
    last = LogisticRegression(max_iter=1000)
    pipeline = make_pipeline(preparation, last)
    return skipml.Model.from_sklearn(
        pipeline.fit(known.drop(columns="wanted"), (score > score.quantile(1 - _RARE))[known.index])
    )


def _enriched(path: Path, root: Path, words: int) -> tuple[float, float]:
    """Bytes of a row group and seconds of limits and counts alone, and of the sets of texts beside them."""
    for file in root.rglob("*.skipml"):
        file.unlink()
    started = perf_counter()
    names = pq.read_schema(path).names if words else [n for n in pq.read_schema(path).names if not _is_text(path, n)]
    report = skipml.enrich(path, names, pairs=[], words=words, root=root)
    return report.files[0].n_bytes / report.files[0].n_row_groups, perf_counter() - started


def _is_text(path: Path, name: str) -> bool:
    return str(pq.read_schema(path).field(name).type) == "string"


def measured(case: Case, folder: Path) -> Iterator[dict[str, Any]]:
    """A line per layout and selectivity."""
    source = tpc_table(case.suite, case.name)
    for layout, order in case.layouts.items():
        path = folder / f"{case.name}_{layout.replace(' ', '_')}.parquet"
        _written(case, source, order, path)
        model = _model(case, folder / f"{case.name}_generated.parquet")
        limits, sets = (folder / kind for kind in ("limits", "sets"))
        (bytes_before, seconds_before), (bytes_after, seconds_after) = (
            _enriched(path, limits, 0),
            _enriched(path, sets, 512),
        )
        rows = pq.read_table(path)
        scores = model.evaluate(rows)[:, 0].astype(np.float64)
        starts = np.arange(0, len(scores), case.group)
        for share in _SELECTIVITIES:
            limit = float(np.nanquantile(scores, 1 - share))
            needed = np.logical_or.reduceat(scores > limit, starts)
            line: dict[str, Any] = {
                "table": case.name,
                "layout": layout,
                "selectivity": share,
                "row_groups": len(starts),
                "without_a_match": int((~needed).sum()),
            }
            for name, root in (("limits", limits), ("sets", sets)):
                plan = skipml.plan(path, model > limit, root=root, budget=Budget(model.output(0).seconds_per_row))
                skipped = plan.decisions == skipml.SKIP
                assert not (skipped & needed).any(), "a row group with a match is skipped"
                line[f"skipped_by_{name}"] = int(skipped.sum())
            yield line | {
                "bytes_per_row_group_of_sets": round(bytes_after - bytes_before, 1),
                "seconds_of_limits": round(seconds_before, 3),
                "seconds_with_sets": round(seconds_after, 3),
            }


def main() -> None:
    """Measure every table in every order, print the lines and keep them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines.texts", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".data/pipelines"))
    folder = parser.parse_args().folder
    for kind in ("limits", "sets"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    lines = []
    for case in CASES:
        for line in measured(case, folder):
            lines.append(line)
            print(line, flush=True)
    kept = Path(__file__).parent / "results" / "texts.json"
    kept.write_text(json.dumps({"environment": environment(), "results": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
