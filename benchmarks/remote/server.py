"""A local S3 server with a latency per request, which counts what it sends and can be told to fail.

usage: python -m benchmarks.remote.server SECONDS

serves with that latency, prints its URL, and ends with its standard input; /counts gives what it has sent since it was
last asked.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass(slots=True)
class Fault:
    """What happens to requests of a method whose path matches: a status, a body cut short, a pause; `times` of them."""

    path: str
    method: str = "GET"
    status: int = 0
    keeps: float = 1.0
    """The share of the body that is sent; the length promised is that of all of it."""
    seconds: float = 0.0
    times: int = 1 << 30


@dataclass(slots=True)
class SlowServer:
    """A WSGI application in front of another one."""

    application: Any
    latency: float = 0.0
    requests: int = 0
    n_bytes: int = 0
    seen: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Count from nothing."""
        self.requests, self.n_bytes, self.seen = 0, 0, []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/counts":
            return self._counts(start_response)
        with self.lock:
            self.requests += 1
            self.seen.append(f"{method} {path}")
            fault = self._fault(method, path)
        time.sleep(self.latency + (fault.seconds if fault else 0.0))
        if fault is not None and fault.status:
            start_response(f"{fault.status} Injected", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self.application(environ, start_response))
        with self.lock:
            self.n_bytes += len(body)
        return [body] if fault is None else [body[: int(len(body) * fault.keeps)]]

    def _counts(self, start_response: Any) -> list[bytes]:
        with self.lock:
            body = json.dumps({"requests": self.requests, "bytes": self.n_bytes}).encode()
            self.reset()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


class Held:
    """An application whose objects are read out of memory from their second request on: moto copies a whole object for
    each range of it, which no real server does.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._bodies: dict[str, tuple[bytes, str]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        path, wanted = environ["PATH_INFO"], re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            self._bodies.pop(path, None)
        if environ["REQUEST_METHOD"] != "GET" or wanted is None:
            found: Iterable[bytes] = self._application(environ, start_response)
            return found
        if path not in self._bodies:
            headers: dict[str, str] = {}
            whole = {name: value for name, value in environ.items() if name not in ("HTTP_RANGE", "HTTP_IF_MATCH")}
            body = b"".join(self._application(whole, lambda _, given, *__: headers.update(given)))
            self._bodies[path] = body, headers.get("ETag", "")
        body, tag = self._bodies[path]
        if environ.get("HTTP_IF_MATCH", tag) != tag:
            start_response("412 Precondition Failed", [("Content-Length", "0")])
            return [b""]
        start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(body))
        described = [("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}"), ("ETag", tag)]
        start_response("206 Partial Content", [("Content-Length", str(stop - start)), *described])
        return [body[start:stop]]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(application: Any) -> Iterator[tuple[SlowServer, str]]:
    """An application on a port of the loopback interface, and its URL."""
    slow = SlowServer(application)
    server = make_server("127.0.0.1", 0, slow, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield slow, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def s3_application() -> Any:
    """An S3 server in memory."""
    return DomainDispatcherApplication(create_backend_app)


def s3_options(url: str) -> dict[str, Any]:
    """What fsspec needs to reach it, without listings or instances that outlive their use."""
    return {
        "endpoint_url": url,
        "key": "key",
        "secret": "secret",
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"max_pool_connections": 64, "retries": {"max_attempts": 2}},
    }


def make_bucket(url: str, name: str) -> Any:
    """A bucket, and the file system that it was made through."""
    filesystem = fsspec.filesystem("s3", **s3_options(url))
    filesystem.call_s3("create_bucket", Bucket=name)
    return filesystem


def main() -> None:
    """Serve until standard input ends."""
    with serving(Held(s3_application())) as (server, url):
        server.latency = float(sys.argv[1])
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
