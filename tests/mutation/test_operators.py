"""The machinery that breaks code: which changes it makes of a source, and that they arrive in what is loaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skipml.activations import curve
from skipml.recent import Derived, Recent
from tests.mutation.__main__ import justified
from tests.mutation.applying import loaded_functions, put
from tests.mutation.forgetting import forget_all
from tests.mutation.operators import mutants
from tests.mutation.targets import GROUPS, modules_of

_SOURCE = '''
"""A module."""
import numpy as np

_LIMIT = 2.0


def clipped(x: float, *, strict: bool = False) -> float:
    """x, at most the limit."""
    if x < _LIMIT and not strict:
        return x
    return min(x, _LIMIT)


class Box:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.width = high - low

    @property
    def middle(self) -> float:
        return (lambda: self.low + self.width * 0.5)()
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "skipml_broken.py"
    path.write_text(_SOURCE)
    spec = importlib.util.spec_from_file_location("skipml_broken", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "skipml_broken", module)
    spec.loader.exec_module(module)
    return module


def test_every_part_of_a_source_is_changed_and_its_types_are_not() -> None:
    found = list(mutants(_SOURCE))
    assert len({mutant.key for mutant in found}) == len(found)
    changes = {(mutant.function, mutant.operator, mutant.change.partition(" -> ")[2]) for mutant in found}
    assert changes >= {
        ("", "constant", "_LIMIT = 4.0"),
        ("clipped", "boundary", "if x <= _LIMIT and (not strict):"),
        ("clipped", "comparison", "if x >= _LIMIT and (not strict):"),
        ("clipped", "boolean", "if x < _LIMIT or not strict:"),
        ("clipped", "boolean", "if x < _LIMIT:"),
        ("clipped", "negation", "if x < _LIMIT and strict:"),
        ("clipped", "never", "if False:"),
        ("clipped", "return", "return None"),
        ("clipped", "opposite", "return max(x, _LIMIT)"),
        ("Box.__init__", "arithmetic", "self.width = high + low"),
        ("Box.__init__", "removed", "pass"),
        ("Box.middle", "constant", "return (lambda: self.low + self.width * 1.0)()"),
    }


def test_a_change_arrives_wherever_a_function_was_handed_to(module: ModuleType) -> None:
    kept, functions = module.clipped, loaded_functions({str(module.__file__)})
    by_change = {mutant.change.partition(" -> ")[2]: mutant for mutant in mutants(_SOURCE)}
    assert (kept(5.0), module.Box(0.0, 4.0).middle) == (2.0, 2.0)
    assert put(by_change["return max(x, _LIMIT)"], module, functions)
    assert kept(5.0) == 5.0
    assert put(by_change["return (lambda: self.low + self.width * 1.0)()"], module, functions)
    assert module.Box(0.0, 4.0).middle == 4.0
    assert put(by_change["_LIMIT = 4.0"], module, functions)
    assert kept(3.0) == 3.0


def test_nothing_that_was_found_out_before_a_change_is_left_after_it() -> None:
    module_cache: Recent[str, int] = Recent(2, lambda _: 1)
    module_cache.put("x", 1)
    derived: Derived[type[Path], int] = Derived(lambda thing: 1)
    kept = Path
    derived(kept)
    curve("tanh")
    assert forget_all() >= 3
    assert (module_cache.get("x"), len(derived._made), curve.cache_info().currsize) == (None, 0, 0)


def test_every_group_has_modules_and_tests_and_every_justified_mutant_exists() -> None:
    paths = {name: path for group in GROUPS for name, path in modules_of(group).items()}
    assert {"skipml.regions", "skipml.decisions", "skipml.bounds.crown", "skipml.footers"} <= set(paths)
    for _, tests in GROUPS.values():
        assert all(Path(test.partition("::")[0]).exists() for test in tests)
    reasons = justified()
    for name in {key[0] for key in reasons}:
        keys = {mutant.key for mutant in mutants(paths[name].read_text())}
        missing = {key[1:] for key in reasons if key[0] == name} - keys
        assert not missing, f"{name} has changed: {missing}"
