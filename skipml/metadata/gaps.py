"""Gap lists: the widest of the ranges between the scores of a block that hold none, to a fine resolution.

The range between the limits is cut into C cells, of which runs alternate: occupied, free, occupied, ..., occupied. All
but the last are stored by their lengths, less 1, as exponential Golomb codes: v of order o as the number v + 2 ** o,
whose L + 1 bits are a one and L others. The L others are the suffix; the prefix is L - o zeros and a one.

    bits of a payload of `size` bytes, the most significant of byte 0 first
         1  1
         4  c: there are C = 16 * size * 2 ** c cells, at most 2 ** 24
         3  order of the codes of occupied runs
         3  order of the codes of free runs
         w  number of bits of all suffixes; w is the number of bits of 8 * size - 1
            suffixes, each the most significant bit first
            prefixes: the only ones from here on
            zeros

A free run does not contain its edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.runs import Runs

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

SMALLEST, LARGEST = 4, 1 << 18
"""Bytes of a payload that can be a list."""
_CELL_BITS, _ORDER_BITS = 4, 3
_ORDERS = np.arange(1 << _ORDER_BITS, dtype=np.int32)[:, None, None]
_UNITS = (1 << _ORDERS).astype(np.float32) - 1
_LONGEST = 24
"""Bits of a suffix: with what precedes them in a byte they fit into a window."""
_WINDOW = 32
"""Bits read at once; a header has no more."""
_MANTISSA, _BIAS = 23, 127
"""Of float32, in which numbers below 2 ** 24 are exact."""
_REST = 1 - 2 * _BIAS - _ORDERS[:, :, 0]
"""What a code of each order takes beside twice the biased exponent of its number."""


def cells(size: int, exponent: int) -> int:
    """Of the lists of `size` bytes with that c."""
    return 16 * size << exponent


def finest(size: int) -> int:
    """The largest c."""
    return min(_LONGEST - (16 * size - 1).bit_length(), (1 << _CELL_BITS) - 1)


def n_bits(runs: NDArray[np.int32]) -> tuple[int, list[int]]:
    """What occupied and free runs [2, K] take in a payload, and the orders of their codes for which that is least."""
    number = runs.astype(np.float32) + _UNITS
    exponents = (number.view(np.int32) >> _MANTISSA).sum(axis=2, dtype=np.int32)
    bits = 2 * exponents + runs.shape[1] * _REST
    occupied, free = bits.T.tolist()
    return min(occupied) + min(free), [occupied.index(min(occupied)), free.index(min(free))]


def capacity(size: int) -> int:
    """Bits that a payload has for codes."""
    return 8 * size - _header_bits(size)


def encode(runs: NDArray[np.int32], orders: Sequence[int], exponent: int, size: int) -> Payload:
    """The payload [size] of occupied and free runs [2, K] that fit into it in codes of these orders, among the cells of
    that c.
    """
    numbers = runs - 1
    numbers[0] += 1 << orders[0]
    numbers[1] += 1 << orders[1]
    length = np.frexp(numbers.astype(np.float64))[1] - 1
    prefix = length + 1
    prefix[0] -= orders[0]
    prefix[1] -= orders[1]
    length, numbers = length.T.ravel(), numbers.T.ravel()
    suffixes = length.cumsum()
    n_suffix, header = int(suffixes[-1]), _header_bits(size)
    bits = np.zeros(8 * size, np.uint8)
    below = np.repeat(suffixes, length) - np.arange(1, n_suffix + 1)
    bits[header : header + n_suffix] = np.repeat(numbers, length) >> below & 1
    bits[header + n_suffix - 1 + prefix.T.ravel().cumsum()] = 1
    payload = np.packbits(bits)
    first = ((1 << _CELL_BITS | exponent) << _ORDER_BITS | orders[0]) << _ORDER_BITS | orders[1]
    first = (first << _length_bits(size) | n_suffix) << _WINDOW - header
    payload[: _WINDOW // 8] |= np.frombuffer(first.to_bytes(_WINDOW // 8, "big"), np.uint8)
    return payload


def _length_bits(size: int) -> int:
    return (8 * size - 1).bit_length()


def _header_bits(size: int) -> int:
    """Before the suffixes."""
    return 1 + _CELL_BITS + 2 * _ORDER_BITS + _length_bits(size)


def decode(payloads: Payload) -> Runs:
    """The runs of cells of N lists [N, size] in which a score may lie; all cells where the bytes make no sense."""
    size = payloads.shape[1]
    header_bits, length_bits = _header_bits(size), _length_bits(size)
    windows = _windows(payloads)
    header = (windows[:, 0] >> (_WINDOW - header_bits)).astype(np.int64)
    n_suffix = header & (1 << length_bits) - 1
    header >>= length_bits
    n_cells = 16 * size << (header >> 2 * _ORDER_BITS & 15)
    begin = header_bits + n_suffix
    ones, count = _prefixes(payloads, np.minimum(begin, 8 * size))
    fine = (begin <= 8 * size) & (count % 2 == 0) & (n_cells <= 1 << _LONGEST)
    if not fine.all():
        return decode(_without(payloads, ~fine))
    order = np.empty((len(header), 2), np.int32)
    order[:, 0], order[:, 1] = header & 7, header >> _ORDER_BITS & 7  # of each free run and the occupied one behind it
    count //= 2
    orders = np.repeat(order.view(np.int64).ravel(), count).view(np.int32)
    last = 2 * np.cumsum(count) - 1
    first = last - 2 * count + 1
    length, found = _lengths_of(ones, orders, first, last)
    if not (found == n_suffix).all() or length.max(initial=0) > _LONGEST:
        fine = (found == n_suffix) & (np.maximum.reduceat(length, first) <= _LONGEST)
        return decode(_without(payloads, ~fine))
    start = header_bits + 8 * size * np.arange(len(header))
    run = _numbers(windows, length, first, start, found)
    run -= np.left_shift(1, orders, dtype=np.int32)
    run += 1
    run[first] = run[last] = 0
    total = np.add.reduceat(run, first, dtype=np.int64)
    if not (total < n_cells).all():
        return decode(_without(payloads, total >= n_cells))
    run[first[1:]] -= total[:-1].astype(np.int32)
    return Runs(n_cells, count, np.cumsum(run, out=run).reshape(-1, 2))


def _without(payloads: Payload, unusable: Bools) -> Payload:
    """The lists with empty ones in place of some."""
    empty = np.zeros(payloads.shape[1], np.uint8)
    empty[0] = 0x80
    return np.where(unusable[:, None], empty, payloads)


def _windows(payloads: Payload) -> NDArray[np.uint32]:
    """At each byte [N, size] the 32 bits from there on."""
    n, size = payloads.shape
    padded = np.zeros((n, size + 3), np.uint8)
    padded[:, :size] = payloads
    windows = padded[:, :size].astype(np.uint32)
    for k in (1, 2, 3):
        windows <<= 8
        windows |= padded[:, k : size + k]
    return windows


def _prefixes(payloads: Payload, begin: Integers) -> tuple[Integers, Integers]:
    """Where ones are in the prefixes, which begin at bit `begin` [N], and how many there are of each payload [N]; one
    right before them and one behind the payload are counted.
    """
    n, size = payloads.shape
    byte, bit = begin - 1 >> 3, begin - 1 & 7
    block = np.arange(n)
    bits = np.empty((n, size + 1), np.uint8)
    np.multiply(payloads, np.arange(size) > byte[:, None], out=bits[:, :size])
    bits[block, byte] = payloads[block, byte] & 0x7F >> bit | 0x80 >> bit
    bits[:, size] = 0x80
    return np.flatnonzero(np.unpackbits(bits).view(np.bool_)), np.bitwise_count(bits).sum(axis=1, dtype=np.int64)


def _lengths_of(
    ones: Integers, orders: NDArray[np.int32], first: Integers, last: Integers
) -> tuple[NDArray[np.int32], Integers]:
    """Of the suffixes, from where the ones of the prefixes are, and their sum in each block [N]; each block has a place
    before its numbers and one behind.
    """
    length = np.empty(len(ones), np.int32)
    np.subtract(ones[1:], ones[:-1], out=length[1:], casting="same_kind")
    length += orders
    length -= 1
    length[first] = length[last] = 0
    return length, np.add.reduceat(length, first, dtype=np.int64)


def _numbers(
    windows: NDArray[np.uint32], length: NDArray[np.int32], first: Integers, start: Integers, n_bits: Integers
) -> NDArray[np.int32]:
    """What each suffix is of, where those of each block start at bit `start` [N] of all and take `n_bits` [N]."""
    at = np.empty(len(length), np.int64)
    at[1:] = length[:-1]
    at[first] = start
    at[first[1:]] -= start[:-1] + n_bits[:-1]
    np.cumsum(at, out=at)
    number = windows.ravel().take(at >> 3, mode="clip")
    at &= 7
    number <<= at.astype(np.uint32)
    number >>= (_WINDOW - length).astype(np.uint32)
    found = number.view(np.int32)
    found |= np.left_shift(1, length, dtype=np.int32)
    return found
