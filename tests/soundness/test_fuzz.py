"""A fast sample of the fuzzers, the cases that once failed, and a look at whether the fuzzers find what is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skipml
from skipml.score_tests import Between, Threshold
from tests.soundness import damage, differential, planted, queries
from tests.soundness.cases import problems_of
from tests.soundness.corpus import from_json, stored
from tests.soundness.damaged_files import Damage, written
from tests.soundness.loader_checks import CHECKS
from tests.soundness.query_lake import QueryLake, query_connection, write_lake

Say = Callable[[str], None]


@pytest.fixture
def heard() -> list[str]:
    return []


def test_no_row_is_lost_on_any_axis(tmp_path: Path, heard: list[str], count_cases: Callable[[int], None]) -> None:
    totals, _, _ = differential.fuzz(
        7, lambda totals: totals["lakes"] >= 12, corpus=tmp_path, predicates=24, say=heard.append
    )
    assert not totals["failed"], heard
    assert totals["cases"] >= 12 * 24
    assert totals["skipped"] >= 0.1 * totals["blocks"]
    count_cases(totals["cases"])


def test_a_planted_row_is_never_skipped(heard: list[str]) -> None:
    totals, problems = planted.attack_all(7, 25, heard.append)
    assert not problems
    assert totals["groups"] >= 25


def test_queries_of_any_shape_give_the_same_rows(tmp_path: Path, heard: list[str]) -> None:
    totals, shapes, problems = queries.fuzz(7, 80, corpus=tmp_path, say=heard.append)
    assert not problems
    assert len(shapes) >= 50
    assert totals["with_skips"] >= 12
    assert totals["errors"] <= 6


def test_damaged_files_do_no_harm(tmp_path: Path, heard: list[str]) -> None:
    totals, problems = damage.damage_all(7, 100, every=211, corpus=tmp_path, say=heard.append)
    assert not problems
    assert totals["readable"] >= 10


@pytest.mark.parametrize("path", stored("differential"), ids=lambda path: path.stem)
def test_cases_that_failed(path: Path, tmp_path: Path) -> None:
    with differential.connection() as con:
        assert problems_of(con, from_json(json.loads(path.read_text())), tmp_path / "case") == []


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> QueryLake:
    return write_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def con(lake: QueryLake) -> Iterator[skipml.Connection]:
    with query_connection(lake) as connection:
        yield connection


@pytest.mark.parametrize("path", stored("queries"), ids=lambda path: path.stem)
def test_queries_that_failed(con: skipml.Connection, lake: QueryLake, path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    assert queries.problem_of(con, lake, case["sql"], case.get("before", ()))[0] == ""


@pytest.mark.parametrize("path", stored("damage"), ids=lambda path: path.stem)
def test_damage_that_did_harm(path: Path, tmp_path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    del case["problem"]
    scorer = case.pop("scorer", None)
    (found,) = damage.run_batch(written(tmp_path), [Damage(**case)], str(tmp_path), scorer)
    assert found[1] == ""


@pytest.mark.parametrize("path", stored("loaders"), ids=lambda path: path.stem)
def test_bytes_that_broke_a_loader(path: Path) -> None:
    case: dict[str, str] = json.loads(path.read_text())
    CHECKS[case["what"]][0](base64.b64decode(case["data"]))


@pytest.mark.parametrize("name", CHECKS)
def test_loaders_take_what_is_right(name: str) -> None:
    check, examples = CHECKS[name]
    for data in examples():
        check(data)
        check(data[: len(data) // 2])


def test_a_wrong_decision_is_found_shrunk_and_stored(
    tmp_path: Path, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Threshold.never

    def unsound(self: Threshold, lower: Any, upper: Any) -> Any:
        return real(self, lower, upper - 0.3 * (upper - lower))

    monkeypatch.setattr(differential, "_SHRINK_SECONDS", 12.0)
    with monkeypatch.context() as patch:
        patch.setattr(Threshold, "never", unsound)
        totals, _, found = differential.fuzz(
            1, lambda totals: totals["failed"] > 0, corpus=tmp_path, predicates=30, say=heard.append
        )
        assert totals["failed"] == 1
        case = from_json(json.loads(found[0].read_text()))
        assert sum(group.num_rows for group in case.groups) <= 6, "it is shrunk"
        with differential.connection() as con:
            assert problems_of(con, case, tmp_path / "again")
    with differential.connection() as con:
        assert problems_of(con, case, tmp_path / "sound") == []


def test_a_row_that_is_skipped_wrongly_is_found_inside(heard: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Between, "never", lambda self, lower, upper: np.ones(len(lower), np.bool_))
    monkeypatch.setattr(Threshold, "never", lambda self, lower, upper: np.ones(len(lower), np.bool_))
    _, problems = planted.attack_all(7, 20, heard.append)
    assert any("within it passes" in problem for problem in problems)
    assert any("stays SKIP" in problem for problem in problems)
