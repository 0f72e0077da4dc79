"""The extension's forward pass, called from Python: for databases that may not load the extension itself."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.engines.extension import NoExtensionError
from skipml.models.native import to_bytes
from skipml.network import Network

_REASON_BYTES = 512
_FOOTER, _FOOTER_BYTES = b"C_STRUCT", 534
"""The kind of extension that DuckDB reads in the last bytes of the file."""


class Kernels:
    """The library in the extension's file; raises NoExtensionError where it cannot be loaded."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            if not _is_whole(path):
                raise NoExtensionError(f"{os.fspath(path)} could not be loaded: its end is missing")
            library = ctypes.CDLL(os.fspath(path))
            self._open, self._close, self._forward = library.skipml_open, library.skipml_close, library.skipml_forward
        except (OSError, AttributeError) as error:
            raise NoExtensionError(f"{os.fspath(path)} could not be loaded: {error}") from error
        self._open.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
        self._open.restype = ctypes.c_void_p
        self._close.argtypes, self._close.restype = [ctypes.c_void_p], None
        self._forward.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self._forward.restype = ctypes.c_bool

    def load(self, network: Network) -> LoadedNetwork:
        """A network in the form that the kernels read; raises ModelError for one that is too large for them."""
        content, reason = to_bytes(network), ctypes.create_string_buffer(_REASON_BYTES)
        handle = self._open(content, len(content), reason)
        if not handle:
            raise NoExtensionError(f"the extension does not take the network: {reason.value.decode()}")
        return LoadedNetwork(network, handle, self._forward, self._close)


def _is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends as an extension does: the system's loader would crash on half of one."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _FOOTER_BYTES))
        return _FOOTER in file.read()


class LoadedNetwork:
    """A network that the kernels evaluate; threads may share it."""

    def __init__(self, network: Network, handle: int, forward: Any, close: Any) -> None:
        self._network, self._handle, self._forward = network, handle, forward
        weakref.finalize(self, close, handle)

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.floating]:
        """As Network.forward_columns: one array [n] per input -> [n, n_outputs]. Other threads run meanwhile."""
        inputs = [np.ascontiguousarray(column, np.float64) for column in columns]
        n = len(inputs[0])
        outputs = np.empty((n, self._network.n_outputs), self._network.dtype)
        pointers = (ctypes.c_void_p * len(inputs))(*(column.ctypes.data for column in inputs))
        if not self._forward(self._handle, pointers, n, outputs.ctypes.data):
            raise MemoryError(f"no memory to score {n:,} rows")
        return outputs
