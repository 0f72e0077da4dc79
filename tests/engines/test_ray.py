"""The suite of the engines on Ray, and work shared out by it: workers that are killed, a machine that is gone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from numpy.typing import NDArray
from ray.cluster_utils import Cluster
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

import skipml
from skipml.ann import source
from skipml.bounds.budget import Budget
from skipml.cli import app
from skipml.decisions import EVALUATE, KEEP, SKIP
from skipml.engines import ray as on_ray
from skipml.engines import ray_source
from skipml.engines.ray_executor import RayExecutor
from skipml.metadata.storage import sidecar_path
from skipml.predicates import Opaque
from tests.ann.brute import clustered, table_of
from tests.engines import test_engines as suite
from tests.engines.dying import DOOMED, DyingExecutor
from tests.oracle import identity, linear, model

pytestmark = [
    pytest.mark.xdist_group("ray"),  # one cluster for all
    pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning"),  # Ray sets its own old options
]

_STORE_BYTES = 100 << 20


class Machines:
    """A cluster of two, each with one processor."""

    def __init__(self) -> None:
        head = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.other = self.cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)

    def kill_other(self, when: Path) -> None:
        """Kill the one that this process is not on when a file is there."""
        while not when.exists():
            time.sleep(0.05)
        self.cluster.remove_node(self.other, allow_graceful=False)


@pytest.fixture(autouse=True, scope="module")
def machines() -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do by default, and asks about
        patch.setenv("RAY_worker_niceness", "0")  # else workers wait for the other tests
        machines = Machines()
        ray.init(address=machines.cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield machines
        ray.shutdown()
        machines.cluster.shutdown()  # type: ignore[no-untyped-call]


def table(found: ray.data.Dataset) -> pa.Table:
    blocks = ray.get(found.to_arrow_refs())
    return pa.concat_tables(blocks) if blocks else found.schema().base_schema.empty_table()


@pytest.fixture
def run() -> suite.Run:
    return suite.Run(on_ray, table, table)


test_row_groups_that_are_skipped_are_not_read = suite.test_row_groups_that_are_skipped_are_not_read
test_a_plan_that_skips_all_has_the_types_of_the_files = suite.test_a_plan_that_skips_all_has_the_types_of_the_files
test_a_file_that_was_rewritten_fails_the_query = suite.test_a_file_that_was_rewritten_fails_the_query
test_a_file_without_a_wanted_column_is_refused_at_once = suite.test_a_file_without_a_wanted_column_is_refused_at_once
test_names_are_taken_as_they_are = suite.test_names_are_taken_as_they_are


@pytest.mark.parametrize(("lakes", "plans"), [(5, 2), pytest.param(25, 8, marks=pytest.mark.exhaustive)])
def test_ray_gives_the_rows_of_duckdb_on_a_table(
    tmp_path: Path, lakes: int, plans: int, count_cases: Callable[[int], None]
) -> None:
    for i, case in enumerate(suite.random_plans(tmp_path, lakes, plans)):
        assert table(case.plan.to_ray(["id"]))["id"].to_pylist() == case.expected, case.name
        if i % plans == 0:
            near = table(on_ray.candidates(case.plan, ["id"]))["id"].to_pylist()
            assert case.left <= set(near), case.name
    count_cases(lakes * plans)


def test_rows_of_blocks_that_are_kept_are_not_scored(tmp_path: Path) -> None:
    path = suite.write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6], [9, 10]])
    plan = skipml.plan(path, model(identity()) < 7, budget=Budget(1.0, prove_keep=True))
    assert plan.decisions.tolist() == [KEEP, KEEP, SKIP]
    unknown = replace(plan, predicate=Opaque("unknown"))
    assert table(unknown.to_ray(["a"]))["a"].to_pylist() == [1, 2, 5, 6]
    asked = replace(unknown, result=replace(plan.result, decision=np.full(3, EVALUATE, np.int8)))
    with pytest.raises(skipml.PredicateError, match="unknown cannot be evaluated"):
        table(asked.to_ray(["a"]))


def lake(folder: Path, n_files: int, n_rows: int = 2000) -> list[str]:
    """Files of so many rows in four row groups."""
    rng = np.random.default_rng(5)
    paths = []
    for i in range(n_files):
        a = rng.normal(i, 1, n_rows)
        rows = pa.table({"id": np.arange(n_rows) + n_rows * i, "a": a, "b": a + rng.normal(0, 0.1, n_rows)})
        paths.append(str(folder / f"{i}.parquet"))
        pq.write_table(rows, paths[-1], row_group_size=n_rows // 4)
    return paths


def enriched(paths: list[str], root: Path, executor: Executor | None, **more: Any) -> list[bytes]:
    """The sidecars of the files, all of them written now."""
    scored = skipml.Model(linear([[1, -1], [2, 1]], [0, 1]), ("a", "b"))
    report = skipml.enrich(
        paths,
        ["a", "b"],
        pairs="all",
        boxes=2,
        models=[scored],
        witness_bytes=64,
        block_rows=250,
        root=root,
        executor=executor,
        **more,
    )
    assert [file.path for file in report.files] == paths
    return [Path(sidecar_path(path, root)).read_bytes() for path in paths]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_enrichment_is_the_same_though_workers_are_killed(tmp_path: Path) -> None:
    paths = lake(tmp_path, 6)
    expected = enriched(paths, tmp_path / "here", None)
    told: list[tuple[str, int, int]] = []
    executor = DyingExecutor(tmp_path, "before", "after")
    found = enriched(paths, tmp_path / "there", executor, progress=lambda *args: told.append(args))
    assert found == expected
    assert (tmp_path / "before").exists()
    assert (tmp_path / "after").exists()
    assert not leftovers(tmp_path / "there")
    # the file whose worker was killed after its sidecar got its name was up to date when it was tried again
    assert len(told) == len(set(told)) == 5
    assert {(done, total) for _, done, total in told} == {(2000, 2000)}


def content(index: skipml.VectorIndex) -> list[bytes]:
    """The files of the index, and what the manifest has besides their names and times."""
    found = index.snapshot.manifest
    counts = [segment.counts for segment in found.segments]
    arrays: list[NDArray[Any]] = [found.centroids, found.radii, found.norms, *counts]
    return [Path(index.path, file.name).read_bytes() for file in found.files] + [array.tobytes() for array in arrays]


def test_an_index_is_the_same_though_workers_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MOST_CHUNK_ROWS", 700)
    rows = table_of(clustered(3000, 40), id=pa.array(np.arange(3000)))
    for i in range(3):
        pq.write_table(rows.slice(1000 * i, 1000), tmp_path / f"{i}.parquet", row_group_size=300)
    told: list[tuple[str, int, int]] = []
    build: dict[str, Any] = {"source": str(tmp_path / "*.parquet"), "column": "v"}
    with threadpool_limits(1):  # as a worker has it: the last digits of a product of matrices depend on it
        here = skipml.VectorIndex.build(path=tmp_path / "here", **build)
    executor = DyingExecutor(tmp_path, "after")
    there = skipml.VectorIndex.build(
        path=tmp_path / "there", executor=executor, progress=lambda *args: told.append(args), **build
    )
    assert (tmp_path / "after").exists()
    assert content(there) == content(here)
    assert sorted(os.listdir(there.path)) == sorted(os.listdir(here.path))
    assert [done for what, done, _ in told if what == "assigning"][-1] == 3000
    # a worker that is not replaced fails the build, and the next one goes on
    with pytest.raises(skipml.EnrichmentError, match="a worker could not write its part of the index"):
        skipml.VectorIndex.build(
            path=tmp_path / "again", executor=DyingExecutor(tmp_path, "before", retries=0), **build
        )
    done = len(list((tmp_path / "again").rglob("range-*")))
    assert 0 < done < 5
    again = skipml.VectorIndex.build(path=tmp_path / "again", executor=RayExecutor(), **build)
    assert content(again) == content(here)


def test_commands_share_their_work_out(tmp_path: Path, machines: Machines) -> None:
    paths = lake(tmp_path, 2)
    address = ["--ray", machines.cluster.address]
    result = CliRunner().invoke(app, ["enrich", *paths, "--columns", "a,b", *address])
    assert "2 enriched" in result.stdout, result.output
    pq.write_table(table_of(clustered(300, 8)), tmp_path / "v.parquet")
    folder = str(tmp_path / "index")
    result = CliRunner().invoke(app, ["index", "build", str(tmp_path / "v.parquet"), folder, "--column", "v", *address])
    assert "300 vectors" in result.stdout, result.output


def test_a_machine_that_is_gone_takes_nothing_along(
    tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_source, "_TASK_ROWS", 5000)
    paths = lake(tmp_path, 8, 8000)
    expected = enriched(paths, tmp_path / "here", None)
    plan = skipml.plan(paths, model(identity(), "a") > 3)
    rows = plan.to_ray().materialize()  # some of it on the machine that is gone: Ray makes it again
    places = ray.experimental.get_object_locations(rows.to_arrow_refs())
    assert any(machines.other.node_id in place["node_ids"] for place in places.values())
    with ThreadPoolExecutor(1) as aside:
        killed = aside.submit(machines.kill_other, when=tmp_path / DOOMED)
        found = enriched(paths, tmp_path / "there", DyingExecutor(tmp_path, doomed=machines.other.node_id))
        killed.result()
    assert found == expected
    assert not leftovers(tmp_path / "there")
    assert table(rows).equals(plan.scan().read_all())
