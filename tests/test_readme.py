"""Every block of code in the README runs, in order, in one folder."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model
from typer.testing import CliRunner

from skipml.cli import app

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the Python blocks print."""
    out = io.StringIO()
    names: dict[str, object] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        for language, code in BLOCKS:
            if language == "python":
                exec(compile(code, str(README), "exec"), names)
    return out.getvalue()


def test_the_languages_are_those_that_are_tested() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "text", "bash"}


def test_the_python_blocks_run_and_skip(printed: str) -> None:
    shown = next(code for language, code in BLOCKS if language == "text")
    summary = re.compile(
        r"^  Row groups: 98, skipped \d+, kept 0, evaluated \d+; [\d.]+ % of 2,000,000 rows", re.MULTILINE
    )
    assert summary.search(shown)
    assert summary.search(printed)
    assert "rows qualify" in printed


@pytest.mark.usefixtures("printed")
def test_the_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    _save_model(folder / "wear.onnx")
    commands = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
    ours = [shlex.split(line)[1:] for line in commands if line.startswith("skipml ")]
    assert len(ours) >= 5
    for arguments in ours:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def _save_model(path: Path) -> None:
    """heat + load - 1, as an ONNX file."""
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, n]) for name, n in (("x", 2), ("y", 1))]
    weights = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("w", [[1.0, 1.0]]), ("b", [-1.0]))]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    graph = helper.make_graph([node], "wear", shape[:1], shape[1:], weights)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
