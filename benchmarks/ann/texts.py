"""Texts that any Debian machine has: WordNet's glosses, a dictionary of 1913, the descriptions of Debian's packages."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import numpy as np

PACKAGES = ("wordnet-base", "dict-gcide")
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LONGEST = 300
"""Characters kept of a text."""


def unpack(folder: Path) -> Path:
    """Download the packages with apt-get and unpack them below `folder` without installing them; returns the root."""
    root = folder / "root"
    if not (root / "usr/share/wordnet/data.noun").exists() or not (root / "usr/share/dictd/gcide.index").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True, capture_output=True)
        for package in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return root


def glosses(root: Path) -> list[str]:
    """The definitions of WordNet without their examples, each once."""
    found: dict[str, None] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (root / "usr/share/wordnet" / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" ") and " | " in line:
                found[line.partition(" | ")[2].partition('; "')[0].strip()[:_LONGEST]] = None
    return list(found)


def dictionary(root: Path, number: int, seed: int = 0) -> list[str]:
    """`number` first definitions of the 1913 Webster, drawn at random; those that it shares with WordNet left out."""
    entries = (root / "usr/share/dictd/gcide.index").read_text(encoding="utf-8", errors="replace").splitlines()
    body = gzip.decompress((root / "usr/share/dictd/gcide.dict.dz").read_bytes())
    found: dict[str, None] = {}
    for row in np.random.default_rng(seed).permutation(len(entries)):
        _, offset, length = entries[row].split("\t")
        text = body[_number(offset) : _number(offset) + _number(length)].decode(errors="replace")
        definition = _definition(text)
        if definition and "WordNet" not in text:
            found[definition[:_LONGEST]] = None
        if len(found) == number:
            break
    return list(found)


def packages(number: int, seed: int = 0) -> list[str]:
    """`number` short descriptions of Debian packages, drawn at random."""
    listing = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    found = list(dict.fromkeys(re.findall(r"^Description(?:-en)?: (.+)$", listing, re.MULTILINE)))
    assert len(found) >= number, "apt knows too few packages: run apt-get update"
    return [found[row] for row in np.random.default_rng(seed).permutation(len(found))[:number]]


def _number(digits: str) -> int:
    """A number as dictd writes it."""
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS.index(digit)
    return value


def _definition(entry: str) -> str:
    """The first sense of an entry in one line, '' where there is none."""
    _, _, text = entry.partition("\n")
    text = re.split(r"\[1913 Webster\]|\n\s*2\. |\[PJC\]", text)[0]
    text = re.sub(r"\s+", " ", text.replace("{", "").replace("}", ""))
    sense = text.partition(" 1. ")[2] or text
    return sense.strip() if len(sense.strip()) >= 20 and "]" not in sense else ""
