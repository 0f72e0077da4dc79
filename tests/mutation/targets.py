"""Which modules are broken, and which tests must notice; those that reach a changed function are run, the quick ones
first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def _battery(*names: str) -> list[str]:
    test = "tests/soundness/test_unsound_variants.py::test_the_code_as_it_is_breaks_no_rule"
    return [f"{test}[{name}]" for name in names]


_BOUNDS = [
    *(
        str(path.relative_to(_ROOT))
        for path in sorted(_ROOT.glob("tests/bounds/test_*.py"))
        if path.stem != "test_lirpa"
    ),
    "tests/test_evidence.py",
    "tests/soundness/test_bound_laws.py",
    *_battery("bounds", "predicates", "metadata", "memory", "scores", "levels", "passes"),
]
_DECISIONS = [
    "tests/test_decisions.py",
    "tests/test_plans.py",
    "tests/test_decision_levels.py",
    "tests/test_regions.py",
    "tests/test_score_tests.py",
    "tests/test_evidence.py",
    "tests/test_score_store.py",
    "tests/engines/test_corners.py",
    "tests/lake/test_snapshots.py",
    "tests/stores/test_rows.py",
    "tests/soundness/test_bound_laws.py",
    *_battery("bounds", "predicates", "files", "coarser", "levels", "scores"),
]
_METADATA = [
    "tests/metadata",
    "tests/parquet",
    "tests/test_footers.py",
    "tests/test_evidence.py",
    *_battery("files", "metadata", "coarser", "levels"),
]
GROUPS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "bounds": (["skipml/bounds/*.py"], _BOUNDS),
    "decisions": (
        [f"skipml/{name}.py" for name in ("regions", "decisions", "plans", "predicates", "score_tests")],
        _DECISIONS,
    ),
    "metadata": (
        [
            *("skipml/footers.py", "skipml/parquet/*.py"),
            *(f"skipml/metadata/{name}.py" for name in ("loading", "tie", "storage", "format", "contents", "evidence")),
        ],
        _METADATA,
    ),
    "conditions": (["skipml/engines/conditions.py"], ["tests/engines", *_battery("queries")]),
}
"""By name: patterns of files, and tests."""
_LEFT_OUT = ("lirpa", "compiled", "__init__")
"""A backend that is only compared with; what the tests replace; what holds no code."""


def modules_of(group: str) -> dict[str, Path]:
    """The modules of a group, by name."""
    found = {}
    for pattern in GROUPS[group][0]:
        for path in sorted(_ROOT.glob(pattern)):
            if path.stem not in _LEFT_OUT:
                found[".".join(path.relative_to(_ROOT).with_suffix("").parts)] = path
    return found
