"""A pytest session that collects its tests once and runs those that a mutant concerns in a process for each mutant."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from types import FrameType
from typing import Any

import pytest

from tests.mutation.applying import Functions, loaded_functions, put
from tests.mutation.forgetting import forget_all
from tests.mutation.operators import Mutant

_CACHE = Path(".data/mutation")
"""What was measured of the tests, by all the code that they measure and that they share."""


@dataclass(frozen=True)
class Target:
    """A mutant and the module that it is of."""

    module: str
    mutant: Mutant


@dataclass(frozen=True)
class Run:
    """What a test took, and which functions it called."""

    seconds: float
    called: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Verdict:
    """`by` is the test that noticed a mutant, or what else ended it; "" if it survived."""

    target: Target
    by: str


class Session:
    """A pytest plugin: `verdicts` calls `on_verdict` instead of running the tests."""

    def __init__(
        self,
        group: str,
        modules: Iterable[str],
        targets: Callable[[], Iterator[Target]],
        on_verdict: Callable[[Verdict], None],
        most_seconds: float,
    ) -> None:
        self._most_seconds = most_seconds
        self._group, self._names, self._targets, self._on_verdict = group, list(modules), targets, on_verdict
        self._failed = False
        self._items: dict[str, pytest.Item] = {}
        self._runs: dict[str, Run] = {}
        self._killers: dict[tuple[str, str], Counter[str]] = {}
        self._functions: Functions = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        modules = {name: import_module(name) for name in self._names}
        files = {str(module.__file__) for module in modules.values()}
        self._functions = loaded_functions(files)
        forget_all()
        gc.collect()
        gc.freeze()  # what is not looked at is not copied by the processes to come
        self._know_tests(files)
        for target in self._targets():
            self._on_verdict(self._verdict(target))
        return True

    def _know_tests(self, files: set[str]) -> None:
        """Measure the tests that were not measured as they are."""
        helpers = {str(path) for path in Path("tests").rglob("*.py") if not path.name.startswith("test_")}
        cache = _CACHE / f"{self._group}-{_digest(files | helpers)}.pickle"
        known: dict[tuple[str, str], Run] = pickle.loads(cache.read_bytes()) if cache.exists() else {}
        digests = {path: _digest({path}) for path in {str(item.path) for item in self._items.values()}}
        keys = {name: (name, digests[str(item.path)]) for name, item in self._items.items()}
        self._runs = {name: known[key] for name, key in keys.items() if key in known}
        pid, pipe = _forked(lambda: self._measured(files))
        self._runs |= pickle.loads(_read_all(pipe))
        os.waitpid(pid, 0)
        cache.parent.mkdir(exist_ok=True)
        cache.write_bytes(pickle.dumps(known | {keys[name]: run for name, run in self._runs.items()}))

    def _measured(self, files: set[str]) -> bytes:
        """What every test that passes takes and calls, of those that are not known yet."""
        found: dict[str, Run] = {}
        for name, item in self._items.items():
            if name in self._runs:
                continue
            called: set[tuple[str, str]] = set()

            def note(frame: FrameType, event: str, _: Any, called: set[tuple[str, str]] = called) -> None:
                code = frame.f_code
                if event == "call" and code.co_filename in files:
                    called.add((code.co_filename, code.co_qualname.partition(".<locals>")[0]))

            threading.setprofile(note)
            sys.setprofile(note)
            start = process_time()
            passed = self._passes([item])
            sys.setprofile(None)
            threading.setprofile(None)
            if passed:
                found[name] = Run(process_time() - start, frozenset(called))
        return pickle.dumps(found)

    def _passes(self, items: list[pytest.Item]) -> bool:
        for item, following in zip(items, [*items[1:], None], strict=True):
            self._failed = False
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return False
        return True

    def _chosen(self, target: Target) -> list[str]:
        """The tests that reach the changed function: those that noticed changes of it first, then the quick ones."""
        path = str(sys.modules[target.module].__file__)
        function = target.mutant.function
        killers = self._killers.get((target.module, function), Counter())
        reaching = [
            (-killers[name], run.seconds, name)
            for name in self._items.keys() & self._runs.keys()
            for run in [self._runs[name]]
            if ((path, function) in run.called if function else any(file == path for file, _ in run.called))
        ]
        chosen, seconds = [], 0.0
        for _, took, name in sorted(reaching):
            if seconds + took <= self._most_seconds:
                seconds += took
                chosen.append(name)
        return chosen

    def _verdict(self, target: Target) -> Verdict:
        chosen = self._chosen(target)
        seconds = sum(self._runs[name].seconds for name in chosen)

        def attack() -> bytes:
            if not put(target.mutant, sys.modules[target.module], self._functions):
                return b"nothing changes"
            items = [self._items[name] for name in chosen]
            for item, following in zip(items, [*items[1:], None], strict=True):
                limit = int(process_time() + 4 + 5 * self._runs[item.nodeid].seconds)
                resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
                self._failed = False
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._failed:
                    return item.nodeid.encode()
            return b"-"

        pid, pipe = _forked(attack)
        found = _read_all(pipe, 120 + 40 * seconds)
        if found is None:
            os.kill(pid, signal.SIGKILL)
        os.close(pipe) if found is None else None
        _, status = os.waitpid(pid, 0)
        by = "hangs" if found is None else found.decode() or f"dies of {status}"
        if by in self._items:
            self._killers.setdefault((target.module, target.mutant.function), Counter())[by] += 1
        return Verdict(target, "" if by == "-" else by)


def _digest(files: Iterable[str]) -> str:
    """Of files and where they are."""
    found = hashlib.sha256()
    for file in sorted(files):
        path = Path(file).resolve()
        found.update(str(path).encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def _forked(work: Callable[[], bytes]) -> tuple[int, int]:
    """A process that writes what the work gives into the pipe -> its id, the pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    place = tempfile.mkdtemp()
    try:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = place
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, work())
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os._exit(0)


def _read_all(pipe: int, seconds: float | None = None) -> Any:
    """All that comes through a pipe, None if that takes longer than it may."""
    end = None if seconds is None else perf_counter() + seconds
    found = b""
    while True:
        if end is not None and not select.select([pipe], [], [], max(0.0, end - perf_counter()))[0]:
            return None
        some = os.read(pipe, 1 << 20)
        if not some:
            os.close(pipe)
            return found
        found += some
