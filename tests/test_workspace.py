from __future__ import annotations

import os
from pathlib import Path

from skipml import workspace


def test_folders_of_living_processes_stay(tmp_path: Path) -> None:
    target = str(tmp_path / "out.parquet")
    with workspace.workspace(target) as first:
        with workspace.workspace(target) as second:
            assert os.path.isdir(first)
            assert first != second
        assert os.path.isdir(first)
    dead = tmp_path / ".out.parquet.skipml-dead"
    dead.mkdir()
    (dead / "rows").write_bytes(b"left")
    with workspace.workspace(target):
        assert not dead.exists()
    assert os.listdir(tmp_path) == []
