"""The tables in the project's README that benchmarks write."""

from __future__ import annotations

from pathlib import Path


def replace_section(path: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two lines of a README in place of what stands there; raises ValueError where they are not."""
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path.name} lacks the lines {begin} and {end}; put them where the table belongs")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
