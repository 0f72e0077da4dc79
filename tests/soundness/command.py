"""The command line that the fuzzers share."""

from __future__ import annotations

import argparse
import sys

import numpy as np


def fuzzer_parser(description: str | None, *, minutes: float = 1e6) -> argparse.ArgumentParser:
    """A parser with a random seed, and so many minutes to run at the most; what is printed shows at once."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=int.from_bytes(np.random.bytes(4), "little"))
    parser.add_argument("--minutes", type=float, default=minutes)
    return parser
