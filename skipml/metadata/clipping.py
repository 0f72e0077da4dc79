"""Convex polygons in the plane, clipped by half-planes."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def clip(polygon: list[Point], normal: Sequence[float], offset: float) -> list[Point]:
    """The part of a convex polygon where normal . x <= offset, in the same order (Sutherland and Hodgman, Reentrant
    polygon clipping, 1974).
    """
    outside = [normal[0] * x + normal[1] * y - offset for x, y in polygon]
    kept: list[Point] = []
    for i, (x, y) in enumerate(polygon):
        before, here = outside[i - 1], outside[i]
        if min(before, here) < 0 < max(before, here):
            share = before / (before - here)
            last = polygon[i - 1]
            kept.append((last[0] + share * (x - last[0]), last[1] + share * (y - last[1])))
        if here <= 0:
            kept.append((x, y))
    return kept
