"""Model files, footers and sidecars under libFuzzer, which follows the branches that they reach (needs `atheris`).

python -m tests.soundness.loaders --minutes 10 [--seed 1] [--what footer]

The extension reads model files of its own kind; those are fuzzed in C, by extension/tests/fuzz_model_file.c.
"""

from __future__ import annotations

import base64
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.soundness.command import fuzzer_parser

NAMES = ("model", "footer", "sidecar")
_SECONDS, _MEGABYTES = 10, 2048
"""What one input may take."""


def fuzz(name: str, seed: int, seconds: float) -> list[Path]:
    """Fuzz one kind in a process of its own -> the inputs stored that made something go wrong."""
    from tests.soundness.corpus import store  # imports skipml, which is instrumented first where it is fuzzed

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = [sys.executable, "-m", "tests.soundness.loaders", "--inside", name, "--minutes", str(seconds / 60)]
        start = perf_counter()
        command += ["--seed", str(seed), "--folder", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if "DONE" in line]
        print(f"{name}: seed {seed}, {lines[-1] if lines else 'nothing ran'}, {perf_counter() - start:,.0f} s")  # noqa: T201
        found = []
        for path in folder.glob("found-*"):
            content = {
                "what": name,
                "problem": done.stderr[-2000:],
                "data": base64.b64encode(path.read_bytes()).decode(),
            }
            found.append(store("loaders", content))
            print(f"stored as {found[-1]}:\n{done.stderr[-2000:]}")  # noqa: T201
        if done.returncode and not found:
            raise RuntimeError(f"{name}: the fuzzer failed: {done.stderr[-2000:]}")
        return found


def _inside(name: str, seed: int, seconds: float, folder: Path) -> None:
    """Run libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["skipml.models", "skipml.parquet", "skipml.metadata", "skipml.footers"]):
        from tests.soundness.loader_checks import CHECKS

    check, seeds = CHECKS[name]
    inputs = folder / "inputs"
    inputs.mkdir()
    for number, data in enumerate(seeds()):
        (inputs / str(number)).write_bytes(data)
    options = {
        "max_total_time": max(1, round(seconds)),
        "seed": seed % 2**32 or 1,
        "timeout": _SECONDS,
        "rss_limit_mb": _MEGABYTES,
        "max_len": 1 << 16,
        "artifact_prefix": f"{folder}/found-",
    }
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(inputs)], check)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    parser = fuzzer_parser(__doc__, minutes=10.0)
    parser.add_argument("--what", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--inside", choices=NAMES, help="be the process that fuzzes")
    parser.add_argument("--folder", type=Path, default=Path())
    given: Any = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("the loaders are not fuzzed: atheris is not installed (pip install 'skipml[fuzz]')")  # noqa: T201
        return 0
    if given.inside:
        _inside(given.inside, given.seed, 60 * given.minutes, given.folder)
    found = [fuzz(name, given.seed, 60 * given.minutes / len(given.what)) for name in given.what]
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
