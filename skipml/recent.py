"""Caches: of what was used last, and of what follows from an object as long as it lives."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, as many as fit into `capacity` by their `size`; the longest unused go first. Threads may share
    it.
    """

    def __init__(self, capacity: int, size: Callable[[V], int]) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._capacity = capacity
        self._size = size
        self._held = 0

    def get(self, key: K) -> V | None:
        """The value of a key, None if there is none."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Keep a value in place of the one that the key has."""
        self.change(key, lambda old: value)

    def change(self, key: K, change: Callable[[V | None], V]) -> None:
        """Keep what `change` makes of the value that the key has; nothing else happens meanwhile."""
        with self._lock:
            old = self._entries.pop(key, None)
            self._held -= self._size(old) if old is not None else 0
            self._entries[key] = value = change(old)
            self._held += self._size(value)
            while self._held > self._capacity:
                self._held -= self._size(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._entries.clear()
            self._held = 0


class Derived(Generic[K, V]):
    """What `make` makes of an object that never changes, made once and kept as long as the object lives. Objects are
    the same if they compare equal; the value must not refer to its object. Threads may share it.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[K, V] = WeakKeyDictionary()

    def __call__(self, thing: K) -> V:
        """That of an object."""
        value = self._made.get(thing)
        if value is None:
            value = self._made[thing] = self._make(thing)
        return value
