"""Column types and the values that break readers, laid out so that every row group holds another mixture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tests.writers import ROW_GROUP_ROWS

INF, NAN = float("inf"), float("nan")

NASTY: Mapping[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "boolean": (pa.bool_(), [False, True], [True]),
    "int8": (pa.int8(), [1, 2], [-(2**7), 2**7 - 1]),
    "uint8": (pa.uint8(), [1, 2], [0, 2**8 - 1]),
    "int16": (pa.int16(), [1, 2], [-(2**15), 2**15 - 1]),
    "uint16": (pa.uint16(), [1, 2], [0, 2**16 - 1]),
    "int32": (pa.int32(), [1, 2], [-(2**31), 2**31 - 1]),
    "uint32": (pa.uint32(), [1, 2], [0, 2**32 - 1]),
    "int64": (pa.int64(), [2**53 + 1, 2**53 - 1], [-(2**63), 2**63 - 1, -(2**53) - 1]),
    "uint64": (pa.uint64(), [2**53 + 1, 2**53 - 1], [0, 2**64 - 1, 2**63 + 1]),
    "half": (pa.float16(), [1.5, -0.0], [65504.0, -INF, INF, NAN, 6e-8]),
    "float": (pa.float32(), [0.1, -0.0], [3.4e38, -INF, INF, NAN, 1e-45]),
    "float_nan": (pa.float32(), [0.1, NAN], [NAN]),
    "double": (pa.float64(), [0.1, 0.0], [1.7e308, -1.7e308, 5e-324, -0.0]),
    "double_inf": (pa.float64(), [-INF, 1.0], [INF]),
    "double_nan": (pa.float64(), [NAN, 1.0], [-INF, NAN, 5.0]),
    "decimal4": (pa.decimal128(4, 1), [Decimal("0.1")], [Decimal("-999.9"), Decimal("999.9")]),
    "decimal18": (
        pa.decimal128(18, 2),
        [Decimal("0.07")],
        [Decimal(10**18 - 1).scaleb(-2), Decimal(1 - 10**18).scaleb(-2)],
    ),
    "decimal38": (pa.decimal128(38, 0), [Decimal(2**53 + 1)], [Decimal("9" * 38), Decimal("-" + "9" * 38)]),
    "decimal38_38": (
        pa.decimal128(38, 38),
        [Decimal("0.1")],
        [Decimal("0." + "9" * 38), Decimal("-0." + "9" * 37 + "7")],
    ),
    "date": (pa.date32(), [0, 19000], [-700_000, 700_000]),
    "far_date": (pa.date32(), [-(2**31) + 10**6, 0], [2**31 - 2]),
    "timestamp_s": (pa.timestamp("s"), [1, 1_700_000_000], [-(10**10), 10**11]),
    "timestamp_ms": (pa.timestamp("ms"), [1, 1_700_000_000_001], [-(10**13) - 1, 576_460_752_305_000]),
    "timestamp_us": (pa.timestamp("us"), [1, 1_700_000_000_000_001], [-(10**16) - 1, 2**62 + 1]),
    "timestamp_ns": (pa.timestamp("ns"), [1, 1_700_000_000_000_000_001], [-(2**62) - 1, 2**62 + 1, -1]),
    "timestamp_us_utc": (pa.timestamp("us", "UTC"), [1, 1_700_000_000_000_001], [-(10**16) - 1, 2**62 + 1, -1]),
    "timestamp_ns_utc": (pa.timestamp("ns", "UTC"), [1, 1_700_000_000_000_000_001], [-(2**62) - 1, 2**62 + 1, -1]),
    "time_ms": (pa.time32("ms"), [1, 2], [0, 86_399_999]),
    "time_us": (pa.time64("us"), [1, 2], [0, 86_399_999_999]),
    "time_ns": (pa.time64("ns"), [1, 2], [0, 86_399_999_999_999]),
}


def nasty_array(name: str, values: list[Any]) -> pa.Array:
    kind = NASTY[name][0]
    if kind == pa.float16():
        return pa.array([None if value is None else np.float16(value) for value in values], kind)
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    return pa.array(values, kind)


def nasty_table(name: str) -> pa.Table:
    """One column `x` of the type, a row group for each mixture."""
    _, ordinary, extreme = NASTY[name]
    mixtures = [ordinary, [*ordinary, None], [None], extreme, [None, *extreme], [ordinary[0]], [extreme[-1]]]
    rows = [list(itertools.islice(itertools.cycle(mixture), ROW_GROUP_ROWS)) for mixture in mixtures]
    return pa.table({"x": nasty_array(name, list(itertools.chain.from_iterable(rows)))})
