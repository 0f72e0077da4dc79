"""Files on an S3 server: what is read of them, and that no fault of the server loses a row."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import skipml
from benchmarks.remote.server import Fault
from skipml.errors import StoreError
from tests.oracle import identity, model
from tests.stores.conftest import GROUP, GROUPS, Bucket, parquet, rows

WIDE = GROUP * GROUPS


@pytest.fixture
def lake(bucket: Bucket) -> Bucket:
    """Two files of 8 row groups, `a` from 0 to 1599."""
    bucket.put("lake/x.parquet", parquet(rows()))
    bucket.put("lake/y.parquet", parquet(rows(WIDE)))
    bucket.server.reset()
    return bucket


def plan_of(bucket: Bucket, predicate: skipml.Predicate, **options: object) -> skipml.Plan:
    given = {"filesystem": bucket.filesystem, **options}
    return skipml.plan(f"{bucket.url}/lake/*.parquet", predicate, **given)


HIGH = model(identity()) > WIDE + 650.5
FOUND = list(range(WIDE + 651, 2 * WIDE))


def test_a_plan_lists_once_and_reads_each_footer_once(lake: Bucket) -> None:
    plan = plan_of(lake, HIGH)
    assert plan.summary.startswith("Row groups: 16, skipped 14, ")
    assert lake.server.seen.count("GET /" + lake.url[5:]) == 1, "the listing also tells that there are no sidecars"
    assert sorted(line for line in lake.server.seen if ".parquet" in line) == [
        f"GET /{lake.url[5:]}/lake/{name}.parquet" for name in "xy"
    ]


def test_a_scan_reads_the_column_chunks_that_are_left(lake: Bucket) -> None:
    plan = plan_of(lake, HIGH)
    lake.server.reset()
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == FOUND
    assert lake.server.seen == [f"GET /{lake.url[5:]}/lake/y.parquet"], "two row groups, one request"
    assert lake.server.n_bytes < 6000
    assert "MB" in plan.traffic


def test_what_is_reported_is_what_the_server_has_sent(lake: Bucket) -> None:
    plan = plan_of(lake, HIGH)
    plan.scan().read_all()
    (store,) = {file.store for file in plan.footers.files}  # type: ignore[attr-defined]
    assert store.traffic.requests >= lake.server.requests
    assert store.traffic.bytes == pytest.approx(lake.server.n_bytes, abs=4000), "but for the listing"


def test_footers_of_files_that_stay_the_same_are_remembered(lake: Bucket) -> None:
    plan_of(lake, HIGH)
    lake.server.reset()
    assert plan_of(lake, HIGH).scan(["id"]).read_all().num_rows == len(FOUND)
    assert sum(".parquet" in line for line in lake.server.seen) == 1, "the rows"


def test_a_footer_longer_than_the_guess_takes_a_second_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipml.parquet.footer_bytes._GUESS", 200)
    url = bucket.put("long.parquet", parquet(rows()))
    bucket.server.reset()
    plan = skipml.plan(url, model(identity()) > 650.5, filesystem=bucket.filesystem)
    assert bucket.server.seen.count(f"GET /{bucket.url[5:]}/long.parquet") == 2
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == list(range(651, WIDE))


@pytest.mark.parametrize("where", ["beside", "bucket", "folder"])
def test_sidecars(lake: Bucket, tmp_path: Path, where: str) -> None:
    root = {"beside": None, "bucket": f"{lake.url}/meta", "folder": str(tmp_path)}[where]
    urls = f"{lake.url}/lake/*.parquet"
    net = model(identity())
    skipml.enrich(urls, ["a"], models=[net], root=root, filesystem=lake.filesystem)
    lake.server.reset()
    plan = plan_of(lake, net > 650.5, root=root)
    assert plan.decisions.tolist() == [0] * 6 + [1] + [2] * 9, "a score map proves KEEP"
    assert (
        skipml.enrich(urls, ["a"], models=[net], root=root, filesystem=lake.filesystem).files[0].state == "up to date"
    )
    lake.put("lake/x.parquet", parquet(rows(5)))
    again = plan_of(lake, net > 650.5, root=root)
    assert (again.decisions[:8] == 0).sum() == 6
    assert again.scan(["id"]).read_all()["id"].to_pylist() == [*range(651, WIDE + 5), *range(WIDE, 2 * WIDE)]


def test_nothing_is_embedded(lake: Bucket) -> None:
    with pytest.raises(skipml.EnrichmentError, match="replaces whole files only"):
        skipml.enrich(f"{lake.url}/lake/x.parquet", ["a"], embed=True, filesystem=lake.filesystem)


def test_a_file_that_was_rewritten_is_refused(lake: Bucket) -> None:
    plan = plan_of(lake, HIGH)
    lazy, near = plan.to_polars(["id"]), plan.candidates(["id"])
    lake.put("lake/y.parquet", parquet(rows(WIDE + 1)))
    with pytest.raises(skipml.FileChangedError, match=r"y\.parquet was rewritten"):
        plan.scan(["id"]).read_all()
    with pytest.raises((pl.exceptions.ComputeError, skipml.FileChangedError), match="was rewritten"):
        lazy.collect()
    with pytest.raises(skipml.FileChangedError, match="was rewritten"):
        near.to_table()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("y.parquet", status=403),
        Fault("y.parquet", status=404),
        Fault("y.parquet", status=500),
        Fault("y.parquet", status=503),
        Fault("y.parquet", keeps=0.5),
    ],
    ids=["403", "404", "500", "503", "torn"],
)
def test_a_server_that_fails_is_named_and_loses_no_row(lake: Bucket, fault: Fault) -> None:
    lake.filesystem.retries = 2
    plan = plan_of(lake, HIGH)
    lake.server.faults = [fault]
    with pytest.raises((StoreError, FileNotFoundError), match=r"lake/y\.parquet"):
        plan.scan(["id"]).read_all()
    fresh = skipml.plan(lake.put("lake/y.parquet", parquet(rows(7))), HIGH, filesystem=lake.filesystem)
    with pytest.raises(skipml.FooterError, match=r"lake/y\.parquet"):
        fresh.scan(["id"])


def test_a_moment_of_failure_is_tried_again(lake: Bucket) -> None:
    lake.filesystem.retries = 5
    plan = plan_of(lake, HIGH)
    lake.server.faults = [Fault("y.parquet", status=503, times=2), Fault("y.parquet", keeps=0.5, times=1)]
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == FOUND


def test_a_listing_that_fails_is_an_error(lake: Bucket) -> None:
    lake.filesystem.retries = 1
    lake.server.faults = [Fault(f"{lake.url[5:]}$", status=403)]
    with pytest.raises(StoreError, match="cannot be read"):
        plan_of(lake, HIGH)


@pytest.mark.parametrize("pattern", ["{}/none/*.parquet", "{}/none.parquet"])
def test_a_name_that_matches_nothing(lake: Bucket, pattern: str) -> None:
    with pytest.raises(skipml.FooterError, match="no file matches"):
        skipml.plan(pattern.format(lake.url), HIGH, filesystem=lake.filesystem)


def test_queries(lake: Bucket) -> None:
    with skipml.connect() as con:
        con.register_filesystem(lake.filesystem)
        con.register_model("f", model(identity()))
        for source in (f"'{lake.url}/lake/y.parquet'", f"read_parquet('{lake.url}/lake/*.parquet')"):
            for query in (
                f"SELECT id FROM {source} WHERE f(a) > {WIDE + 650} AND b < 50 ORDER BY id",
                f"SELECT id, filename FROM {source} WHERE f(a) > {WIDE + 650} ORDER BY id",
                f"SELECT count(*) FROM {source} WHERE f(a) > -1",
                f"SELECT id FROM {source} ORDER BY f(a) DESC LIMIT 3",
            ):
                con.skipping = False
                expected = con.execute(query).fetchall()
                con.skipping = True
                assert con.execute(query).fetchall() == expected
                relation = con.sql(query)
                assert relation is not None
                assert relation.fetchall() == expected
                assert con.last_report is not None
                assert con.last_report.traffic.startswith("s3: ")


def test_a_query_reads_no_footer_twice_and_few_bytes(lake: Bucket) -> None:
    with skipml.connect() as con:
        con.register_filesystem(lake.filesystem)
        con.register_model("f", model(identity()))
        lake.server.reset()
        query = f"SELECT id FROM read_parquet('{lake.url}/lake/*.parquet') WHERE f(a) > {WIDE + 750}"
        assert len(con.execute(query).fetchall()) == 49
        # two footers and a row group, of which DuckDB 1.5 reads each column on its own
        assert sum(".parquet" in line for line in lake.server.seen) in (3, 4), lake.server.seen
        assert sum("x.parquet" in line for line in lake.server.seen) == 1
        assert "read from stores: s3: " in str(con.last_report)


def test_a_file_that_changes_while_a_query_runs_is_refused(lake: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with skipml.connect() as con:
        con.register_filesystem(lake.filesystem)
        con.register_model("f", model(identity()))
        query = f"SELECT id FROM read_parquet('{lake.url}/lake/*.parquet') WHERE f(a) > {WIDE + 750}"
        relation = con.sql(query)
        from skipml.engines.planner import Planner

        plain = Planner.plan

        def and_rewrite(self: Planner, *args: object) -> object:
            plan = plain(self, *args)  # type: ignore[arg-type]
            lake.put("lake/y.parquet", parquet(rows(WIDE + 40)))
            return plan

        monkeypatch.setattr(Planner, "plan", and_rewrite)
        assert relation is not None
        with pytest.raises(skipml.FileChangedError, match="was rewritten"):
            relation.fetchall()


def test_without_a_registered_file_system_nothing_is_guessed(lake: Bucket) -> None:
    with skipml.connect() as con:
        con.register_model("f", model(identity()))
        report = con.explain(f"SELECT id FROM '{lake.url}/lake/y.parquet' WHERE f(a) > 3")
        assert not report.scans
        con.register_filesystem(lake.filesystem)
        con.unregister_filesystem("s3")
        report = con.explain(f"SELECT id FROM '{lake.url}/lake/y.parquet' WHERE f(a) > 3")
        assert not report.scans
