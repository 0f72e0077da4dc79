"""Files on web servers that tell versions apart, or do not, or do not know ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from werkzeug.wrappers import Request, Response

import skipml
from benchmarks.remote.server import SlowServer, serving
from skipml.errors import StoreError
from tests.oracle import identity, model
from tests.stores.conftest import GROUP, GROUPS, parquet, rows

HIGH = model(identity()) > 650.5
FOUND = list(range(651, GROUP * GROUPS))


class Site:
    """One file, with a strong or a weak tag, or none; with ranges, or without."""

    def __init__(self) -> None:
        self.data, self.tag, self.knows_ranges = parquet(rows()), '"1"', True

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        response = Response(self.data, mimetype="application/octet-stream")
        wanted = request.headers.get("If-Match")
        if wanted and wanted != self.tag:
            response = Response(status=412)
        elif self.knows_ranges:
            response.make_conditional(request, accept_ranges=True, complete_length=len(self.data))
        if self.tag:
            response.headers["ETag"] = self.tag
        return response(environ, start_response)


@pytest.fixture
def site() -> Iterator[tuple[Site, SlowServer, str]]:
    made = Site()
    fsspec.filesystem("http").clear_instance_cache()
    with serving(made) as (server, url):
        yield made, server, f"{url}/x.parquet"


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', ""])
def test_rows(site: tuple[Site, SlowServer, str], tag: str) -> None:
    made, _, url = site
    made.tag = tag
    plan = skipml.plan(url, HIGH)
    assert (plan.decisions == skipml.SKIP).sum() == 6
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == FOUND
    assert plan.to_polars(["id"]).collect()["id"].to_list() == FOUND


@pytest.mark.parametrize("tag", ['"1"', ""])
def test_a_file_that_changes_is_refused(site: tuple[Site, SlowServer, str], tag: str) -> None:
    made, _, url = site
    made.tag = tag
    plan = skipml.plan(url, HIGH)
    made.data = parquet(rows(3), 50)
    made.tag = tag and '"2"'
    with pytest.raises(skipml.FileChangedError, match="was rewritten"):
        plan.scan(["id"]).read_all()


@pytest.mark.parametrize("tag", ['"1"', ""])
def test_nothing_is_remembered(site: tuple[Site, SlowServer, str], tag: str) -> None:
    """The tag of a web server may be a size and a second."""
    made, _, url = site
    made.tag = tag
    skipml.plan(url, HIGH)
    before = len(made.data)
    made.data = parquet(rows(5000))
    assert abs(len(made.data) - before) < 2000
    plan = skipml.plan(url, HIGH)
    assert plan.scan(["id"]).read_all().num_rows == GROUP * GROUPS


def test_a_server_without_ranges_is_named(site: tuple[Site, SlowServer, str]) -> None:
    made, _, url = site
    made.knows_ranges = False
    made.data = parquet(rows(groups=300))
    with pytest.raises((StoreError, skipml.FooterError), match="does not know ranges"):
        skipml.plan(url, HIGH).scan(["id"])


def test_a_query(site: tuple[Site, SlowServer, str]) -> None:
    _, _, url = site
    with skipml.connect() as con:
        con.register_filesystem(fsspec.filesystem("http"))
        con.register_model("f", model(identity()))
        assert con.execute(f"SELECT id FROM '{url}' WHERE f(a) > 650").fetchall() == [(i,) for i in FOUND]
        assert con.last_report is not None
        assert con.last_report.traffic.startswith("http: ")
