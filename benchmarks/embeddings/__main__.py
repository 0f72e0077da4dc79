"""What metadata lets heads over embeddings skip.

usage: python -m benchmarks.embeddings [--rows N]

Writes results/embeddings.json, the tables of README.md and results/embeddings.png. The embeddings are those of
benchmarks/ann, which makes them once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import skipml
from benchmarks.embeddings.data import ORDERS, files, rows
from benchmarks.embeddings.heads import Head, cosine, heads
from benchmarks.embeddings.skipping import Table, shares
from benchmarks.environment import environment
from benchmarks.readme import replace_section

HERE = Path(__file__).parent
ROW_GROUP_ROWS = (64, 1024)
_RUNS = 5


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embeddings")
    parser.add_argument("--rows", type=int, default=None, help="so many rows, at equal distances")
    arguments = parser.parse_args()
    embeddings, topics = rows()
    if arguments.rows is not None:
        chosen = np.linspace(0, len(topics) - 1, arguments.rows).astype(np.int64)
        embeddings, topics = embeddings[chosen], topics[chosen]
    models = heads(np.asarray(embeddings), topics)
    print(f"{len(models)} heads are trained", flush=True)
    found: dict[str, Any] = {
        "environment": environment(),
        "rows": len(embeddings),
        "cosines": _cosines(models),
        "skipped": {},
        "seconds": {},
    }
    for size in ROW_GROUP_ROWS:
        paths = files(np.asarray(embeddings), size)
        for order in ORDERS:
            found["skipped"].setdefault(str(size), {})[order] = _skipped(paths[order], models)
            print(size, order, found["skipped"][str(size)][order], flush=True)
        if size == max(ROW_GROUP_ROWS):
            found["seconds"] = _seconds(paths[ORDERS[2]], models[0])
    (HERE / "results" / "embeddings.json").write_text(json.dumps(found, indent=1) + "\n")
    replace_section(HERE / "README.md", "<!-- results -->", "<!-- end of results -->", _text(found))
    _plot(found)


def _cosines(models: list[Head]) -> dict[str, float]:
    linear = [head for head in models if head.name.startswith("logistic")]
    return {
        name: float(np.mean([cosine(head, head.before[name]) or 0.0 for head in linear])) for name in linear[0].before
    }


def _skipped(path: Path, models: list[Head]) -> dict[str, Any]:
    """The shares for each kind of model."""
    linear = [head for head in models if head.name.startswith("logistic")]
    before = [model for head in linear for model in head.before.values()]
    table = Table(path, before)
    numbers: dict[str, dict[str, int]] = {head.name: {} for head in models}
    for i, head in enumerate(linear):
        numbers[head.name] = {name: len(head.before) * i + k for k, name in enumerate(head.before)}
    others = [head for head in models if head not in linear]
    return {"logistic": shares(table, linear, numbers), "perceptron": shares(table, others, numbers)}


def _seconds(path: Path, head: Head) -> dict[str, float]:
    """End to end in DuckDB: medians of warm runs, by what is stored."""
    sql = f"SELECT count(*) FROM '{path}' WHERE head(embedding) > {head.limit!r}"
    found, sidecar = {}, Path(f"{path}.skipml")
    settings: dict[str, Callable[[], object] | None] = {
        "skipping off": None,
        "ball and PCA box of 16": lambda: skipml.enrich(path, columns=["embedding"]),
        "scores of the model": lambda: skipml.enrich(path, columns=["embedding"], models=[head.model]),
    }
    for name, enrich in settings.items():
        sidecar.unlink(missing_ok=True)
        if enrich is not None:
            enrich()
        with skipml.connect() as con:
            con.register_model("head", head.model)
            con.skipping = enrich is not None
            found[name] = _median(lambda con=con: con.execute(sql).fetchall())  # type: ignore[misc]
    sidecar.unlink(missing_ok=True)
    return found


def _median(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(1 + _RUNS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['rows']:,} rows; share of the row groups without a qualifying row that is proved, mean over heads.",
        "",
    ]
    for size, orders in found["skipped"].items():
        lines += [
            f"| logistic heads, row groups of {size} rows | bytes | {' | '.join(orders)} |",
            f"|---|---:|{'---:|' * len(orders)}",
        ]
        for kind in orders[ORDERS[0]]["logistic"]:
            cells = [f"{orders[order]['logistic'][kind]['share']:.1%}" for order in orders]
            lines.append(f"| {kind} | {orders[ORDERS[0]]['logistic'][kind]['bytes'] or ''} | {' | '.join(cells)} |")
        best = [f"{orders[order]['perceptron']['all of these']['share']:.1%}" for order in orders]
        able = [
            f"{orders[order]['perceptron']['oracle: row groups that can be skipped']['share']:.1%}" for order in orders
        ]
        lines += [
            f"| perceptrons, all of these | | {' | '.join(best)} |",
            f"| perceptrons, oracle | | {' | '.join(able)} |",
            "",
        ]
    cosines = ", ".join(f"{name} {value:.3f}" for name, value in found["cosines"].items())
    times = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in found["seconds"].items())
    return "\n".join(
        [
            *lines,
            f"Cosine of a head with the one trained on {cosines}.",
            "",
            f"A query on the clustered table, row groups of {max(ROW_GROUP_ROWS)} rows: {times}.",
        ]
    )


def _plot(found: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    orders = found["skipped"][str(min(ROW_GROUP_ROWS))]
    kinds = [kind for kind in orders[ORDERS[0]]["logistic"] if not kind.startswith("oracle")]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for i, order in enumerate(orders):
        widths = [orders[order]["logistic"][kind]["share"] for kind in kinds]
        axes.barh(np.arange(len(kinds)) + 0.25 * (i - 1), widths, 0.25, label=order)
    axes.set_yticks(np.arange(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the skippable row groups that is proved, selectivity 0.1 %")
    axes.legend(frameon=False)
    figure.savefig(HERE / "results" / "embeddings.png", dpi=120)


if __name__ == "__main__":
    main()
