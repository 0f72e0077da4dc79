"""Size-bounded convex hulls: per column pair and block the tightest convex polygon that a fixed number of bytes can
hold beside the block's minimum and maximum.

The bounding box of the rows is cut to the unit square (`to_unit`). Its four sides are touched by rows, so every other
edge of their hull cuts off exactly one corner, and is given by two numbers: how far from the corner it meets the two
sides there, `a` along the first column and `b` along the second. Making either smaller only gives back area, so
rounding both down keeps every row. Fine steps are needed near 0 (rows that nearly fill their box leave slivers), so
level i of a number with w bits is (i / (2**w - 1))**3.

    payload    code: 1 byte (2, little-endian, of 45), then the cuts, most significant bit first, then zero bits
    code       forms and corner counts, numbered: for each form of the size (`_FORMS`: cuts, bits) in order, all ways
               in lexicographic order to divide its cuts among the corners (0, 0), (1, 0), (0, 1), (1, 1)
    cut        level of a, level of b; 0 in either is no cut. Cuts come corner by corner

A payload of 4 bytes is that of `skipml.metadata.diagonals`, one cut with a = b per corner, far cheaper to build.

Zero bytes are a hull without a cut: the box. Which edges to keep is found by dynamic programming over cuts whose
numbers are already rounded (Aggarwal, Chang and Yap, Minimum area circumscribing polygons, 1985, for unrounded ones).

What a consumer may rely on: for every row x of the block, with u = to_unit(x, lower, upper) in float64 and for the real
number too, normal . u <= offset holds in real numbers and when evaluated in float64 in any order. `lower` and `upper`
must be those of `build`, bit for bit. Rows may lie 2**-46 outside of the cuts as stored; `decode` adds 2**-44 to the
offsets, which covers that and every rounding on the way (all of the order of 2**-50).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.errors import EnrichmentError
from skipml.metadata import diagonals
from skipml.metadata.clipping import Point, clip

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

_SLACK = 2.0**-44
_TOLERANCE = 2.0**-49
"""Rows this far from a line count as on it; `to_unit` and the distances from a corner are off by less."""
_ROUNDING = 1e-9
"""Relative; only areas depend on it."""
_SIGNIFICANT = 1e-7
"""Twice the area between an edge and the next from which on they count as two."""
_LARGE = 2.0**1000
_DEPTH = 4
"""Up to 2**4 hull edges per corner are told apart."""
_SQUARE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to fill a payload; `first` is its first code, `counts` [n, 4] the cuts per corner of its codes."""

    cuts: int
    bits: int
    first: int
    counts: Integers

    @property
    def highest(self) -> int:
        return (1 << self.bits) - 1

    def level(self, index: ArrayLike) -> Floats:
        share = np.asarray(index, dtype=np.float64) / self.highest
        return share * share * share

    def floor(self, values: Floats) -> Integers:
        """The highest level not above each value in [0, 1]."""
        index: Floats = np.floor(np.cbrt(values) * self.highest) + 1
        for _ in range(2):
            index = index - (self.level(index) > values)
        return index.astype(np.int64)


def _forms(*shapes: tuple[int, int]) -> tuple[_Form, ...]:
    forms: list[_Form] = []
    first = 0
    for cuts, bits in shapes:
        counts = [c for c in itertools.product(range(cuts + 1), repeat=4) if sum(c) == cuts]
        forms.append(_Form(cuts, bits, first, np.array(counts)))
        first += len(counts)
    return tuple(forms)


_FORMS = {
    8: _forms((2, 14), (3, 9), (4, 7)),
    13: _forms((2, 24), (4, 12), (6, 8)),
    45: _forms((4, 43), (10, 17), (14, 12), (17, 10)),
}
SIZES = (diagonals.SIZE, *_FORMS)


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """The hull's edges that cut off a corner, in order, and the points they may not cut off."""

    meets: Floats
    """[E, 2]: how far from its corner an edge meets the two sides."""
    corner: Integers
    significant: int
    """How many there are if those that go on nearly straight are one."""
    points: Floats
    """[n, 2]: distances from the corner of the point's `owner` [n]."""
    owner: Integers


@dataclass(frozen=True, slots=True, eq=False)
class HalfPlanes:
    """Of N blocks, in coordinates of each one's unit square: normal . u <= offset for every row.

    Rows are padded with normal 0 and offset inf.
    """

    normal: Floats
    """[N, K, 2], each component at most 1 in magnitude."""
    offset: Floats
    """[N, K]."""


def to_unit(x: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Floats:
    """The place of finite x within [lower, upper], 0 to 1, off by less than 2**-51; 0 where the width is 0.

    Arguments broadcast. Halves before it subtracts where a difference could overflow.
    """
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    scale = np.where(np.maximum(-low, high) > _LARGE, 0.5, 1.0)
    start = low * scale
    width = high * scale - start
    unit: Floats = (np.asarray(x, dtype=np.float64) * scale - start) / np.where(width > 0, width, 1.0)
    return unit


def build(points: Floats, lower: Floats, upper: Floats, size: int) -> Payload:
    """The payload [size] of the smallest polygon found that contains every point.

    `points` [n, 2] are finite, `lower` and `upper` [2] contain them and should be their minimum and maximum (only edges
    that cut off a corner are stored). Raises EnrichmentError for a size that is not in SIZES.
    """
    if size not in SIZES:
        raise EnrichmentError(f"a hull cannot take {size} bytes; use {', '.join(map(str, SIZES))}")
    if not len(points) or not (upper > lower).all():
        return np.zeros(size, dtype=np.uint8)
    return _encode(to_unit(points[:, 0], lower[0], upper[0]), to_unit(points[:, 1], lower[1], upper[1]), size)


def decode(payloads: Payload) -> HalfPlanes:
    """The half-planes of the payloads [N, size], at most as many as the fullest block has; none for a payload that is
    not understood.
    """
    n, size = payloads.shape
    forms = _FORMS.get(size, ())
    most = max((form.cuts for form in forms), default=0)
    normal, offset = np.zeros((n, most, 2)), np.full((n, most), np.inf)
    if size == diagonals.SIZE:
        normal, offset = _half_planes(diagonals.reach(payloads), np.ones((n, 4), np.int64))
    for form in forms:
        codes = _codes(payloads) - form.first
        rows = np.flatnonzero((codes >= 0) & (codes < len(form.counts)))
        reach = form.level(_unpack(payloads[rows, _code_bytes(size) :], form))
        normal[rows, : form.cuts], offset[rows, : form.cuts] = _half_planes(reach, form.counts[codes[rows]])
    most = int(np.isfinite(offset).sum(axis=1).max(initial=0))
    order = np.argsort(np.isinf(offset), axis=1, kind="stable")[:, :most]
    return HalfPlanes(np.take_along_axis(normal, order[..., None], axis=1), np.take_along_axis(offset, order, axis=1))


def vertices(payload: Payload) -> Floats:
    """The corners [K, 2] of the decoded polygon, counter-clockwise, in the unit square."""
    return _polygons(payload[None])[0]


def merge(payloads: Payload, lower: Floats, upper: Floats, size: int) -> tuple[Payload, Floats, Floats]:
    """The hull of a union of blocks: its payload [size], lower [2] and upper [2].

    `payloads` [N, any size], `lower` and `upper` [N, 2] are the blocks', N at least 1. Sound because decoded
    polygons leave room of more than 2**-45 around the rows, which covers the rounding of their corners and of maps.
    """
    low, high = lower.min(axis=0), upper.max(axis=0)
    if not (high > low).all():
        return np.zeros(size, dtype=np.uint8), low, high
    start, end = to_unit(lower, low, high), to_unit(upper, low, high)
    polygons = zip(_polygons(payloads), start, end, strict=True)
    x, y = np.concatenate([a + polygon * (b - a) for polygon, a, b in polygons]).T
    return _encode(x, y, size), low, high


def _code_bytes(size: int) -> int:
    return 2 if size == 45 else 1


def _codes(payloads: Payload) -> Integers:
    codes = payloads[:, : _code_bytes(payloads.shape[1])].astype(np.int64)
    return codes @ (256 ** np.arange(codes.shape[1]))


def _unpack(body: Payload, form: _Form) -> Floats:
    """The numbers [N, cuts, 2] of the cuts; float64 holds them exactly and multiplies faster."""
    bits = np.unpackbits(body, axis=1, count=form.cuts * 2 * form.bits).astype(np.float64)
    numbers: Floats = bits.reshape(-1, form.bits) @ 2.0 ** np.arange(form.bits)[::-1]
    return numbers.reshape(len(body), form.cuts, 2)


def _pack(form: _Form, numbers: Integers, counts: Integers, size: int) -> Payload:
    """The cuts [m, 2], `counts` [4] per corner; what is left of the form goes to the last corner."""
    counts[-1] += form.cuts - len(numbers)
    body, head = 0, _code_bytes(size)
    for number in numbers.ravel().tolist():
        body = body << form.bits | number
    body <<= 8 * (size - head) - form.bits * numbers.size
    code = form.first + int(np.flatnonzero((form.counts == counts).all(axis=1))[0])
    data = code.to_bytes(head, "little") + body.to_bytes(size - head, "big")
    return np.frombuffer(data, dtype=np.uint8).copy()


def _half_planes(reach: Floats, counts: Integers) -> tuple[Floats, Floats]:
    """Normals [N, cuts, 2] and offsets [N, cuts] of cuts of `reach` [N, cuts, 2], `counts` [N, 4] per corner.

    In the distances s, t from its corner a cut is b s + a t >= a b; divided by the larger of a and b.
    """
    corner = (np.arange(reach.shape[1])[:, None] >= counts.cumsum(axis=1)[:, None, :3]).sum(axis=2)
    far = np.array(_CORNERS, dtype=np.float64)[corner]
    nearer = reach.min(axis=2)
    slope = reach[..., ::-1] / np.maximum(reach.max(axis=2), np.finfo(np.float64).tiny)[..., None]
    normal = np.where(far > 0, slope, -slope)
    offset = (far * slope).sum(axis=2) - nearer + _SLACK
    cut = nearer > 0
    return np.where(cut[..., None], normal, 0.0), np.where(cut, offset, np.inf)


def _polygons(payloads: Payload) -> list[Floats]:
    """What the half-planes of each payload leave of the unit square; the square if that is nothing."""
    planes = decode(payloads)
    polygons = []
    for normals, offsets in zip(planes.normal.tolist(), planes.offset.tolist(), strict=True):
        polygon = _SQUARE
        for normal, offset in zip(normals, offsets, strict=True):
            polygon = clip(polygon, normal, offset) if offset < np.inf else polygon
        polygons.append(np.array(polygon or _SQUARE))
    return polygons


def _encode(x: Floats, y: Floats, size: int) -> Payload:
    """The best payload among the forms just above and below the number of edges that matter."""
    if size == diagonals.SIZE:
        return diagonals.encode(x, y)
    near = ((x, y), (1 - x, 1 - y))
    edges = _edges([_chain(near[right][0] + _TOLERANCE, near[top][1] + _TOLERANCE) for right, top in _CORNERS])
    forms = _FORMS[size]
    last = next((i for i, form in enumerate(forms) if form.cuts >= edges.significant), len(forms) - 1)
    best, payload = 0.0, np.zeros(size, dtype=np.uint8)
    for form in forms[max(last - 1, 0) : last + 1]:
        numbers, corner = _candidates(edges, form)
        area, chosen = _choose(edges, form.level(numbers), corner, form.cuts)
        if area > best:
            best, payload = area, _pack(form, numbers[chosen], np.bincount(corner[chosen], minlength=4), size)
    return payload


def _chain(s: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Of the hull around points [n] at distances s, t from a corner: the vertices that face it, in order, and points
    whose hull is that chain (the same, unless it has very many).

    Quickhull (Barber, Dobkin and Huhdanpaa, 1996) between the points that touch the two sides.
    """
    bottom, left = float(t.min()), float(s.min())
    p, q = (float(s[t == bottom].min()), bottom), (left, float(t[s == left].min()))
    unresolved: list[Point] = []
    found = [p, *_beyond(s, t, (p, q), _DEPTH, unresolved), q]
    return np.array(found), np.array(found + unresolved)


def _beyond(s: Floats, t: Floats, edge: tuple[Point, Point], depth: int, unresolved: list[Point]) -> list[Point]:
    """The hull's vertices beyond an edge, in order. Where the depth is used up, two points that bound the rest go to
    `unresolved`: the ends of the edge moved beyond it.

    Sound because a point that is dropped is at most _TOLERANCE beyond the edge, and but for rounding none beyond the
    edge is nearer to a side than both of its ends.
    """
    (ps, pt), (qs, qt) = edge
    across, up = ps - qs, qt - pt
    if across <= 0 or up <= 0:
        return []
    height = (up * ps + across * pt) - up * s - across * t
    beyond = np.flatnonzero(height > _TOLERANCE * (across + up))
    if not len(beyond):
        return []
    height = height[beyond]
    top = height.argmax()
    if not depth:
        share = min(float(height[top]) / (across * up), 1.0)
        unresolved += [(ps - share * across, pt), (qs, qt - share * up)]
        return []
    s, t = s[beyond], t[beyond]
    middle = (float(s[top]), float(t[top]))
    before = _beyond(s, t, (edge[0], middle), depth - 1, unresolved)
    return [*before, middle, *_beyond(s, t, (middle, edge[1]), depth - 1, unresolved)]


def _edges(chains: Sequence[tuple[Floats, Floats]]) -> _Edges:
    start = np.concatenate([vertices[:-1] for vertices, _ in chains])
    step = np.concatenate([np.diff(vertices, axis=0) for vertices, _ in chains])
    corner = np.repeat(np.arange(4), [len(vertices) - 1 for vertices, _ in chains])
    cuts = (step[:, 0] < 0) & (step[:, 1] > 0)
    start, step, corner = start[cuts], step[cuts], corner[cuts]
    turns = np.abs(step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]) > _SIGNIFICANT
    return _Edges(
        meets=np.minimum(start - start[:, ::-1] * step / step[:, ::-1], 1.0),
        corner=corner,
        significant=int(min(len(corner), 1) + np.count_nonzero(turns | (corner[:-1] != corner[1:]))),
        points=np.concatenate([points for _, points in chains]),
        owner=np.repeat(np.arange(4), [len(points) for _, points in chains]),
    )


def _candidates(edges: _Edges, form: _Form) -> tuple[Integers, Integers]:
    """Numbers [C, 2] and corners [C] of cuts that lie close to an edge, in order of corner and direction.

    Each edge is turned a little, so that it meets one side at the level below or above, and moved back onto the chain.
    """
    low = form.floor(edges.meets)
    near, corner = np.concatenate([low, np.minimum(low + 1, form.highest)]), np.tile(edges.corner, 2)
    other = form.floor(_tangents(edges, form.level(near), corner))
    numbers = np.concatenate([np.stack([near[:, 0], other[:, 0]], axis=1), np.stack([other[:, 1], near[:, 1]], axis=1)])
    reach, corner = form.level(numbers), np.tile(corner, 2)
    cuts = np.flatnonzero((numbers > 0).all(axis=1))
    order = cuts[np.lexsort((reach[cuts, 1] / reach[cuts, 0], corner[cuts]))]
    return numbers[order], corner[order]


def _tangents(edges: _Edges, reach: Floats, corner: Integers) -> Floats:
    """How far from its corner a cut that takes no point may meet the other side, at most 1, if it meets one side at
    `reach`; for each side, reach and result [C, 2].

    Sound because a point beyond the cut would have s / a + t / b < 1; those with s >= a cannot.
    """
    mine = (edges.owner[:, None] == corner)[..., None]
    s, t = edges.points[:, None, :], edges.points[:, None, ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        other = np.where(mine & (s < reach), t / (1 - s / reach), 1.0)
    nearest: Floats = other.min(axis=0, initial=1.0)
    return nearest


def _choose(edges: _Edges, reach: Floats, corner: Integers, cuts: int) -> tuple[float, list[int]]:
    """Twice the largest area that this many of the cuts `reach` [C, 2] take together, and which these are, in order."""
    if not len(reach):
        return 0.0, []
    first, between, last = _areas(edges, reach, corner)
    best, area, back, ends = first, 0.0, list[Integers](), list[int]()
    for _ in range(cuts):
        ends.append(int((best + last).argmax()))
        total = float(best[ends[-1]] + last[ends[-1]])
        if total <= area * (1 + 1e-9):
            ends.pop()
            break
        area = total
        sums = best + between
        back.append(sums.argmax(axis=1))
        best = sums[np.arange(len(sums)), back[-1]]
    chosen = ends[-1:]
    for before in reversed(back[: len(ends) - 1]):
        chosen.append(int(before[chosen[-1]]))
    return area, chosen[::-1]


def _areas(edges: _Edges, reach: Floats, corner: Integers) -> tuple[Floats, Floats, Floats]:
    """Twice the area that cuts take: before their R [C], with each earlier cut between both R [C, C], after R [C].

    R is the point of the cut nearest to the chain. Between are the triangles of the corner, one R, and the intersection
    X of the two cuts; -inf where X is not between the R, so that the two are not neighbours.
    """
    a, b = reach.T
    distance = np.where(edges.owner[:, None] == corner, edges.points @ (1 / reach.T), np.inf)
    nearest = distance.argmin(axis=0)
    s, t = (edges.points[nearest] / distance[nearest, np.arange(len(a))][:, None]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = 1 / (np.outer(b, a) - np.outer(a, b))
        x, y = np.outer(a, a) * (b[:, None] - b) * turn, np.outer(b, b) * (a - a[:, None]) * turn
        left, right = x * t, y * s[:, None]
        before, after = y * s - left, x * t[:, None] - right
        in_order = (before >= -_ROUNDING * left) & (after >= -_ROUNDING * right)
        neighbours = (corner[:, None] == corner) & (turn > 0) & (x > 0) & (y > 0) & in_order
        between = np.where(neighbours, before + after, -np.inf)
    first, last = a * t, s * b
    return first, np.where(corner[:, None] > corner, first[:, None] + last, between), last
