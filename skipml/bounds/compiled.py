"""The compiled library as the bounds use it; where it is not built numpy computes the same."""

from __future__ import annotations

import ctypes
from functools import cache

from skipml.library import NoExtensionError, find_extension, open_library


class Pointers(ctypes.Structure):
    """What CROWN fills: arrays [n, m] of bounds and of the extremes of linear bounds, [n, m, d] of the slopes."""

    _fields_ = [
        (name, ctypes.c_void_p) for name in ("low", "high", "linear_low", "linear_high", "slope_low", "slope_high")
    ]


class Planes(ctypes.Structure):
    """The half-planes of polygons, as polygons.py lays them out."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("n_blocks", "n_pairs", "n_planes")),
        *((name, ctypes.c_void_p) for name in ("inputs", "origin", "width", "planes")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, looked for once; None where there is none."""
    try:
        return declared(open_library(find_extension()))
    except NoExtensionError:
        return None


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """A library whose functions know the types of their arguments."""
    pointer, size, yes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool
    library.skipml_bounder_open.argtypes, library.skipml_bounder_open.restype = [pointer, pointer], pointer
    library.skipml_bounder_close.argtypes, library.skipml_bounder_close.restype = [pointer], None
    library.skipml_interval.argtypes = [pointer, pointer, pointer, size, pointer, pointer]
    library.skipml_interval.restype = yes
    library.skipml_crown.argtypes = [pointer, pointer, pointer, size, ctypes.POINTER(Pointers)]
    library.skipml_crown.restype = yes
    library.skipml_shrink.argtypes = [ctypes.POINTER(Planes), yes, size, pointer, size, pointer, pointer, pointer]
    library.skipml_shrink.restype = yes
    library.skipml_halve.argtypes = [yes, size, ctypes.c_int, pointer, size, *(pointer,) * 5]
    library.skipml_halve.restype = size
    return library
