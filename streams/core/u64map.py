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
        self._scratch = np.empty(0, np.int32)

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
        return sum(a.nbytes for a in (self._keys, self._values, self._index, self._scratch))

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
        is_new = np.zeros(len(keys), np.bool_)
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            positions[missing], is_new[missing] = self._add(keys[missing], value[missing])
        return positions, is_new

    def one_each(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """One index into `positions` (int64 [k]) for every entry that occurs in it, ascending."""
        if len(self._scratch) < len(self._keys):
            # kept, because fresh memory would cost a page fault for nearly every entry
            self._scratch = np.empty(len(self._keys), np.int32)
        every = np.arange(len(positions), dtype=np.int32)
        self._scratch[positions] = every
        return np.flatnonzero(self._scratch[positions] == every)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop every entry whose mask is False; positions change, the order stays."""
        keys, values = self.keys[mask], self.values[mask]
        self.__init__()  # type: ignore[misc]
        self._append(keys.copy(), values.copy())

    def load(self, keys: NDArray[np.uint64], values: NDArray[np.int32]) -> None:
        """Fill an empty map with distinct keys, in order."""
        self._append(keys, values)

    def _append(self, keys: NDArray[np.uint64], values: NDArray[np.int32]) -> None:
        """Add distinct keys that are not there yet."""
        start, stop = self._n, self._n + len(keys)
        self._reserve(stop)
        self._keys[start:stop] = keys
        self._values[start:stop] = values
        self._n = stop
        if 2 * stop > len(self._index):
            self._rebuild_index(stop)
        else:
            self._place(start, stop)

    def _add(
        self, keys: NDArray[np.uint64], values: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Add keys that are not there yet but may repeat: positions and first occurrences.

        All keys race for slots at once. The first occurrence of a key wins over later ones; whoever
        finds its own key in its slot has its position, the others move on to the next slot.
        """
        start, count = self._n, len(keys)
        self._reserve(start + count)
        if 2 * (start + count) > len(self._index):
            self._rebuild_index(start + count)
        self._keys[start : start + count] = keys
        owner = np.empty(count, np.int64)  # the provisional position of each key's winner
        slot_of = np.empty(count, np.int64)
        left = np.arange(count)
        slots = self._home(keys)
        mask = len(self._index) - 1
        while len(left):
            free = self._index[slots] < 0
            # reversed: of several writes to one slot the last one stays
            self._index[slots[free][::-1]] = (start + left[free])[::-1]
            at = self._index[slots]
            same = self._keys[at] == keys[left]
            owner[left[same]] = at[same]
            slot_of[left[same]] = slots[same]
            left = left[~same]
            slots = (slots[~same] + 1) & mask
        first = owner == start + np.arange(count)
        rank = np.cumsum(first) - 1
        self._n = start + int(first.sum())
        self._keys[start : self._n] = keys[first]
        self._values[start : self._n] = values[first]
        self._index[slot_of[first]] = start + rank[first]
        return start + rank[owner - start], first

    def _reserve(self, size: int) -> None:
        if size > len(self._keys):
            size = max(size, 2 * len(self._keys))
            self._keys = np.resize(self._keys, size)
            self._values = np.resize(self._values, size)

    def _rebuild_index(self, size: int) -> None:
        """At most half full with `size` entries: about 1.5 probes a hit."""
        while 2 * size > (1 << self._bits):
            self._bits += 1
        self._index = np.full(1 << self._bits, -1, np.int32)
        self._place(0, self._n)

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
