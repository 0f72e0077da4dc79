"""What tells the states of a file in a store apart, and what may be remembered of it."""

from __future__ import annotations

import pickle
import time
from datetime import UTC, datetime
from typing import Any

import fsspec
import pytest

from skipml.identity import expand, identity, is_settled, listed_identity, metadata_root, object_identity
from skipml.metadata.storage import sidecar_path
from skipml.stores import Range, RemoteFile, Store, is_remote, remote_file
from tests.stores.conftest import Bucket

MEMORY = fsspec.filesystem("memory")


class Named(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A file system of any protocol."""

    cachable = False

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol


def state(protocol: str, **info: Any) -> Any:
    file = RemoteFile(f"{protocol}://b/x", Store(Named(protocol)))
    return object_identity(file, {"size": 10, "type": "file", **info})


@pytest.mark.parametrize(
    ("protocol", "info", "settled"),
    [
        ("s3", {"ETag": '"a"'}, True),
        ("gs", {"etag": "a"}, True),
        ("http", {"ETag": '"a"'}, False),
        ("http", {"ETag": 'W/"a"'}, False),
        ("http", {}, False),
        ("s3", {}, False),
        ("sftp", {"mtime": datetime(2020, 1, 1, tzinfo=UTC)}, False),
    ],
)
def test_only_unique_versions_are_remembered(protocol: str, info: dict[str, Any], settled: bool) -> None:
    assert is_settled(state(protocol, **info).written_ns, time.time_ns()) is settled


def test_states_that_differ_have_other_identities() -> None:
    states = [
        state("s3", ETag='"a"'),
        state("s3", ETag='"b"'),
        state("s3", ETag='"a"', size=11),
        state("gs", etag="a"),
        state("sftp", mtime=datetime(2020, 1, 1, tzinfo=UTC)),
        state("sftp", mtime=datetime(2020, 1, 1, 1, tzinfo=UTC)),
        state("sftp"),
    ]
    assert len(set(states)) == len(states)
    assert len({s.stamp for s in states}) == 5
    assert state("sftp").stamp == 0, "the tie is left to the footer's hash"
    assert state("http", ETag='W/"a"').tag == ""


def test_a_listing_and_a_look_at_one_file_agree(bucket: Bucket) -> None:
    """A listing on AWS has milliseconds where the other has seconds, and quotes may differ."""
    url = bucket.put("x.parquet", b"123")
    (listed,) = expand(f"{bucket.url}/*.parquet", None, bucket.filesystem)
    (named,) = expand(url, None, bucket.filesystem)
    assert listed == named == url
    assert listed_identity(listed) == listed_identity(named) == identity(listed)
    quoted, plain = state("az", etag='"0x8D"'), state("az", etag="0x8D", LastModified=datetime.now(UTC))
    assert quoted == plain


def test_a_time_reads_alike_in_all_its_forms() -> None:
    time_ = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    forms = [time_, time_.timestamp(), time_.isoformat(), "Fri, 02 Jan 2026 03:04:05 GMT"]
    assert len({state("sftp", mtime=form).mtime_ns for form in forms}) == 1
    assert state("sftp", mtime="yesterday").mtime_ns == 0


def test_listings_are_never_stale(bucket: Bucket) -> None:
    bucket.put("x.parquet", b"123")
    before = expand(f"{bucket.url}/*.parquet", None, bucket.filesystem)
    bucket.server.reset()
    bucket.filesystem.pipe_file(f"{bucket.url}/y.parquet", b"4567")
    other = fsspec.filesystem("s3", **bucket.options, skip_instance_cache=True)
    other.pipe_file(f"{bucket.url}/x.parquet", b"changed")
    after = expand(f"{bucket.url}/*.parquet", None, bucket.filesystem)
    assert len(after) == 2
    assert identity(before[0]) == listed_identity(after[0]) != listed_identity(before[0])


def test_folders_and_lists(memory: str, tmp_path: Any) -> None:
    for name in ("a/x.parquet", "a/b/y.parquet", "z.parquet", "z.parquet.skipml", "other.txt"):
        MEMORY.pipe_file(f"{memory}/{name}", b"1")
    assert [file.removeprefix(memory) for file in expand(memory)] == ["/a/b/y.parquet", "/a/x.parquet", "/z.parquet"]
    local = tmp_path / "local.parquet"
    local.touch()
    mixed = expand([f"{memory}/z.parquet", local, f"{memory}/a/*.parquet"])
    assert mixed == (f"{memory}/z.parquet", str(local), f"{memory}/a/x.parquet")
    assert isinstance(mixed[0], RemoteFile)
    assert isinstance(mixed[2], RemoteFile)
    assert mixed[0].store is mixed[2].store, "what they take is counted together"
    assert expand([memory.removeprefix("memory://") + "/z.parquet"], None, MEMORY) == (f"{memory}/z.parquet",)


def test_where_sidecars_lie(tmp_path: Any) -> None:
    file = remote_file("memory://lake/x.parquet")
    assert sidecar_path(file) == "memory://lake/x.parquet.skipml"
    assert sidecar_path(file, tmp_path) == f"{tmp_path}/memory/lake/x.parquet.skipml"
    root = metadata_root("memory://meta")
    assert sidecar_path(file, root) == "memory://meta/memory/lake/x.parquet.skipml"
    assert sidecar_path("/data/x.parquet", root) == "memory://meta/data/x.parquet.skipml"


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://b/x", True), ("memory://x", True), ("file:///x", False), ("/a/b://c", False), ("x.parquet", False)],
)
def test_what_is_a_url(path: str, remote: bool) -> None:
    assert is_remote(path) is remote


def test_ranges_near_each_other_are_one_request(memory: str) -> None:
    MEMORY.pipe_file(f"{memory}/x", bytes(range(256)) * 4000)
    file = remote_file(f"{memory}/x")
    wanted = [(900_000, 900_010), (5, 10), (0, 3), (8, 20), (600_000, 600_001)]
    found = file.store.read([Range(file, start, stop) for start, stop in wanted])
    assert found == [bytes((at % 256) for at in range(start, stop)) for start, stop in wanted]
    assert file.store.traffic.requests == 3
    (short,) = file.store.read([Range(file, 1_023_990, 1_024_010)])
    assert "10 bytes came where 20" in str(short)


def test_a_file_travels_to_other_processes(memory: str) -> None:
    MEMORY.pipe_file(f"{memory}/x.parquet", b"123")
    (file,) = expand(f"{memory}/x.parquet")
    copy = pickle.loads(pickle.dumps(file))
    assert copy == file
    assert listed_identity(copy) == listed_identity(file)
