"""What is measured: one process against the same work on Ray."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from benchmarks.demo.tables import ROW_GROUP_ROWS
from benchmarks.tpc.data import tpc_table
from skipml.engines.ray_executor import RayExecutor
from skipml.metadata.storage import sidecar_path
from skipml.network import Affine, LeakyRelu, Network

FILES = 24
COLUMNS = ["l_quantity", "l_extendedprice", "l_discount"]
ONE, ONE_THREAD, RAY = "one process", "one process, one thread", "Ray"
_VECTORS, _DIMENSION = 60_000, 128
_SELECTIVITY = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """What a run gave, to compare with other ways, and figures besides its time."""

    content: Any
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A case, and the ways to do it; the first is what the others are compared with."""

    name: str
    ways: Mapping[str, Callable[[], Found]]


class TimedExecutor(RayExecutor):
    """Adds up the processor time of its workers, which says more than time where a machine is busy."""

    def __init__(self) -> None:
        super().__init__()
        self.processor_seconds = 0.0
        self._timed: dict[Any, Callable[..., Any]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a task."""
        outer: Future[Any] = Future()

        def done(inner: Future[Any]) -> None:
            seconds, result = inner.result()
            self.processor_seconds += seconds
            outer.set_result(result)

        timed = self._timed.setdefault(fn, partial(_timed, fn))
        super().submit(timed, *args, **kwargs).add_done_callback(done)
        return outer


def _timed(fn: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = fn(*args)
    return time.process_time() - start, result


def lake() -> list[str]:
    """lineitem in files of as many rows, made once."""
    whole = tpc_table("tpch", "lineitem", scale=1, row_group_rows=ROW_GROUP_ROWS)
    folder = whole.parent / f"{FILES}_files"
    paths = [folder / f"{i:02}.parquet" for i in range(FILES)]
    if not paths[-1].exists():
        folder.mkdir(exist_ok=True)
        rows = pq.read_table(whole)
        step = -(-len(rows) // FILES)
        for i, path in enumerate(paths):
            pq.write_table(rows.slice(i * step, step), path, row_group_size=ROW_GROUP_ROWS)
    return [str(path) for path in paths]


def enrichment(folder: Path) -> list[Run]:
    """Of all files: limits alone, hulls of three columns, and what is chosen for all columns."""
    paths = lake()

    def once(settings: Mapping[str, Any], executor: TimedExecutor | None, threads: int) -> Found:
        root = folder / uuid.uuid4().hex
        before = pa.cpu_count()
        pa.set_cpu_count(threads)
        start, processor = time.perf_counter(), time.process_time()
        report = skipml.enrich(paths, root=root, executor=executor, **settings)
        wall, here = time.perf_counter() - start, time.process_time() - processor
        pa.set_cpu_count(before)
        sidecars = [Path(sidecar_path(path, root)).read_bytes() for path in paths]
        work = sum(file.seconds for file in report.files)
        details = {"seconds_in_files": round(work, 3), "processor_seconds": round(here, 3)}
        if executor is not None:
            details["processor_seconds_of_workers"] = round(executor.processor_seconds, 3)
            details["share_outside_of_files"] = round(max(0.0, 1 - work / 2 / wall), 3)
        return Found([hashlib.sha256(data).hexdigest() for data in sidecars], details)

    def run(name: str, **settings: Any) -> Run:
        ways = {
            ONE: lambda: once(settings, None, pa.cpu_count()),
            ONE_THREAD: lambda: once(settings, None, 1),
            RAY: lambda: once(settings, TimedExecutor(), pa.cpu_count()),
        }
        return Run(f"enrich {FILES} files, {name}", ways)

    return [
        run("limits", columns=COLUMNS, pairs=()),
        run("3 hulls", columns=COLUMNS, pairs="all"),
        run("all columns, pairs chosen"),
    ]


def scan() -> Run:
    """A plan on all files: the rows that qualify, with planning."""
    rng = np.random.default_rng(0)
    shapes = [(32, 3), (32, 32), (1, 32)]
    ops: list[Any] = []
    for n_out, n_in in shapes:
        weight = rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)
        weight /= np.array([25, 50_000, 0.05]) if n_in == 3 else 1
        ops += [Affine(weight.astype(np.float32), np.zeros(n_out, np.float32)), LeakyRelu(0.0)]
    model = skipml.Model(Network(3, 1, np.dtype(np.float32), tuple(ops[:-1])), tuple(COLUMNS))
    paths = lake()
    sample = pq.read_table(paths[0], columns=COLUMNS).slice(0, 20_000)
    inputs = np.stack([np.asarray(sample[name].cast(pa.float64())) for name in COLUMNS], axis=1)
    limit = float(np.quantile(model.function.forward(inputs), 1 - _SELECTIVITY))

    def once(rows: Callable[[skipml.Plan], int]) -> Found:
        start = time.perf_counter()
        plan = skipml.plan(paths, model > limit)
        planned = time.perf_counter() - start
        plan.schema(["l_orderkey"])
        opened = time.perf_counter() - start
        n = rows(plan)
        wall = time.perf_counter() - start
        figures = {"planning_seconds": planned, "schemas_seconds": opened - planned, "serial_share": opened / wall}
        return Found(n, {name: round(value, 3) for name, value in figures.items()})

    return Run(
        f"scan {FILES} files",
        {
            ONE: lambda: once(lambda plan: sum(batch.num_rows for batch in plan.scan(["l_orderkey"]))),
            RAY: lambda: once(lambda plan: plan.to_ray(["l_orderkey"]).materialize().count()),
        },
    )


def index_build(folder: Path) -> Run:
    """An index over vectors in clusters, and what its steps take."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, _DIMENSION))
    rows = (centres[rng.integers(0, 200, _VECTORS)] + rng.standard_normal((_VECTORS, _DIMENSION))).astype(np.float32)
    source = folder / "vectors.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(rows.ravel(), _DIMENSION)
    pq.write_table(pa.table({"id": np.arange(_VECTORS), "v": vectors}), source, row_group_size=4096)

    def once(executor: Executor | None) -> Found:
        ends: dict[str, float] = {}
        start = time.perf_counter()
        index = skipml.VectorIndex.build(
            source,
            column="v",
            path=folder / uuid.uuid4().hex,
            memory=64 << 20,
            executor=executor,
            progress=lambda what, *_: ends.__setitem__(what, time.perf_counter() - start),
        )
        wall = time.perf_counter() - start
        manifest = index.snapshot.manifest
        ids = pq.read_table(Path(index.path, manifest.segments[0].rows.name), columns=["list_id", "row_id"])
        first = min(ends["reading"], wall)
        details = {
            "reading": first,
            "training_and_assigning": ends["assigning"] - first,
            "writing": wall - ends["assigning"],
        }
        return Found(ids.to_pydict(), {name: round(value, 2) for name, value in details.items()})

    return Run(f"index {_VECTORS:,} x {_DIMENSION}", {ONE: lambda: once(None), RAY: lambda: once(RayExecutor())})
