"""The quick figures come as one JSON object on the last line."""

from __future__ import annotations

import json
import sys

import pytest
from rich.console import Console

from benchmarks import quick


def test_the_last_line_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def talking() -> dict[str, float]:
        sys.stdout.write("58 passed\n")
        return {"bounds": 1.5}

    monkeypatch.setattr(quick, "micro", talking)
    monkeypatch.setattr(quick, "effectiveness", lambda _: {"mean_effectiveness": 0.7})
    monkeypatch.setattr(quick, "demo", lambda _: {"sorted": {"times_faster": 20.0}})
    quick.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["micro_us"] == {"bounds": 1.5}
    assert found["effectiveness"] == {"mean_effectiveness": 0.7}
    assert found["demo"] == {"sorted": {"times_faster": 20.0}}
    assert found["environment"]["cores"] >= 1


def test_a_wrong_skip_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"cases": 1, "unsound_row_groups": 1}
    monkeypatch.setattr(quick, "run_effectiveness", lambda *_: [])
    monkeypatch.setattr(quick, "summary", lambda _: figures)
    with pytest.raises(SystemExit, match="a skipped row group holds a qualifying row"):
        quick.effectiveness(Console())
