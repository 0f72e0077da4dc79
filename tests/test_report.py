"""What reports say, as text, tables, dictionaries and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np

from skipml.bounds.outcome import Method, Narrowed, Outcome, Reason
from skipml.decisions import EVALUATE, KEEP, SKIP, Decisions
from skipml.report import Report, ScanReport

_BLOCKS = [
    (SKIP, 0.0, 1.0, Method.INTERVAL, Reason.PROVED),
    (SKIP, -1.0, 2.0, Method.CROWN, Reason.PROVED),
    (SKIP, 0.0, 1.0, Method.CROWN, Reason.PROVED),
    (EVALUATE, 0.0, 9.0, Method.BRANCH, Reason.FALSIFIED),
    (EVALUATE, 0.0, math.inf, Method.NONE, Reason.NOT_TRIED),
    (KEEP, 8.0, 9.0, Method.INTERVAL, Reason.PROVED),
]


def _scan(files: tuple[str, ...] = ("/lake/t.parquet",), error: str = "", reasons: tuple[str, ...] = ()) -> ScanReport:
    """The blocks above, the last two in the last file."""
    decision, lower, upper, method, reason = (np.array(part) for part in zip(*_BLOCKS, strict=True))
    decisions = Decisions(
        decision.astype(np.int8), lower, upper, method.astype(np.int8), reason.astype(np.int8), 0.0021, error
    )
    last = len(files) - 1
    groups = (0, 1, 2, 3, 4, 5) if not last else (0, 1, 2, 3, 0, 1)
    rows = (100, 100, 100, 100, 50, 50)
    return ScanReport("t", "m(a) > 3", "row groups", files, (0, 0, 0, 0, last, last), groups, rows, decisions, reasons)


def test_counts_and_summary() -> None:
    scan = _scan()
    assert scan.counts == {"row_groups": 6, "skip": 3, "evaluate": 2, "keep": 1}
    assert scan.rows_skipped == 300
    assert scan.summary() == "Row groups: 6, skipped 3, kept 1, evaluated 2; 60.0 % of 500 rows are not read"


def test_a_scan_of_no_rows() -> None:
    none = Decisions.of(Outcome.evaluate_all(0))
    scan = ScanReport("t", "m(a) > 3", "native", (), (), (), (), none)
    assert "none of 0 rows" in scan.summary()
    assert len(scan.lines()) == 3


def test_neighbours_with_one_decision_are_one_line_and_what_is_read_comes_first() -> None:
    *_, evaluated, kept, skipped = _scan().lines()
    assert evaluated.split()[:3] == ["3-4", "150", "EVALUATE"]
    assert "a point within its limits passes (1), limits unknown" in evaluated
    assert kept.split() == ["5", "50", "KEEP", "8", "9", "proved", "by", "interval"]
    assert skipped.split()[:5] == ["0-2", "300", "SKIP", "-1", "2"]
    assert skipped.endswith("proved by crown (2), interval (1)")


def test_files_are_told_apart_by_what_differs() -> None:
    lines = _scan(("/lake/x=1/t.parquet", "/lake/x=2/t.parquet")).lines()
    assert sum("x=1/t.parquet" in line for line in lines) == 2
    assert sum("x=2/t.parquet" in line for line in lines) == 2
    assert not any("/lake" in line for line in lines)


def test_long_reports_are_cut() -> None:
    n = 100
    alternating = replace(Decisions.of(Outcome.evaluate_all(n)), decision=np.arange(n).astype(np.int8) % 2)
    scan = ScanReport("t", "m(a) > 3", "native", ("t",), (0,) * n, tuple(range(n)), (1,) * n, alternating)
    assert scan.lines()[-1] == "  … and 88 more row groups"


def test_doubts_and_failures_are_said() -> None:
    text = "\n".join(_scan(error="ValueError: boom", reasons=("column a: no NaN count (6 row groups)",)).lines())
    assert "note: column a: no NaN count (6 row groups)" in text
    assert "files written by DuckDB" in text
    assert "pruning failed and was left out: ValueError: boom" in text
    assert "files written by DuckDB" not in "\n".join(
        _scan(reasons=("column a: no statistics (6 row groups)",)).lines()
    )


def test_arrow_has_a_row_per_row_group() -> None:
    table = _scan().to_arrow()
    assert table.column_names == ["file", "row_group", "n_rows", "decision", "lower", "upper", "method", "reason"]
    assert table["decision"].to_pylist() == ["SKIP"] * 3 + ["EVALUATE"] * 2 + ["KEEP"]
    assert table["reason"].to_pylist()[2:5] == ["proved", "falsified", "not_tried"]


def test_networks_that_got_smaller_are_said() -> None:
    scan = _scan()
    assert scan.to_dict()["narrowed"] == []
    assert "instead of" not in "\n".join(scan.lines())
    network = Narrowed((3, 64, 1), (3, 12, 1), 256, 48)
    smaller = replace(scan, decisions=replace(scan.decisions, narrowed=(network,)))
    assert "  bounded as 3-12-1 instead of 3-64-1: 81 % of the weights give nothing here" in smaller.lines()
    found = json.loads(Report("SELECT 1", (smaller,)).to_json())["scans"][0]["narrowed"]
    assert found == [{"widths_before": [3, 64, 1], "widths": [3, 12, 1], "weights_before": 256, "weights": 48}]


def test_json_has_no_infinity() -> None:
    report = Report("SELECT 1", (_scan(),), ("a note",), 0.01, {"skipped": 3})
    found = json.loads(report.to_json())
    assert found["notes"] == ["a note"]
    assert found["scans"][0]["rows_skipped"] == 300
    assert found["scans"][0]["blocks"][4]["upper"] is None


def test_a_report_as_text() -> None:
    text = str(Report("SELECT 1", (_scan(),), ("a note",), 0.01))
    assert text.startswith("t: m(a) > 3\n  Row groups: 6")
    assert text.endswith("note: a note\nanalysis: 10.0 ms")
    assert "nothing is skipped" in str(Report("SELECT 1"))


def test_summaries() -> None:
    assert Report("SELECT 1", (_scan(), _scan())).summary().count("t: Row groups: 6") == 2
    assert Report("SELECT 1", notes=("no model filters a Parquet scan directly",)).summary() == (
        "Nothing is skipped: no model filters a Parquet scan directly"
    )
    assert Report("SELECT 1").summary() == "Nothing is skipped: no registered model is called"
