"""A map from uint64 keys to an int32 value, made for whole arrays at once.

Entries lie in insertion order in plain arrays (`keys`, `values`), so that a checkpoint can copy
them page by page; an open-addressing index of positions stands beside them and is rebuilt on load.
Python's dict would take five times the memory and one call per key.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["U64Map"]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing (Knuth, 6.4)
_MIN_BITS: Final = 10


class U64Map:
    """uint64 -> int32, vectorised. Keys may be any value, including 0."""

    def __init__(self) -> None:
        self._n = 0
        self._keys = np.empty(1 << (_MIN_BITS - 1), np.uint64)
        self._values = np.empty(1 << (_MIN_BITS - 1), np.int32)
        self._bits = _MIN_BITS
        self._index = np.full(1 << _MIN_BITS, -1, np.int32)

    def __len__(self) -> int:
        return self._n

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The keys, in insertion order (a view)."""
        return self._keys[: self._n]

    @property
    def values(self) -> NDArray[np.int32]:
        """The values, in insertion order (a view that may be written to)."""
        return self._values[: self._n]

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes + self._index.nbytes

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The position of each key, or -1. keys: uint64 [k] -> int64 [k]."""
        found = np.full(len(keys), -1, np.int64)
        left = np.arange(len(keys))
        slots = self._home(keys)
        mask = len(self._index) - 1
        while len(left):
            at = self._index[slots]
            hit = (at >= 0) & (self._keys[at] == keys[left])
            found[left[hit]] = at[hit]
            go_on = (at >= 0) & ~hit
            left = left[go_on]
            slots = (slots[go_on] + 1) & mask
        return found

    def find_or_add(
        self, keys: NDArray[np.uint64], value: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of all keys, adding the missing ones with their value.

        keys: uint64 [k], may repeat; value: int32 [k]. Of a repeated missing key the first
        occurrence is added and marked. Returns positions int64 [k] and is_new bool [k].
        """
        positions = self.find(keys)
        missing = np.flatnonzero(positions < 0)
        is_new = np.zeros(len(keys), np.bool_)
        if len(missing):
            new_keys, first, inverse = np.unique(
                keys[missing], return_index=True, return_inverse=True
            )
            # np.unique sorts by key; number the entries by first occurrence, so that the order
            # of entries is the order of arrival.
            order = np.argsort(first, kind="stable")
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            start = self._append(new_keys[order], value[missing[first[order]]])
            positions[missing] = start + rank[inverse]
            is_new[missing[first]] = True
        return positions, is_new

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop every entry whose mask is False; positions change, the order stays."""
        keys, values = self.keys[mask], self.values[mask]
        self.__init__()  # type: ignore[misc]
        self._append(keys.copy(), values.copy())

    def load(self, keys: NDArray[np.uint64], values: NDArray[np.int32]) -> None:
        """Fill an empty map with distinct keys, in order."""
        self._append(keys, values)

    def _append(self, keys: NDArray[np.uint64], values: NDArray[np.int32]) -> int:
        start, stop = self._n, self._n + len(keys)
        if stop > len(self._keys):
            size = max(stop, 2 * len(self._keys))
            self._keys = np.resize(self._keys, size)
            self._values = np.resize(self._values, size)
        self._keys[start:stop] = keys
        self._values[start:stop] = values
        self._n = stop
        if 2 * stop > len(self._index):  # at most half full: about 1.5 probes a hit
            while 2 * stop > (1 << self._bits):
                self._bits += 1
            self._index = np.full(1 << self._bits, -1, np.int32)
            self._place(0, stop)
        else:
            self._place(start, stop)
        return start

    def _place(self, start: int, stop: int) -> None:
        """Enter positions start..stop, whose keys are distinct and absent, into the index."""
        entries = np.arange(start, stop, dtype=np.int32)
        slots = self._home(self._keys[start:stop])
        mask = len(self._index) - 1
        while len(entries):
            free = self._index[slots] < 0
            self._index[slots[free]] = entries[free]  # of several rivals, one stays
            lost = self._index[slots] != entries
            entries = entries[lost]
            slots = (slots[lost] + 1) & mask

    def _home(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((keys * _MIX) >> np.uint64(64 - self._bits)).astype(np.int64)
