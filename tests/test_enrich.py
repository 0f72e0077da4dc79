"""Enrichment says exactly what the rows are, makes skipping better, and never makes it wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

import skipml
from skipml.bounds.budget import Budget
from skipml.features import model_inputs
from skipml.footers import read_footers
from skipml.metadata.loading import load
from skipml.metadata.refine import refine
from skipml.metadata.storage import sidecar_path
from skipml.regions import from_refined
from tests.oracle import ask, identity, linear, model
from tests.soundness.lakes import Lake, lakes

pytestmark = pytest.mark.usefixtures("patient")


def diagonal(path: Path, n: int = 400, group: int = 50, seed: int = 0) -> str:
    """`b` follows `a`, which is anywhere; `c` is -a; all are float64, so that pyarrow records no NaN count."""
    rng = np.random.default_rng(seed)
    a = rng.random(n)
    table = pa.table({"id": np.arange(n), "a": a, "b": a + 0.01 * rng.random(n), "c": -a, "t": ["x"] * n})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return str(path)


def skipped(path: str, **where: Any) -> int:
    """Row groups skipped for a condition that only the hulls of a and b refute."""
    test = model(linear([[1, -1]], [0])) > 0.05
    plan = skipml.plan(path, test, budget=Budget.unlimited(256), **where)
    assert plan.scan().read_all().num_rows == 0
    return int((plan.decisions == skipml.SKIP).sum())


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(lakes())
def test_metadata_is_exact_and_regions_hold_every_row(tmp_path_factory: pytest.TempPathFactory, lake: Lake) -> None:
    folder = tmp_path_factory.mktemp("lake")
    paths, table = lake.write(folder, np.random.default_rng(lake.seed))
    files, columns = [str(path) for path in paths], list(lake.columns)
    skipml.enrich(files, columns, pairs="all", boxes=3)
    values, null = model_inputs(table, columns)
    refined = refine(read_footers(files, columns))
    assert not refined.notes
    regions = from_refined(refined, columns)
    stop = np.cumsum(regions.n_rows)
    found = [load(file).metadata for file in files]
    stored = [np.concatenate([m.columns[i].nan_count for m in found if m]) for i in range(len(columns))]
    for block, (start, end) in enumerate(zip(stop - regions.n_rows, stop, strict=True)):
        rows, missing = values[start:end], null[start:end]
        assert [int(counts[block]) for counts in stored] == (np.isnan(rows) & ~missing).sum(axis=0).tolist()
        numbers = rows[~(missing | np.isnan(rows)).any(axis=1)]
        inside = np.zeros(len(numbers), np.bool_)
        for part in np.flatnonzero(regions.block == block):
            inside |= ((numbers >= regions.lower[part]) & (numbers <= regions.upper[part])).all(axis=1)
        assert inside.all()
        assert (
            regions.may_be_nan[block] == np.isnan(rows[:, :]).any(axis=0) & ~(np.isnan(rows) & missing).all(axis=0)
        ).all()
        assert (regions.may_be_null[block] == missing.any(axis=0)).all()


def test_hulls_skip_what_limits_cannot(tmp_path: Path) -> None:
    path = diagonal(tmp_path / "x.parquet")
    assert skipped(path) == 0
    report = skipml.enrich(path, ["a", "b"])
    assert "a, b cut off" in str(report)
    assert skipped(path) == 8
    with skipml.connect() as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        for call in ("minus(a, b)", "minus(a::DOUBLE, b)"):
            assert ask(con, f"SELECT id FROM '{path}' WHERE {call} > 0.3").skipped == 8
        answers = ask(con, f"SELECT id FROM '{path}' WHERE minus(a + 0, b) > 0.3")
        assert (answers.skipped, answers.plain) == (0, [])


def test_counting_nan_lets_greater_than_skip(tmp_path: Path) -> None:
    path = diagonal(tmp_path / "x.parquet")
    test = model(identity()) > 2
    assert not (skipml.plan(path, test).decisions == skipml.SKIP).any(), "a NaN would pass"
    skipml.enrich(path, ["a"])
    assert (skipml.plan(path, test).decisions == skipml.SKIP).all()


@pytest.mark.parametrize("where", ["beside", "root", "embedded"])
def test_an_enriched_file_is_left_alone_until_it_or_the_settings_change(tmp_path: Path, where: str) -> None:
    path, root = diagonal(tmp_path / "lake" / "x.parquet"), str(tmp_path / "root") if where == "root" else None
    stored = path if where == "embedded" else sidecar_path(path, root)

    def enrich(size: int = 45) -> str:
        return skipml.enrich(path, ["a", "b"], hull_bytes=size, root=root, embed=where == "embedded").files[0].state

    assert enrich() == "enriched"
    before = os.stat(stored)
    assert enrich() == "up to date"
    assert os.stat(stored).st_mtime_ns == before.st_mtime_ns
    assert enrich(13) == "enriched"
    assert skipped(path, **({"root": root} if root else {})) == 8
    with skipml.connect(metadata_root=root) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        assert ask(con, f"SELECT id FROM '{path}' WHERE minus(a, b) > 0.3").skipped == 8
    diagonal(tmp_path / "lake" / "x.parquet", seed=1)
    assert skipped(path, **({"root": root} if root else {})) == 0, "the metadata is of another state"
    assert enrich(13) == "enriched"


def test_pairs_that_cut_little_off_are_not_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.random(4000) for name in "ab"}
    pq.write_table(pa.table({**columns, "c": columns["a"]}), tmp_path / "x.parquet", row_group_size=2000)
    metadata = {}
    for pairs in ("auto", "all", [("B", "a")], []):
        skipml.enrich(tmp_path / "x.parquet", pairs=pairs)
        found = load(tmp_path / "x.parquet").metadata
        assert found is not None
        metadata[str(pairs)] = [set(pair.columns) for pair in found.pairs]
    assert metadata["auto"] == [{"a", "c"}]
    assert len(metadata["all"]) == 3
    assert metadata["[('B', 'a')]"] == [{"a", "b"}]
    assert metadata["[]"] == []


def test_all_columns_that_can_be_inputs_are_enriched_by_default(tmp_path: Path) -> None:
    skipml.enrich(diagonal(tmp_path / "x.parquet"))
    found = load(tmp_path / "x.parquet").metadata
    assert found is not None
    assert [column.name for column in found.columns] == ["id", "a", "b", "c"]


def test_a_file_that_cannot_be_enriched_does_not_stop_the_others(tmp_path: Path) -> None:
    good = diagonal(tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(skipml.EnrichmentError, match=r"1 failed[\s\S]*bad\.parquet") as caught:
        skipml.enrich(tmp_path / "*.parquet", ["a", "b"])
    assert "1 enriched" in str(caught.value)
    assert skipped(good) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["gone"]}, "gone"),
        ({"columns": ["t"], "words": 0}, "cannot be a model input"),
        ({"words": -1}, "count"),
        ({"columns": ["a"], "pairs": [("a", "b")]}, "the pair column 'b'"),
        ({"hull_bytes": 44}, "45"),
        ({"boxes": -1}, "count"),
        ({"pairs": "some"}, "auto"),
        ({"pairs": [("a",)]}, "auto"),
        ({"pairs": ["ab"]}, "two columns"),
        ({"pairs": [("a", "A")]}, "two columns"),
        ({"boxes": 2.5}, "integers"),
        ({"block_rows": "x"}, "integers"),
        ({"models": ["wear.onnx"]}, "Model.load"),
        ({"models": model(identity())}, r"\[model\]"),
        ({"columns": "ab"}, "list of names"),
        ({"embed": True, "root": "x"}, "root"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    path = diagonal(tmp_path / "x.parquet")
    with pytest.raises(skipml.EnrichmentError, match=message):
        skipml.enrich(path, **arguments)  # type: ignore[arg-type]
    assert not Path(sidecar_path(path)).exists()


def test_a_file_that_changes_while_it_is_read_is_not_enriched(tmp_path: Path) -> None:
    path = diagonal(tmp_path / "x.parquet")

    def rewrite(_: str, rows: int, total: int) -> None:
        if rows == total:
            diagonal(tmp_path / "x.parquet", seed=1)

    with pytest.raises(skipml.EnrichmentError, match="FileChangedError"):
        skipml.enrich(path, ["a", "b"], progress=rewrite)
    assert skipped(path) == 0


def test_progress_counts_the_rows_of_each_file(tmp_path: Path) -> None:
    paths = [diagonal(tmp_path / f"{i}.parquet") for i in range(2)]
    calls: list[tuple[str, int, int]] = []
    skipml.enrich(paths, ["a"], progress=lambda *call: calls.append(call))
    assert [call for call in calls if call[1] == call[2]] == [(path, 400, 400) for path in paths]
    assert len(calls) == 16


def test_damaged_metadata_is_ignored_and_reported(tmp_path: Path) -> None:
    path = diagonal(tmp_path / "x.parquet")
    skipml.enrich(path, ["a", "b"])
    sidecar = Path(sidecar_path(path))
    data = bytearray(sidecar.read_bytes())
    data[len(data) // 2] ^= 1
    sidecar.write_bytes(data)
    assert skipped(path) == 0
    assert "checksum" in refine(read_footers([path], ["a"])).notes[0]
    assert skipml.enrich(path, ["a", "b"]).files[0].state == "enriched"
    assert skipped(path) == 8


def test_a_partition_column_has_no_hull(tmp_path: Path) -> None:
    path = diagonal(tmp_path / "b=5" / "x.parquet")
    skipml.enrich(path, ["a", "b"])
    with skipml.connect() as con:
        con.register_model("minus", model(linear([[-1, 1]], [0])))
        answers = ask(con, f"SELECT id FROM '{tmp_path}/*/*.parquet' WHERE minus(a, b) > 3.5")
    assert len(answers.plain) == 400, "DuckDB takes b from the path"
    assert answers.skipping == answers.plain


def test_killed_at_any_moment_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    paths = [diagonal(tmp_path / f"{i:02}.parquet", n=2000, seed=i) for i in range(12)]
    program = f"import skipml; skipml.enrich({paths!r}, ['a', 'b', 'c'], boxes=4)"
    for attempt in range(5):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
        time.sleep(0.6 + 0.5 * random.Random(attempt).random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(skipped(path) in (0, 40) for path in paths)
    report = skipml.enrich(paths, ["a", "b", "c"], boxes=4)
    assert {file.state for file in report.files} <= {"enriched", "up to date"}
    assert [skipped(path) for path in paths] == [40] * 12
    assert not list(tmp_path.glob(".skipml-*")), "nothing is left behind"


def test_on_an_executor_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [os.path.relpath(diagonal(tmp_path / f"{i}.parquet", seed=i)) for i in range(3)]
    Path("broken.parquet").write_bytes(b"PAR1")
    told: list[tuple[str, int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        report = skipml.enrich(paths, boxes=2, executor=pool, root="there", progress=lambda *args: told.append(args))
        assert [(file.path, file.state) for file in report.files] == [(path, "enriched") for path in paths]
        assert sorted(told) == [(path, 400, 400) for path in paths]
        skipml.enrich(paths, boxes=2, root="here")
        for path in paths:
            one, other = (Path(sidecar_path(path, root)).read_bytes() for root in ("here", "there"))
            assert one == other
        again = skipml.enrich(paths, boxes=2, executor=pool, root="there")
        assert [file.state for file in again.files] == ["up to date"] * 3
        with pytest.raises(skipml.EnrichmentError, match=r"1 of 4 files(?s:.*)broken.parquet: FooterError"):
            skipml.enrich([*paths, "broken.parquet"], executor=pool)


class Gone(Executor):
    """Whoever works on the second call is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        found: Future[Any] = Future()
        self.calls += 1
        if self.calls == 2:
            found.set_exception(RuntimeError("the worker died"))
        else:
            found.set_result(fn(*args, **kwargs))
        return found


def test_a_worker_that_is_gone_fails_its_file_only(tmp_path: Path) -> None:
    paths = [diagonal(tmp_path / f"{i}.parquet", seed=i) for i in range(3)]
    with pytest.raises(skipml.EnrichmentError, match=r"2 enriched, 1 failed(?s:.*)1.parquet: RuntimeError: the worker"):
        skipml.enrich(paths, executor=Gone())
    assert [os.path.exists(sidecar_path(path)) for path in paths] == [True, False, True]


def _rows(path: str, call: str, condition: str, columns: str = "a, b") -> tuple[int, int]:
    """How many rows a query gives with skipping and without."""
    with skipml.connect() as con:
        con.register_model("same", model(identity("float64")))
        con.register_model("sum32", model(linear([[1, 1]], [0], "float32")))
        con.register_model("minus64", model(linear([[1, -1]], [0], "float64")))
        answers = ask(con, f"SELECT {columns} FROM '{path}' WHERE {call} {condition}")
    return len(answers.skipping), len(answers.plain)


def test_old_timestamps_of_far_years(tmp_path: Path) -> None:
    days = np.array(["3000-01-01"] * 100, "datetime64[us]") + np.arange(100).astype("timedelta64[D]")
    path = str(tmp_path / "x.parquet")
    pq.write_table(pa.table({"a": days}), path, use_deprecated_int96_timestamps=True)
    skipml.enrich(path, ["a"])
    assert _rows(path, "same(epoch(a))", "> 32000000000", "a") == (100, 100)


@pytest.mark.parametrize(("low", "high"), [(1e39, 2e39), (3e38, 3.5e38), (-2e39, 2e39)])
def test_values_that_become_infinite_in_float32(tmp_path: Path, low: float, high: float) -> None:
    a, path = np.linspace(low, high, 100), str(tmp_path / "x.parquet")
    pq.write_table(pa.table({"a": a, "b": a / high}), path, row_group_size=20)
    skipml.enrich(path, ["a", "b"], pairs="all")
    for condition in ("> 0", "< 0", "> 3.2e38"):
        found = _rows(path, "sum32(a, b)", condition)
        assert found[0] == found[1]


def test_denormal_values(tmp_path: Path) -> None:
    points, path = np.array([[5, -1], [3, 0], [3, 0], [5, 0], [3, 1], [5, 0]]) * 5e-324, str(tmp_path / "x.parquet")
    pq.write_table(pa.table({"a": points[:, 0], "b": points[:, 1]}), path)
    skipml.enrich(path, ["a", "b"], pairs="all")
    assert _rows(path, "minus64(a, b)", "> -1") == (6, 6)


def test_a_file_replaced_by_one_of_the_same_footer_size_and_time(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random(1000)
    backwards = np.concatenate([part[::-1] for part in values.reshape(10, 100)])
    path = str(tmp_path / "x.parquet")

    def write(b: np.ndarray) -> None:
        pq.write_table(pa.table({"a": values, "b": b}), path, row_group_size=100)
        os.utime(path, (1e9, 1e9))

    write(values)
    skipml.enrich(path, ["a", "b"])
    time.sleep(0.02)  # times come in ticks of some milliseconds
    write(backwards)
    found = _rows(path, "minus64(a, b)", "> 0.3")
    assert found[0] == found[1] > 0
    assert skipml.enrich(path, ["a", "b"]).files[0].state == "enriched"


def test_columns_that_differ_in_case_alone_are_not_enriched(tmp_path: Path) -> None:
    x, path = np.linspace(0, 1, 100), tmp_path / "x.parquet"
    pq.write_table(pa.table([pa.array(x), pa.array(x + 100), pa.array(x)], ["a", "A", "b"]), path, row_group_size=10)
    for name in ("a", "A"):
        with pytest.raises(skipml.EnrichmentError, match="but for case"):
            skipml.enrich(path, [name])
    skipml.enrich(path)
    found = load(path).metadata
    assert found is not None
    assert [column.name for column in found.columns] == ["b"]
    assert skipml.plan(path, model(identity("float64")) < 50).scan().read_all().num_rows == 100


def test_up_to_date_is_said_of_the_place_that_is_asked_for(tmp_path: Path) -> None:
    path, root = diagonal(tmp_path / "x.parquet"), tmp_path / "root"
    assert skipml.enrich(path, ["a", "b"]).files[0].state == "enriched"
    assert skipml.enrich(path, ["a", "b"], embed=True).files[0].state == "enriched"
    assert skipml.enrich(path, ["a", "b"], root=root).files[0].state == "enriched"
    assert Path(sidecar_path(path, root)).exists()
    assert skipml.enrich(path, ["a", "b"], root=root).files[0].state == "up to date"
