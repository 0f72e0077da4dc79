"""Unsound variants of the compiled bounds: a file, a text in it, and what stands there instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CompiledVariant:
    """`rule` is what the replaced text upholds; the battery named must find it broken."""

    battery: str
    rule: str
    file: str
    old: str
    new: str


_SPANS, _INTERVAL, _CROWN, _BOXES = "spans.h", "interval.c", "crown.c", "boxes.c"

COMPILED_VARIANTS = [
    CompiledVariant("passes", "inputs are cast first", _SPANS, "(double)(float)from[i]", "from[i]"),
    CompiledVariant(
        "bounds",
        "values beyond the largest float overflow",
        _INTERVAL,
        "finite &= largest * step->growth + step->offset <= b->limit; // false for NaN",
        "",
    ),
    CompiledVariant(
        "bounds",
        "a layer adds its bias",
        _INTERVAL,
        "vec centre = at(out->centre + i) + at(w->bias + i)",
        "vec centre = at(out->centre + i)",
    ),
    CompiledVariant(
        "bounds",
        "the radius goes through magnitudes of weights",
        _INTERVAL,
        "radius[v] += in->radius[k] * size;",
        "radius[v] += in->radius[k] * here;",
    ),
    CompiledVariant(
        "passes",
        "each layer rounds",
        _INTERVAL,
        "put(entering + i, largest * step->relative + error);",
        "put(entering + i, error);",
    ),
    CompiledVariant(
        "bounds",
        "the bound is widened by the error",
        _CROWN,
        "l = -bound[m + f] - error, h = bound[f] + error;",
        "l = -bound[m + f], h = bound[f];",
    ),
    CompiledVariant(
        "bounds",
        "the upper line of a ReLU has an intercept",
        _CROWN,
        "put(out->intercept + i, low * (slope - chord));",
        "put(out->intercept + i, zero);",
    ),
    CompiledVariant(
        "bounds",
        "a positive coefficient takes the upper line, a negative one the lower",
        _CROWN,
        "size * at(line->dev + j)",
        "-size * at(line->dev + j)",
    ),
    CompiledVariant(
        "passes",
        "upper and lower relations part",
        _CROWN,
        "product(true, dev, d + 1, n, w, q);",
        "memset(q, 0, (d + 1) * w->stride * 8);",
    ),
    CompiledVariant("bounds", "lower lines lie below", _CROWN, "where(l + u > 0, steepest, flattest)", "2 * steepest"),
    CompiledVariant("bounds", "both halves are parts of the box", _BOXES, "end++;", ""),
    CompiledVariant(
        "metadata",
        "a half-plane cuts what is behind it",
        _BOXES,
        "double reach = (planes->of[OFFSET][k] - least + SLACK) * inverse;",
        "double reach = (planes->of[OFFSET][k] + least) * inverse;",
    ),
    CompiledVariant(
        "metadata",
        "a box is empty where no row is",
        _BOXES,
        "empty |= least > planes->of[OFFSET][k];",
        "empty |= least > planes->of[OFFSET][k] - 0.3;",
    ),
]
