"""A metadata cache changes how fast a plan is, and nothing else: stale, damaged, written by two, it loses no row."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import skipml
from skipml.cli import app
from skipml.errors import MetadataError
from skipml.lake import cache as caching
from skipml.lake import cached
from skipml.lake.cache import build_cache, inspect_cache
from skipml.lake.cache_file import CacheFile
from skipml.parquet import footer
from tests.lake.tables import brute, ids, lake, rows, score, settle, write

total = score()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return lake(tmp_path / "lake")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "lake.skipml-cache"


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose footers are read from now on, through the cache's own door."""
    seen: list[str] = []
    read = footer.read_files

    def noting(paths: list[str], columns: list[str]) -> object:
        seen.extend(paths)
        return read(paths, columns)

    monkeypatch.setattr(caching, "read_files", noting)
    return seen


def test_second_plan_opens_no_footer_and_rules_out_whole_files(
    files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = opened(monkeypatch)
    first = skipml.plan(files, total > 6900, cache=cache)
    assert seen == files
    second = skipml.plan(files, total > 6900, cache=cache)
    assert seen == files
    assert ids(first) == ids(second) == brute(files, total, 6900)
    assert second.pruned.files == tuple(files[1:7])  # the first gives the schema
    assert (second.pruned.n_row_groups, second.pruned.n_rows) == (24, 240)
    assert second.footers.files == (files[0], files[7])
    assert second.summary.startswith("Files: 8, skipped 6 as a whole; Row groups: 32, skipped 28")


_SPECIAL = [None, np.nan, np.inf, -np.inf, -0.0, 0.0, 3.0, 2.0**53, 1e30]


def _random_file(path: Path, rng: np.random.Generator) -> str:
    """Up to a dozen rows, NULL, NaN and infinite ones among them, in row groups of four."""
    n = int(rng.integers(0, 13))
    columns = {}
    for name in "ab":
        values: list[float | None] = (rng.integers(-1, 2) * 30 + rng.integers(-9, 10, n)).astype(float).tolist()
        for at in np.flatnonzero(rng.random(n) < rng.choice([0.0, 0.0, 0.2])).tolist():
            values[at] = _SPECIAL[rng.integers(len(_SPECIAL))]
        columns[name] = pa.array(values, pa.float64())
    return write(path, pa.table({"id": rng.integers(0, 10**9, n), **columns}), 4)


@pytest.mark.parametrize("seed", range(16))
def test_plans_with_and_without_a_cache_give_the_same_rows(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    files = [_random_file(tmp_path / f"{i}.parquet", rng) for i in range(int(rng.integers(1, 7)))]
    if seed % 2:
        skipml.enrich(files, ["a", "b"], pairs="all")
    for above in (0.0, 30.0, float(rng.integers(-80, 80)), 2.0**53):
        wanted = brute(files, total, above)
        for _ in range(2):
            cached.forget()
            assert ids(skipml.plan(files, total > above, cache=tmp_path / "cache")) == wanted


def test_rewritten_file_is_read_again(files: list[str], cache: Path) -> None:
    assert ids(skipml.plan(files, total > 50_000, cache=cache)) == []
    write(Path(files[3]), rows(60_000), seconds=1_600_000_001)
    assert ids(skipml.plan(files, total > 50_000, cache=cache)) == list(range(60_000, 60_040))
    build_cache(files, cache, ["a", "b"])
    size = os.path.getsize(files[2])
    for start in range(2100, 3000):
        if os.path.getsize(write(Path(files[2]), rows(start), seconds=1_600_000_001)) == size:
            break
    assert os.path.getsize(files[2]) == size
    assert ids(skipml.plan(files[:3], total > 2060, cache=cache)) == list(range(start, start + 40))
    replaced = Path(files[4])
    status = os.stat(replaced)
    pq.write_table(rows(70_000), replaced, row_group_size=10)
    os.utime(replaced, ns=(status.st_mtime_ns, status.st_mtime_ns))  # as old as before: the time of the change is not
    assert ids(skipml.plan(files, total > 50_000, cache=cache)) == [*range(60_000, 60_040), *range(70_000, 70_040)]


def test_new_and_vanished_files(files: list[str], cache: Path, tmp_path: Path) -> None:
    build_cache(files, cache)
    new = write(tmp_path / "lake" / "new.parquet", rows(90_000))
    assert ids(skipml.plan([*files, new], total > 50_000, cache=cache)) == list(range(90_000, 90_040))
    Path(files[7]).write_bytes(b"PAR1 and nothing that a Parquet file has")
    plan = skipml.plan(files, total > 5000, cache=cache)
    assert plan.footers.errors[-1]
    with pytest.raises(skipml.FooterError, match="does not end as a Parquet file"):
        plan.scan()


def test_sidecar_that_is_newer_than_the_cache_counts(files: list[str], cache: Path, tmp_path: Path) -> None:
    values = pa.table({"id": [1, 2], "a": [1.0, float("nan")], "b": [0.0, 0.0]})
    path = write(tmp_path / "nan.parquet", values)
    assert ids(skipml.plan(path, total > 5, cache=cache)) == [2]
    skipml.enrich(path, ["a", "b"])
    settle(Path(path + ".skipml"))
    assert ids(skipml.plan(path, total > 5, cache=cache)) == [2]
    plain = write(tmp_path / "plain.parquet", pa.table({"id": [1, 2], "a": [1.0, 2.0], "b": [0.0, 0.0]}))
    other = write(tmp_path / "other.parquet", pa.table({"id": [3], "a": [9.0], "b": [0.0]}))
    of = [other, plain]
    assert not skipml.plan(of, total > 5, cache=cache).pruned.files  # pyarrow counts no NaN
    skipml.enrich(plain, ["a", "b"])
    settle(Path(plain + ".skipml"), 1_900_000_000)
    assert skipml.plan(of, total > 5, cache=cache).pruned.files == (plain,)
    os.unlink(plain + ".skipml")
    assert not skipml.plan(of, total > 5, cache=cache).pruned.files


def test_hulls_of_whole_files_rule_them_out(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each file a + b is 100, and a and b go from 0 to 100: the box says up to 200, the hull 100."""
    files = []
    for i in range(3):
        a = np.linspace(0, 100, 40) if i else np.linspace(500, 600, 40)
        files.append(write(tmp_path / f"{i}.parquet", pa.table({"id": np.arange(40) + 100 * i, "a": a, "b": 100 - a})))
    skipml.enrich(files, ["a", "b"], pairs=[("a", "b")])
    for file in files:
        settle(Path(file + ".skipml"), 1_900_000_000)
    monkeypatch.setattr(caching, "is_settled", lambda *_: True)
    seen = opened(monkeypatch)
    for _ in range(2):  # from the sidecars, then from the cache
        cached.forget()
        plan = skipml.plan(files, total > 150, cache=cache)
        assert plan.pruned.files == tuple(files[1:])
        assert ids(plan) == brute(files, total, 150)
    assert seen == files


def test_file_that_is_kept_as_a_whole_is_not_scored(
    files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for above in (2500, 4010, 3007):
        plan = skipml.plan(files, total > above, cache=cache)
        assert ids(plan) == brute(files, total, above)
    kept = plan.decisions[plan.footers.file_index == plan.footers.files.index(files[6])]
    assert kept.tolist() == [skipml.KEEP] * 4


@pytest.mark.parametrize("broken", [None, float("nan")])
def test_file_with_null_or_nan_is_not_kept(tmp_path: Path, cache: Path, broken: float | None) -> None:
    a = [float(i) for i in range(100, 139)]
    files = [
        write(tmp_path / "0.parquet", pa.table({"id": [0], "a": [0.0], "b": [0.0]})),
        write(tmp_path / "1.parquet", pa.table({"id": range(40), "a": pa.array([*a, broken]), "b": [0.0] * 40})),
    ]
    skipml.enrich(files, ["a", "b"])
    for file in files:
        settle(Path(file + ".skipml"), 1_900_000_000)
    for predicate, gone in ((total > 50, broken is None), (total.between(50, 200), True)):
        plan = skipml.plan(files, predicate, cache=cache)
        assert ids(plan) == (list(range(39)) if gone else list(range(40)))


def test_files_that_disagree_on_a_type_are_not_ruled_out(tmp_path: Path, cache: Path) -> None:
    text = pa.table({"id": [1], "a": [1.5], "b": [0.0]})
    files = [
        write(tmp_path / "0.parquet", rows(0)),
        write(tmp_path / "1.parquet", rows(10)),
        write(tmp_path / "2.parquet", text),
    ]
    plan = skipml.plan(files, total > 1e6, cache=cache)
    assert not plan.pruned.files
    assert (plan.decisions == skipml.EVALUATE).all()


def test_columns_are_added_and_found_without_case(files: list[str], cache: Path) -> None:
    build_cache(files, cache, ["A"])
    assert inspect_cache(cache)["columns"] == ["a"]
    assert ids(skipml.plan(files, total > 6900, cache=cache)) == brute(files, total, 6900)
    assert inspect_cache(cache)["columns"] == ["a", "b"]
    upper = skipml.Model(total.function, ("A", "B"))
    assert ids(skipml.plan(files, upper > 6900, cache=cache)) == brute(files, total, 6900)


def test_file_written_just_now_is_not_cached(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "new.parquet"
    pq.write_table(rows(0), path)
    report = build_cache(path, cache)
    assert (report.files, report.left_out) == (0, 1)
    assert ids(skipml.plan(path, total > 10, cache=cache)) == brute([str(path)], total, 10)


def test_cache_in_a_folder_that_cannot_be_written(files: list[str], tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "cache"
    plan = skipml.plan(files, total > 6900, cache=nowhere)
    assert ids(plan) == brute(files, total, 6900)
    assert "cannot be written" in plan.notes[0]
    with pytest.raises(skipml.EnrichmentError, match="cannot be written"):
        build_cache(files, nowhere)


def test_damage_is_never_read(files: list[str], cache: Path) -> None:
    """A byte in each place is changed, and the file cut off at each: it is read as it was, or not at all."""
    build_cache(files[:2], cache)
    whole = cache.read_bytes()
    names = pq.read_schema(cache).names
    before = CacheFile(str(cache)).read(names, np.arange(2))
    rng = np.random.default_rng(0)
    places = {*rng.integers(0, len(whole), 150).tolist(), *range(len(whole) - 40, len(whole)), *range(8)}
    refused = 0
    for at in sorted(places):
        for damaged in (whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :], whole[:at]):
            cache.write_bytes(damaged)
            try:
                assert CacheFile(str(cache)).read(names, np.arange(2)).equals(before)
            except MetadataError:
                refused += 1
    assert refused > 1.8 * len(places)


@pytest.mark.exhaustive
def test_damage_of_every_byte_is_never_read(files: list[str], cache: Path) -> None:
    build_cache(files[:2], cache)
    whole = cache.read_bytes()
    names = pq.read_schema(cache).names
    before = CacheFile(str(cache)).read(names, np.arange(2))
    for at in range(len(whole)):
        for damaged in (whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], whole[:at]):
            cache.write_bytes(damaged)
            try:
                assert CacheFile(str(cache)).read(names, np.arange(2)).equals(before)
            except MetadataError:
                continue


def test_plan_on_a_damaged_cache_is_right_and_mends_it(files: list[str], cache: Path) -> None:
    build_cache(files, cache, ["a", "b"])
    whole = cache.read_bytes()
    for at in np.linspace(4, len(whole) - 1, 25).astype(int).tolist():
        cache.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        cached.forget()
        assert ids(skipml.plan(files, total > 6900, cache=cache)) == brute(files, total, 6900)
    cache.write_bytes(b"no Parquet at all")
    cached.forget()
    plan = skipml.plan(files, total > 6900, cache=cache)
    assert "damaged" in plan.notes[0]
    assert ids(plan) == brute(files, total, 6900)
    assert inspect_cache(cache)["up_to_date"] == len(files)


def test_cache_of_another_version_is_made_again(files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_cache(files, cache)
    monkeypatch.setattr("skipml.lake.cache_file.VERSION", 2)
    with pytest.raises(MetadataError, match="version"):
        inspect_cache(cache)
    assert ids(skipml.plan(files, total > 6900, cache=cache)) == brute(files, total, 6900)
    assert inspect_cache(cache)["files"] == len(files)


def test_two_writers_leave_one_of_their_caches(files: list[str], cache: Path) -> None:
    errors = []

    def work(mine: list[str]) -> None:
        try:
            for _ in range(6):
                build_cache(mine, cache)
                assert ids(skipml.plan(mine, total > 2900, cache=cache)) == brute(mine, total, 2900)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (files[:4], files[2:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert inspect_cache(cache)["files"] >= 4
    assert [name for name in os.listdir(cache.parent) if name.endswith(".tmp")] == []


def test_other_programs_read_the_cache_as_parquet(files: list[str], cache: Path) -> None:
    build_cache(files, cache)
    table = pq.read_table(cache)
    assert table.column("path").to_pylist() == files
    assert table.column("upper:a").to_pylist() == [1000.0 * i + 39 for i in range(8)]


def test_connection_takes_footers_from_the_cache(
    files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cache(files, cache)
    write(Path(files[3]), rows(60_000), seconds=1_600_000_001)
    seen: list[str] = []
    read = footer.read_files

    def noting(paths: list[str], columns: list[str]) -> object:
        seen.extend(paths)
        return read(paths, columns)

    monkeypatch.setattr("skipml.footers.read_files", noting)
    folder = Path(files[0]).parent
    with skipml.connect(metadata_cache=cache) as con:
        con.register_model("total", total)
        found = con.execute(f"SELECT id FROM '{folder}/*.parquet' WHERE total(a, b) > 6900 ORDER BY id").fetchall()
        assert [row[0] for row in found] == brute(files, total, 6900)
        assert con.last_report is not None
        assert con.last_report.counters["skipped"] == 24
    assert set(seen) == {files[3]}


@pytest.mark.parametrize("content", [None, b"", b"PAR1 damage PAR1"])
def test_connection_does_without_a_cache_that_is_no_use(files: list[str], cache: Path, content: bytes | None) -> None:
    if content is not None:
        cache.write_bytes(content)
    with skipml.connect(metadata_cache=cache) as con:
        con.register_model("total", total)
        found = con.execute(
            f"SELECT count(*) FROM '{Path(files[0]).parent}/*.parquet' WHERE total(a, b) > 6900"
        ).fetchall()
    assert found == [(len(brute(files, total, 6900)),)]


def test_commands_build_and_inspect_a_cache(files: list[str], cache: Path) -> None:
    run = CliRunner().invoke
    built = run(app, ["cache", "build", *files, str(cache), "--columns", "a,b", "--json"])
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["read"] == len(files)
    assert (
        json.loads(run(app, ["cache", "build", *files, str(cache), "--columns", "a,b", "--json"]).stdout)["read"] == 0
    )
    write(Path(files[3]), rows(60_000), seconds=1_600_000_001)
    facts = json.loads(run(app, ["cache", "inspect", str(cache), "--json"]).stdout)
    assert (facts["files"], facts["up_to_date"], facts["columns"]) == (8, 7, ["a", "b"])
    assert "8 files, 7 up to date" in run(app, ["cache", "inspect", str(cache)]).stdout
    cache.write_bytes(b"nothing")
    refused = run(app, ["cache", "inspect", str(cache)])
    assert refused.exit_code == 1
    assert "damaged" in refused.stderr
