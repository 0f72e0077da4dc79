"""The extension's forward pass, called from Python: for databases that may not load the extension itself."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.function import Function
from skipml.library import NoExtensionError, open_library
from skipml.models.native import to_bytes

_REASON_BYTES = 512


class Kernels:
    """The library in the extension's file; raises NoExtensionError where it cannot be loaded."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        library = open_library(path)
        self._open, self._close, self._forward = library.skipml_open, library.skipml_close, library.skipml_forward
        self._open.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
        self._open.restype = ctypes.c_void_p
        self._close.argtypes, self._close.restype = [ctypes.c_void_p], None
        self._forward.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self._forward.restype = ctypes.c_bool

    def load(self, function: Function) -> LoadedNetwork:
        """A network in the form that the kernels read; raises ModelError for trees, and a network that is too large."""
        content, reason = to_bytes(function), ctypes.create_string_buffer(_REASON_BYTES)
        handle = self._open(content, len(content), reason)
        if not handle:
            raise NoExtensionError(f"the extension does not take the network: {reason.value.decode()}")
        return LoadedNetwork(function, handle, self._forward, self._close)


class LoadedNetwork:
    """A network that the kernels evaluate; threads may share it."""

    def __init__(self, function: Function, handle: int, forward: Any, close: Any) -> None:
        self._function, self._handle, self._forward = function, handle, forward
        weakref.finalize(self, close, handle)

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        """As Network.forward_columns: one array [n] per input -> [n, n_outputs]. Other threads run meanwhile."""
        inputs = [np.ascontiguousarray(column, np.float64) for column in columns]
        n = len(inputs[0])
        outputs = np.empty((n, self._function.n_outputs), self._function.dtype)
        pointers = (ctypes.c_void_p * len(inputs))(*(column.ctypes.data for column in inputs))
        if not self._forward(self._handle, pointers, n, outputs.ctypes.data):
            raise MemoryError(f"no memory to score {n:,} rows")
        return outputs
