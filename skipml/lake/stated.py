"""What a catalog states of one column of each file, as limits of model inputs.

Catalogs hold their limits in other types and with fewer digits than files do, so every limit is moved outward by what
may have been lost, and one that does not make sense is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.errors import SkipmlError
from skipml.features import column_inputs
from skipml.footers import ColumnStats

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_SINGLE_ULP = 2.0**-23
_ULPS = 2.0**-50
_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """One column over N files, arrays [N]; see `skipml.footers.ColumnStats`."""

    lower: Floats
    upper: Floats
    known: Bools
    all_null: Bools
    null_count: NDArray[np.int64]
    may_be_nan: Bools

    @classmethod
    def nothing(cls, n: int) -> Stated:
        """Nothing is known of n files."""
        no, yes = np.zeros(n, np.bool_), np.ones(n, np.bool_)
        return cls(np.full(n, -np.inf), np.full(n, np.inf), no, no.copy(), np.full(n, -1), yes)

    @classmethod
    def of(
        cls,
        minimum: pa.Array,
        maximum: pa.Array,
        counts: tuple[pa.Array, pa.Array, pa.Array | None],
        lost: float = 0.0,
    ) -> Stated:
        """From the least and the largest value, NULL where not stated, and the numbers of rows, of NULLs and of NaNs,
        likewise; `lost` is what may have been cut off a limit, as a model input.

        Sound because limits hold for all that is neither NULL nor NaN, a file of floats may hold NaN unless it is
        stated that it does not, and a column of NULL alone is one of whose rows all are stated to be NULL.
        """
        kind, n = minimum.type, len(minimum)
        try:
            low, no_low = column_inputs(minimum, "")
            high, no_high = column_inputs(maximum, "")
        except SkipmlError:  # no model input
            return cls.nothing(n)
        rows, nulls, nans = (_counts(array, n) for array in counts)
        room_low, room_high = _room(kind, low, lost), _room(kind, high, lost)
        usable = ~(no_low | no_high | np.isnan(low) | np.isnan(high)) & (low <= high)
        null_count = np.where((nulls >= 0) & ((rows < 0) | (nulls <= rows)), nulls, -1)
        all_null = (null_count == rows) & (rows >= 0) & no_low & no_high
        may_be_nan = (nans != 0) & ~all_null if pa.types.is_floating(kind) else np.zeros(n, np.bool_)
        lower, upper = np.where(usable, low - room_low, -np.inf), np.where(usable, high + room_high, np.inf)
        # a minimum of +0 may stand for -0, and a maximum of -0 for +0
        lower, upper = np.where(lower == 0, -0.0, lower), np.where(upper == 0, 0.0, upper)
        return cls(lower, upper, usable | all_null, all_null, null_count, may_be_nan)

    @classmethod
    def constant(cls, values: pa.Array) -> Stated:
        """Of a column that has one value in all rows of a file."""
        n = len(values)
        try:
            found, null = column_inputs(values, "")
        except SkipmlError:
            return cls.nothing(n)
        number = ~null & ~np.isnan(found)
        return cls(
            lower=np.where(number, found, -np.inf),
            upper=np.where(number, found, np.inf),
            known=number | null,
            all_null=null,
            null_count=np.where(null, -1, 0),
            may_be_nan=~null & np.isnan(found),
        )

    def stats(self) -> ColumnStats:
        """The same as the limits of blocks."""
        n = len(self.lower)
        return ColumnStats(
            sql_type="",
            lower=self.lower,
            upper=self.upper,
            known=self.known,
            all_null=self.all_null,
            null_count=self.null_count,
            may_be_nan=self.may_be_nan,
            missing=np.zeros(n, np.bool_),
            reason=np.full(n, "", object),
        )


def _counts(array: pa.Array | None, n: int) -> NDArray[np.int64]:
    """Numbers, -1 where they are not stated."""
    if array is None:
        return np.full(n, -1)
    return np.asarray(array.cast(pa.int64()).fill_null(-1), np.int64)


def _room(kind: pa.DataType, limit: Floats, lost: float) -> Floats:
    """By how much a stated limit may lie inside of the rows' model inputs.

    Sound because integers and dates are stated as they are, floats and decimals to the precision of their type or of a
    double, and times to `lost`.
    """
    size = np.where(np.isfinite(limit), np.abs(limit), 0.0)
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return size * _SINGLE_ULP + 2.0**-149
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date(kind):
        return np.where(size > 2**53, size * _ULPS, 0.0)
    if pa.types.is_decimal(kind):
        return np.asarray(size * _ULPS + 10.0**-kind.scale)
    if pa.types.is_floating(kind):
        return size * _ULPS
    return np.asarray(size * _ULPS + _MICROSECOND + lost)
