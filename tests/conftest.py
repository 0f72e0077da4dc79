"""Settings of the test suite, and the count of random cases that is printed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pytest
from hypothesis import Phase, settings

from skipml.bounds import compaction
from skipml.bounds.memory import SHARED
from skipml.identity import FileIdentity
from tests import scorers
from tests.oracle import standing_clock

# The same cases in every run; `--hypothesis-profile=search` looks for new ones, `mutants` does not shrink what fails.
settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.register_profile("mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("same")

_CASES = "random cases"


def pytest_addoption(parser: pytest.Parser) -> None:
    scorers.add_option(parser)


@pytest.fixture(autouse=True, scope="session")
def chosen_scorer(pytestconfig: pytest.Config) -> Iterator[None]:
    """Connections score as the command line asks."""
    with pytest.MonkeyPatch.context() as patch:
        scorers.use(pytestconfig.getoption(scorers.OPTION), patch)
        yield


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """No test begins with what another one found out."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    SHARED.forget()
    compaction._REDUCED.clear()


@pytest.fixture(autouse=True)
def aged_by_modification_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests make files old by os.utime; the time of the last change, which counts too, cannot be set."""
    monkeypatch.setattr(FileIdentity, "written_ns", property(lambda state: state.mtime_ns))


@pytest.fixture
def patient() -> Iterator[None]:
    """Verification is limited by its work, not by the clock."""
    with standing_clock():
        yield


@pytest.fixture
def count_cases(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """Note how many random cases a test has tried; the sum is printed at the end of the run."""
    return lambda number: record_property(_CASES, number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.stats.get("passed", [])
    cases = [value for report in passed for name, value in getattr(report, "user_properties", ()) if name == _CASES]
    if cases:
        terminalreporter.write_line(f"{sum(cases):,} random differential cases with DuckDB {duckdb.__version__}")
