"""Gap lists have the documented bytes, and other bytes stand for all cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.metadata import gaps
from skipml.metadata.runs import Runs


def written(runs: list[int], orders: tuple[int, int], exponent: int, size: int) -> list[int] | None:
    """The bytes of occupied and free runs in turn, from the documentation; None where they are too many."""
    numbers = [run - 1 + (1 << orders[i % 2]) for i, run in enumerate(runs)]
    suffixes = "".join(f"{number:b}"[1:] for number in numbers)
    prefixes = "".join("0" * (len(f"{n:b}") - 1 - orders[i % 2]) + "1" for i, n in enumerate(numbers))
    width = len(f"{8 * size - 1:b}")
    bits = f"1{exponent:04b}{orders[0]:03b}{orders[1]:03b}" + f"{len(suffixes):0{width}b}" + suffixes + prefixes
    if len(bits) > 8 * size:
        return None
    return [int(bits.ljust(8 * size, "0")[i : i + 8], 2) for i in range(0, 8 * size, 8)]


def read(payload: list[int]) -> tuple[int, list[list[int]]]:
    """The cells, and where occupied runs start and end, from the documentation; all cells of bytes that make no sense;
    the first start and the last end are 0 and -1.
    """
    size = len(payload)
    bits = "".join(f"{byte:08b}" for byte in payload)
    nothing = 16 * size, [[0, -1]]
    cells = 16 * size << int(bits[1:5], 2)
    orders, width = (int(bits[5:8], 2), int(bits[8:11], 2)), len(f"{8 * size - 1:b}")
    begin = 11 + width
    n_suffix = int(bits[11:begin], 2)
    if begin + n_suffix > 8 * size or cells > 2**24:
        return nothing
    zeros = [len(part) for part in bits[begin + n_suffix :].split("1")[:-1]]
    if len(zeros) % 2:
        return nothing
    lengths = [zero + orders[i % 2] for i, zero in enumerate(zeros)]
    if sum(lengths) != n_suffix or max(lengths, default=0) > 24:
        return nothing
    edges, at = [0], begin
    for i, length in enumerate(lengths):
        edges.append(edges[-1] + int("1" + bits[at : at + length], 2) - (1 << orders[i % 2]) + 1)
        at += length
    edges.append(-1)
    if len(edges) > 2 and edges[-2] >= cells:
        return nothing
    return cells, [edges[i : i + 2] for i in range(0, len(edges), 2)]


def found(payloads: list[list[int]]) -> list[tuple[int, list[list[int]]]]:
    runs: Runs = gaps.decode(np.array(payloads, np.uint8))
    ends = np.cumsum(runs.count)
    assert len(runs.edges) == ends[-1]
    blocks = [runs.edges[end - n : end].tolist() for end, n in zip(ends.tolist(), runs.count.tolist(), strict=True)]
    for block in blocks:
        block[0][0], block[-1][1] = 0, -1
    return list(zip(runs.cells.tolist(), blocks, strict=True))


@st.composite
def lists(draw: st.DrawFn, size: int) -> list[int]:
    """The bytes of a list, mostly of one that makes sense."""
    exponent = draw(st.integers(0, gaps.finest(size)))
    orders = draw(st.integers(0, 7)), draw(st.integers(0, 7))
    longest = draw(st.sampled_from([1, 2, 9, 300, 2**20]))
    runs: list[int] = []
    payload = written(runs, orders, exponent, size) or []
    for _ in range(draw(st.integers(0, 3 * size))):
        runs += [draw(st.integers(1, longest)), draw(st.integers(1, longest))]
        more = written(runs, orders, exponent, size)
        if more is None or sum(runs) >= gaps.cells(size, exponent):
            break
        payload = more
    return payload


@st.composite
def damaged(draw: st.DrawFn, size: int) -> list[int]:
    """A list, or one with a few bits changed, or any bytes of which the first bit is set."""
    kind = draw(st.sampled_from(["list", "list", "changed", "any"]))
    if kind == "any":
        payload = list(draw(st.binary(min_size=size, max_size=size)))
    else:
        payload = draw(lists(size))
    for _ in range(draw(st.integers(1, 3)) if kind == "changed" else 0):
        bit = draw(st.integers(1, 8 * size - 1))
        payload[bit // 8] ^= 0x80 >> bit % 8
    return [payload[0] | 0x80, *payload[1:]]


@given(st.data(), st.integers(4, 40), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_as_documented(data: st.DataObject, size: int, n: int) -> None:
    payloads = [data.draw(damaged(size)) for _ in range(n)]
    assert found(payloads) == [read(payload) for payload in payloads]


@given(st.data(), st.integers(4, 300))
@settings(max_examples=200, deadline=None)
def test_lists_are_written_as_documented(data: st.DataObject, size: int) -> None:
    exponent = data.draw(st.integers(0, gaps.finest(size)))
    longest = data.draw(st.sampled_from([1, 2, 9, 300, 2**20]))
    run = st.integers(1, longest)
    pairs = data.draw(st.lists(st.tuples(run, run), min_size=1, max_size=size))
    runs = np.array(pairs, np.int32).T
    bits, orders = gaps.n_bits(runs)
    flat = [length for pair in pairs for length in pair]
    every = [written(flat, (a, b), exponent, size) for a in range(8) for b in range(8)]
    if bits > gaps.capacity(size):
        assert every == [None] * 64
        return
    payload = gaps.encode(runs, orders, exponent, size).tolist()
    assert payload == written(flat, (orders[0], orders[1]), exponent, size)
    if sum(flat) < gaps.cells(size, exponent):
        edges = np.cumsum([0, *flat]).tolist()
        edges.append(-1)
        expected = [edges[i : i + 2] for i in range(0, len(edges), 2)]
        assert found([payload]) == [(gaps.cells(size, exponent), expected)]


@pytest.mark.parametrize("size", [4, 5, 31, 32, 33, 255, 256, 257, 2048, 2**18])
def test_the_finest_cells_can_be_counted(size: int) -> None:
    cells = gaps.cells(size, gaps.finest(size))
    assert cells <= 2**24
    runs = np.array([[cells // 2], [cells - cells // 2 - 1]], np.int32)
    bits, orders = gaps.n_bits(runs)
    if bits > gaps.capacity(size):
        return
    payload = gaps.encode(runs, orders, gaps.finest(size), size).tolist()
    assert found([payload]) == [(cells, [[0, cells // 2], [cells - 1, -1]])]


def test_an_example() -> None:
    runs = np.array([[1, 2], [5, 40]], np.int32)
    assert gaps.n_bits(runs) == (16, [0, 3])
    payload = gaps.encode(runs, [0, 3], 1, 8).tolist()
    numbers = [1, 0b1100, 0b10, 0b101111]
    assert numbers == [1 - 1 + 1, 5 - 1 + 8, 2 - 1 + 1, 40 - 1 + 8]
    bits = "1" + "0001" + "000" + "011" + f"{9:06b}" + "100" + "0" + "01111" + "1" + "1" + "01" + "001"
    assert "".join(f"{byte:08b}" for byte in payload) == bits.ljust(64, "0")
    assert found([payload]) == [(256, [[0, 1], [6, 8], [48, -1]])]
