"""Asks a table on an S3 server with 30 ms of latency per request for the thousandth of its rows with the highest
scores, through skipml and without, and counts what the server sends.

usage: python -m benchmarks.remote [--runs 3] [--latency 0.03] [--output FOLDER]

Starts a server of its own (moto, on the loopback interface) and fills it. Writes remote.json and remote.png into
results/ beside this file. Fails where two ways give other rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from matplotlib.figure import Figure
from pyarrow import fs
from rich.console import Console

import skipml
from benchmarks.environment import environment
from benchmarks.remote.lake import COLUMNS, Lake, served
from benchmarks.scorer import connect, name_of_scorer
from skipml import footers
from skipml.metadata import loading
from skipml.parquet import footer_bytes

RESULTS = Path(__file__).with_name("results")
_COLORS = {"without": "#999999", "skipml": "#009e73"}


@dataclass(slots=True)
class Measured:
    """One way to ask, and of each run the seconds, requests and bytes."""

    name: str
    skips: bool
    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    rows: int = 0

    def run(self, lake: Lake, ask: Callable[[Lake, Any], pa.Table], filesystem: Any) -> pa.Table:
        """Ask once."""
        filesystem.invalidate_cache()
        lake.counts()
        started = time.perf_counter()
        found = ask(lake, filesystem)
        self.seconds.append(time.perf_counter() - started)
        counts = lake.counts()
        self.requests.append(counts["requests"])
        self.bytes.append(counts["bytes"])
        self.rows = found.num_rows
        return found.select(["id"]).sort_by("id")


def forget() -> None:
    """Know no footer and no sidecar."""
    footers._cache.clear()
    footer_bytes._cache.clear()
    loading._cache.clear()


def dataset(lake: Lake, filesystem: Any) -> pa.Table:
    """Arrow's dataset scanner over the same file system, which reads ahead, and the model on each batch."""
    return scanned(lake, sorted(filesystem.glob(lake.glob)), filesystem)


def dataset_of_arrow(lake: Lake, filesystem: Any) -> pa.Table:
    """The same over Arrow's own S3 client."""
    options = {"access_key": lake.options["key"], "secret_key": lake.options["secret"], "region": "us-east-1"}
    own = fs.S3FileSystem(endpoint_override=lake.url, **options)
    return scanned(lake, sorted(filesystem.glob(lake.glob)), own)


def scanned(lake: Lake, paths: Sequence[str], filesystem: Any) -> pa.Table:
    """The rows of a dataset whose scores pass."""
    found = []
    columns = ["id", *COLUMNS]
    for batch in ds.dataset(paths, filesystem=filesystem, format="parquet").to_batches(
        columns=columns, batch_readahead=32, fragment_readahead=16
    ):
        rows = pa.Table.from_batches([batch])
        found.append(rows.filter(pa.array(lake.model.evaluate(rows)[:, 0] > lake.threshold)))
    return pa.concat_tables(found)


def plan(lake: Lake, filesystem: Any) -> pa.Table:
    """A plan and its scan, with nothing known beforehand."""
    forget()
    return planned(lake, filesystem)


def planned(lake: Lake, filesystem: Any) -> pa.Table:
    """The same, where the footers and sidecars are known of an earlier plan."""
    return skipml.plan(lake.glob, lake.model > lake.threshold, filesystem=filesystem).scan(["id"]).read_all()


def sql(lake: Lake, filesystem: Any, *, skipping: bool) -> pa.Table:
    """DuckDB over the same file system, on a new connection, with skipping or without."""
    forget()
    with connect() as con:
        con.register_filesystem(filesystem)
        con.register_model("charge", lake.model)
        con.skipping = skipping
        query = f"SELECT id FROM read_parquet('{lake.glob}') WHERE charge({', '.join(COLUMNS)}) > {lake.threshold!r}"
        relation = con.sql(query)
        assert relation is not None
        found: pa.Table = relation.to_arrow_table()
        return found


WAYS: dict[str, tuple[bool, Callable[[Lake, Any], pa.Table]]] = {
    "Arrow dataset": (False, dataset),
    "Arrow dataset, own client": (False, dataset_of_arrow),
    "DuckDB": (False, lambda lake, filesystem: sql(lake, filesystem, skipping=False)),
    "skipml, plan and scan": (True, plan),
    "skipml, planned before": (True, planned),
    "skipml, DuckDB": (True, lambda lake, filesystem: sql(lake, filesystem, skipping=True)),
}


def measure(lake: Lake, runs: int, say: Callable[[str], object]) -> list[Measured]:
    """Every way by turns; fails where one gives other rows."""
    # without a cache of its own a file is read as it is asked for; with it Arrow and DuckDB read far more
    filesystem = fsspec.filesystem("s3", default_cache_type="none", **lake.options)
    for path in filesystem.glob(lake.glob):
        filesystem.cat_file(path, start=0, end=4)
    measured = [Measured(name, skips) for name, (skips, _) in WAYS.items()]
    expected: pa.Table | None = None
    for _ in range(runs):
        for one in measured:
            found = one.run(lake, WAYS[one.name][1], filesystem)
            expected = found if expected is None else expected
            if not np.array_equal(found["id"], expected["id"]):
                sys.exit(f"{one.name} gives {found.num_rows} rows, others {expected.num_rows}")
            say(f"{one.name}: {one.seconds[-1]:.2f} s, {one.requests[-1]} requests, {one.bytes[-1] / 1e6:.2f} MB")
    return measured


def plot(path: Path, measured: list[Measured], latency: float) -> None:
    """Write the seconds and the bytes of each way, side by side."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, values in zip(
        panels,
        (f"seconds, {latency * 1e3:.0f} ms per request", "MB from the server"),
        ([median(m.seconds) for m in measured], [median(m.bytes) / 1e6 for m in measured]),
        strict=True,
    ):
        colors = [_COLORS["skipml" if m.skips else "without"] for m in measured]
        bars = axes.barh(range(len(measured)), values, color=colors)
        axes.bar_label(bars, [f"{value:,.2f}" for value in values], padding=3, fontsize="small")
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(measured)), [m.name for m in measured])
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each way (default 3)")
    parser.add_argument("--latency", type=float, default=0.03, metavar="SECONDS", help="of each request (default 0.03)")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(stderr=True)
    with served(options.latency) as lake:
        measured = measure(lake, max(1, options.runs), console.print)
        rows = lake.rows
    options.output.mkdir(parents=True, exist_ok=True)
    setting = {"environment": environment(), "scorer": name_of_scorer(), "latency": options.latency, "rows": rows}
    results = [asdict(one) for one in measured]
    (options.output / "remote.json").write_text(json.dumps({**setting, "results": results}, indent=1) + "\n")
    plot(options.output / "remote.png", measured, options.latency)
    best = min((m for m in measured if not m.skips), key=lambda m: median(m.seconds))
    for one in measured:
        times, share = median(best.seconds) / median(one.seconds), median(best.bytes) / median(one.bytes)
        print(
            f"{one.name:24} {median(one.seconds):7.2f} s  {median(one.requests):6.0f} requests  "
            f"{median(one.bytes) / 1e6:8.2f} MB  {times:5.1f}x less time, {share:5.1f}x fewer bytes than {best.name}"
        )


if __name__ == "__main__":
    main()
