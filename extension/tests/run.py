"""Runs test files in the manner of sqllogictest: `run.py EXTENSION MODELS FILE...`.

A file is a list of records, an empty line between two of them. `#` starts a comment.

    statement ok                 query [rowsort]              statement error
    CREATE TABLE ...             SELECT 1, 'a'                SELECT skipml_score('nobody', 1)
                                 ----                         ----
                                 1<TAB>a                      a part of the message

Every file gets a connection of its own with the extension loaded. ${MODELS} is the folder of model files, ${COPY NAME}
one of them as a BLOB literal.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Record:
    """One statement or query, and what has to come of it."""

    line: int
    kind: str
    sql: str
    expected: list[str]


class MismatchError(Exception):
    """A record did not do what it has to."""


def records(text: str) -> list[Record]:
    """The records of a test file."""
    found = []
    for block in re.finditer(r"(?:[^\n]+(?:\n|$))+", text):
        first = text.count("\n", 0, block.start()) + 1
        lines = [line for line in block.group().splitlines() if not line.startswith("#")]
        if lines:
            split = lines.index("----") if "----" in lines else len(lines)
            found.append(Record(first, lines[0], "\n".join(lines[1:split]), lines[split + 1 :]))
    return found


def shown(value: object) -> str:
    """A value as test files write it."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def check(con: duckdb.DuckDBPyConnection, record: Record, sql: str) -> None:
    """Runs one record. Raises MismatchError."""
    try:
        rows = ["\t".join(map(shown, row)) for row in con.execute(sql).fetchall()]
    except duckdb.Error as error:
        if record.kind != "statement error":
            raise MismatchError(f"failed: {error}") from error
        if record.expected[0] not in str(error):
            raise MismatchError(f"another error: {error}") from error
        return
    if record.kind == "statement error":
        raise MismatchError("did not fail")
    expected = record.expected
    if record.kind == "query rowsort":
        rows, expected = sorted(rows), sorted(expected)
    if record.kind.startswith("query") and rows != expected:
        raise MismatchError("answered\n" + "\n".join(rows))


def run(path: Path, extension: str, models: Path) -> int:
    """Runs a file and returns how many records it has."""
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    con.execute(f"LOAD '{extension}'")
    done = records(path.read_text())
    for record in done:
        sql = re.sub(r"\$\{COPY (\w+)\}", lambda m: literal((models / f"{m[1]}.model").read_bytes()), record.sql)
        try:
            check(con, record, sql.replace("${MODELS}", str(models)))
        except MismatchError as error:
            sys.exit(f"{path}:{record.line}: {error}")
    con.close()
    return len(done)


def literal(content: bytes) -> str:
    """Bytes as a BLOB literal of SQL."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in content) + "'::BLOB"


def main(extension: str, models: str, *files: str) -> None:
    """Runs every file, and stops at the first record that does not do what it has to."""
    count = sum(run(Path(file), extension, Path(models)) for file in files)
    sys.stdout.write(f"DuckDB {duckdb.__version__}: {count} records of {len(files)} files\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
