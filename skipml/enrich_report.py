"""What enrichment did with each file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was done with one file; `pair_gains` is the mean share of the box of a pair that its hulls cut off."""

    path: str
    state: Literal["enriched", "up to date", "failed"]
    n_rows: int = 0
    n_row_groups: int = 0
    n_bytes: int = 0
    seconds: float = 0.0
    pair_gains: tuple[tuple[str, str, float], ...] = ()
    texts: tuple[tuple[str, int, int], ...] = ()
    """Per column whose texts are stored: its name, how many are told apart, and in how many blocks all are known."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class EnrichReport:
    """What was done with each file."""

    files: tuple[FileReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {"files": [asdict(file) for file in self.files]}

    def __str__(self) -> str:
        counts = {state: sum(f.state == state for f in self.files) for state in ("enriched", "up to date", "failed")}
        done = [f for f in self.files if f.state == "enriched"]
        rows, seconds, groups = (sum(getattr(f, name) for f in done) for name in ("n_rows", "seconds", "n_row_groups"))
        lines = [", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no files"]
        if done:
            size = sum(f.n_bytes for f in done) / max(groups, 1)
            lines.append(f"{rows:,} rows in {seconds:.2f} s, {size:,.0f} bytes for each of {groups:,} row groups")
            gains = {(a, b): gain for f in done for a, b, gain in f.pair_gains}
            lines += [f"  hulls of {a}, {b} cut off {gain:.0%} of their boxes" for (a, b), gain in gains.items()]
            for name in dict.fromkeys(name for f in done for name, _, _ in f.texts):
                found = [(words, known) for f in done for each, words, known in f.texts if each == name]
                most, known = max(words for words, _ in found), sum(known for _, known in found)
                lines.append(f"  texts of {name}, up to {most:,} in a file, in {known:,} blocks")
        return "\n".join(lines + [f"  {f.path}: {f.error}" for f in self.files if f.error])
