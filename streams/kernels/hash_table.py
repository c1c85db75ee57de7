"""The loops of `streams.core.state.u64map`: open addressing with linear probing (Knuth, vol. 3,
6.4).

An index is uint32 [slots], 0 where free. The low bits of an entry are 1 + a position in `keys`, as
many as a position may need; the bits above are a tag, from the key's hash. Most entries of other
keys differ in the tag and are skipped without a look at `keys`, which would be a cache miss each. A
key's home slot is its hash scaled to the number of slots, so this need not be a power of two. While
an index is replaced by a larger one, entries that have not been moved are still in the old one,
which is searched second.

A large table is in no cache, so what a key needs is prefetched some keys ahead
(Chen et al., "Improving hash join performance through prefetching", ICDE 2004).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["Table", "compact", "find", "find_or_add", "insert_positions", "raise_or_add"]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing (Knuth, 6.4)
_HALF: Final = np.uint64(32)
_WORD: Final = np.uint64(0xFFFFFFFF)
_ONE: Final = np.uint64(1)
_FAR: Final = 24  # keys ahead: their slot in the index is prefetched
_NEAR: Final = 12  # keys ahead: their entry has arrived, so their key and value are prefetched

_Index = NDArray[np.uint32]
_Keys = NDArray[np.uint64]


class Table(NamedTuple):
    """The arrays of a map of n entries, with room for more.

    slots: the index; old: the index that it replaces, or [0]; keys: uint64 [room]; values: int32
    [room]; words: int64 [room, W], what entries hold besides. Entries are keys[:n], values[:n] and
    words[:n], in the order of insertion.
    """

    slots: _Index
    old: _Index
    keys: _Keys
    values: NDArray[np.int32]
    words: NDArray[np.int64]


@kernel
def _hash(key: np.uint64) -> np.uint64:
    """32 bits: the upper ones give the home slot, the lower ones the tag."""
    return np.uint64((key * _MIX) >> _HALF)


@kernel
def _home(hashed: np.uint64, slots: int) -> Any:
    return np.int64((hashed * np.uint64(slots)) >> _HALF)


@kernel
def _places(slots: int) -> np.uint64:
    """A mask of the bits of 1 + a position: there are fewer positions than slots."""
    mask = np.uint64(slots)
    mask |= mask >> np.uint64(1)
    mask |= mask >> np.uint64(2)
    mask |= mask >> np.uint64(4)
    mask |= mask >> np.uint64(8)
    mask |= mask >> np.uint64(16)
    return mask


@kernel
def _tag(hashed: np.uint64, places: np.uint64) -> np.uint64:
    """The tag, in the bits above the position's."""
    return np.uint64((hashed * (places + _ONE)) & _WORD)


@kernel
def _slot_of(index: _Index, keys: _Keys, key: np.uint64) -> Any:
    """The slot of the key, or -1 - the free slot where it belongs."""
    slots = len(index)
    hashed = _hash(key)
    places = _places(slots)
    tag = _tag(hashed, places)
    slot: Any = _home(hashed, slots)
    while True:
        entry = np.uint64(index[slot])
        if entry == 0:
            return -1 - slot
        if (entry & ~places) == tag and keys[np.int64(entry & places) - 1] == key:
            return slot
        slot += 1
        if slot == slots:
            slot = 0


@kernel
def _at(index: _Index, slot: int) -> Any:
    """The position in a slot; -1 if it is free."""
    return np.int64(np.uint64(index[slot]) & _places(len(index))) - 1


@kernel
def _enter(index: _Index, slot: int, key: np.uint64, at: int) -> None:
    index[slot] = _tag(_hash(key), _places(len(index))) | np.uint64(at + 1)


@kernel
def _prefetch_slot(index: _Index, key: np.uint64) -> None:
    prefetch(address(index) + 4 * _home(_hash(key), len(index)))


@kernel
def _prefetch_key(index: _Index, keys: _Keys, values: int, key: np.uint64) -> None:
    """Prefetch a key, and its value if `values`, their address, is not 0."""
    slots = len(index)
    hashed = _hash(key)
    places = _places(slots)
    entry = np.uint64(index[_home(hashed, slots)])
    if entry != 0 and (entry & ~places) == _tag(hashed, places):
        at: Any = np.int64(entry & places) - 1
        prefetch(address(keys) + 8 * at)
        if values != 0:
            prefetch(values + 4 * at)


@kernel
def insert_positions(table: Table, start: int, stop: int) -> None:
    """Insert the entries in [start, stop) into the index. Their keys are distinct and not in it."""
    index, keys = table.slots, table.keys
    slots = len(index)
    places = _places(slots)
    for at in range(start, stop):
        if at + _FAR < stop:
            _prefetch_slot(index, keys[at + _FAR])
        hashed = _hash(keys[at])
        slot: Any = _home(hashed, slots)
        while index[slot] != 0:  # keys are distinct, so none has to be compared
            slot += 1
            if slot == slots:
                slot = 0
        index[slot] = _tag(hashed, places) | np.uint64(at + 1)


@kernel
def _position(table: Table, key: np.uint64) -> Any:
    """The position of the key, or -1 - the free slot where it belongs."""
    slot = _slot_of(table.slots, table.keys, key)
    if slot >= 0:
        return _at(table.slots, slot)
    if len(table.old):
        older = _slot_of(table.old, table.keys, key)
        if older >= 0:
            return _at(table.old, older)
    return slot


@kernel
def _prefetch_ahead(table: Table, values: int, wanted: _Keys, i: int) -> None:
    """Prefetch for the keys after wanted[i]; `values` as in `_prefetch_key`."""
    if i + _FAR < len(wanted):
        _prefetch_slot(table.slots, wanted[i + _FAR])
        if len(table.old):
            _prefetch_slot(table.old, wanted[i + _FAR])
    if i + _NEAR < len(wanted):
        _prefetch_key(table.slots, table.keys, values, wanted[i + _NEAR])
        if len(table.old):
            _prefetch_key(table.old, table.keys, values, wanted[i + _NEAR])


@kernel
def find(table: Table, wanted: _Keys, found: NDArray[np.int64]) -> None:
    """Set found[i], int64 [k], to the position of wanted[i], uint64 [k]; -1 if it is missing."""
    for i in range(len(wanted)):
        _prefetch_ahead(table, 0, wanted, i)
        found[i] = max(_position(table, wanted[i]), -1)


@kernel
def find_or_add(
    table: Table,
    n: int,
    wanted: _Keys,
    value: NDArray[np.int32],
    found: NDArray[np.int64],
    is_new: NDArray[np.bool_],
) -> int:
    """As `find`, but adds missing keys to the n entries, with their value. Returns the new n.

    wanted: uint64 [k]; value: int32 [k]. is_new: bool [k], all False, becomes True where a key was
    added.
    """
    for i in range(len(wanted)):
        _prefetch_ahead(table, 0, wanted, i)
        key = wanted[i]
        at = _position(table, key)
        if at < 0:
            _enter(table.slots, -1 - at, key, n)
            table.keys[n] = key
            table.values[n] = value[i]
            is_new[i] = True
            at = n
            n += 1
        found[i] = at
    return n


@kernel
def raise_or_add(
    table: Table,
    n: int,
    wanted: _Keys,
    value: NDArray[np.int32],
    before: NDArray[np.int32],
    is_new: NDArray[np.bool_],
    dirty: NDArray[np.bool_],
    page_bits: int,
) -> int:
    """As `find_or_add`, and raises each key's value to value[i] if it is lower.

    before[i], int32 [k]: the key's value before that; not written for keys that were added. dirty:
    bool [pages], set for each page of 2 ** page_bits values in which one was raised.
    """
    values = table.values
    values_at = address(values)
    for i in range(len(wanted)):
        _prefetch_ahead(table, values_at, wanted, i)
        key = wanted[i]
        at = _position(table, key)
        if at < 0:
            _enter(table.slots, -1 - at, key, n)
            table.keys[n] = key
            values[n] = value[i]
            is_new[i] = True
            n += 1
            continue
        before[i] = values[at]
        if value[i] > values[at]:
            values[at] = value[i]
            dirty[at >> page_bits] = True
    return n


@kernel
def _remove(index: _Index, keys: _Keys, slot: int) -> None:
    """Free a slot, and close the gap: entries that were displaced past it move back."""
    slots = len(index)
    gap = slot
    while True:
        slot += 1
        if slot == slots:
            slot = 0
        at = _at(index, slot)
        if at < 0:
            break
        # the distance back to its home, and back to the gap
        if (slot - _home(_hash(keys[at]), slots)) % slots >= (slot - gap) % slots:
            index[gap] = index[slot]
            gap = slot
    index[gap] = 0


@kernel
def compact(table: Table, oldest: int, read: int, write: int, stop: int) -> int:
    """Drop the entries in [read, stop) whose value is below `oldest`; move the others to `write`
    and after, with their words. Returns the position after the last one. `old` must be empty."""
    index, keys, values, words = table.slots, table.keys, table.values, table.words
    for at in range(read, stop):
        slot = _slot_of(index, keys, keys[at])
        if values[at] < oldest:
            _remove(index, keys, slot)
            continue
        _enter(index, slot, keys[at], write)
        keys[write] = keys[at]
        values[write] = values[at]
        for j in range(words.shape[1]):
            words[write, j] = words[at, j]
        write += 1
    return write
