"""The compiled library as searches use it; where it is not built, numpy and faiss compute the same."""

from __future__ import annotations

import ctypes
from functools import cache

from skipml.library import NoExtensionError, find_extension, open_library

_POINTER, _SIZE, _INT, _DOUBLE = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_double
METRICS = {"l2": 0, "ip": 1, "cosine": 2}
"""Their numbers there."""


class Segment(ctypes.Structure):
    """A segment, see extension/src/vector_index.h."""

    _fields_ = [
        *((name, _POINTER) for name in ("rows", "codes")),
        *((name, _SIZE) for name in ("rows_size", "codes_size")),
        *((name, _POINTER) for name in ("starts", "vectors", "row_ids", "deleted")),
        ("n_deleted", _SIZE),
        *((name, _POINTER) for name in ("code_counts", "code", "positions")),
    ]


class Index(ctypes.Structure):
    """An index, see vector_index.h."""

    _fields_ = [
        *((name, _INT) for name in ("metric", "is_int8")),
        *((name, _SIZE) for name in ("dimension", "width", "n_lists", "code_bytes", "n_segments")),
        *((name, _DOUBLE) for name in ("scale", "longest")),
        *((name, _POINTER) for name in ("centroids", "rotation", "segments")),
    ]


class Rule(ctypes.Structure):
    """A stop rule, see extension/src/stop_rule.h."""

    _fields_ = [
        ("kind", _INT),
        ("setting", _DOUBLE),
        *((name, _SIZE) for name in ("first", "n_trees", "depth")),
        ("mean", _DOUBLE),
        *((name, _POINTER) for name in ("feature", "threshold", "leaf")),
        *((name, _SIZE) for name in ("n_looks", "n_best", "n_multiples", "n_ranks", "n_pairs")),
        *((name, _POINTER) for name in ("looks", "best", "multiples", "ranks", "pairs")),
    ]


class Query(ctypes.Structure):
    """What is asked, see nearest.h."""

    _fields_ = [
        ("query", _POINTER),
        *((name, _SIZE) for name in ("k", "n_candidates")),
    ]


class Found(ctypes.Structure):
    """What was found and read, see nearest.h."""

    _fields_ = [
        *((name, _POINTER) for name in ("position", "row_id", "list", "distance")),
        *((name, _INT) for name in ("n", "lists", "scanned", "vectors", "bytes")),
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
    library.skipml_vector_index_fits.argtypes = [_POINTER]
    library.skipml_vector_index_fits.restype = ctypes.c_bool
    library.skipml_nearest.argtypes, library.skipml_nearest.restype = [_POINTER] * 4, ctypes.c_int
    library.skipml_distances.argtypes = [_INT, ctypes.c_bool, _SIZE, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER]
    library.skipml_distances.restype = None
    return library
