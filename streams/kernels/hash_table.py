"""The loops of `streams.core.state.u64map`: open addressing with linear probing (Knuth, vol. 3,
6.4).

An index is uint32 [slots], 0 where free. An entry holds 1 + position in `keys` in as many low bits
as that may take, and bits of the key's hash above them: most entries of other keys are passed over
without looking at `keys`, which is a miss of the cache each. A key's home is its hash scaled to the
number of slots, so that this needs to be no power of two. While an index is replaced by a larger
one, what the new one does not have yet is in the old one, which is searched second.

A large table is in no cache, so what a key some places on will need is asked for ahead of its turn
(Chen et al., "Improving hash join performance through prefetching", ICDE 2004).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["compact", "find", "find_or_add", "see", "take_in"]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing (Knuth, 6.4)
_HALF: Final = np.uint64(32)
_WORD: Final = np.uint64(0xFFFFFFFF)
_ONE: Final = np.uint64(1)
_FAR: Final = 24  # keys ahead whose place in the index is asked for
_NEAR: Final = 12  # keys ahead whose entry is there by now, and whose key and value are asked for

_Index = NDArray[np.uint32]
_Keys = NDArray[np.uint64]


@kernel
def _hash(key: np.uint64) -> np.uint64:
    """32 bits: the upper ones say where a key's home is, the lower ones go into its entry."""
    return np.uint64((key * _MIX) >> _HALF)


@kernel
def _home(hashed: np.uint64, slots: int) -> Any:
    return np.int64((hashed * np.uint64(slots)) >> _HALF)


@kernel
def _places(slots: int) -> np.uint64:
    """A mask of the bits that 1 + a position takes: there are fewer positions than slots."""
    mask = np.uint64(slots)
    mask |= mask >> np.uint64(1)
    mask |= mask >> np.uint64(2)
    mask |= mask >> np.uint64(4)
    mask |= mask >> np.uint64(8)
    mask |= mask >> np.uint64(16)
    return mask


@kernel
def _tag(hashed: np.uint64, places: np.uint64) -> np.uint64:
    """The part of an entry that is of the hash."""
    return np.uint64((hashed * (places + _ONE)) & _WORD)


@kernel
def _slot_of(index: _Index, keys: _Keys, key: np.uint64) -> Any:
    """Where the key is, or -1 - the free slot where it would go."""
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
def _ask_for_slot(index: _Index, key: np.uint64) -> None:
    prefetch(address(index) + 4 * _home(_hash(key), len(index)))


@kernel
def _ask_for_key(index: _Index, keys: _Keys, values: int, key: np.uint64) -> None:
    """`values`: the address of int32 values that are needed as well, or 0."""
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
def take_in(index: _Index, keys: _Keys, start: int, stop: int) -> None:
    """Enter positions start to stop, whose keys are distinct and not in the index."""
    slots = len(index)
    places = _places(slots)
    for at in range(start, stop):
        if at + _FAR < stop:
            _ask_for_slot(index, keys[at + _FAR])
        hashed = _hash(keys[at])
        slot: Any = _home(hashed, slots)
        while index[slot] != 0:  # no need to look whose: keys are distinct
            slot += 1
            if slot == slots:
                slot = 0
        index[slot] = _tag(hashed, places) | np.uint64(at + 1)


@kernel
def _position(index: _Index, old: _Index, keys: _Keys, key: np.uint64) -> Any:
    slot = _slot_of(index, keys, key)
    if slot >= 0:
        return _at(index, slot)
    if len(old):
        older = _slot_of(old, keys, key)
        if older >= 0:
            return _at(old, older)
    return slot  # below 0, and says where the key would go


@kernel
def _look_ahead(
    index: _Index, old: _Index, keys: _Keys, values: int, wanted: _Keys, i: int
) -> None:
    if i + _FAR < len(wanted):
        _ask_for_slot(index, wanted[i + _FAR])
        if len(old):
            _ask_for_slot(old, wanted[i + _FAR])
    if i + _NEAR < len(wanted):
        _ask_for_key(index, keys, values, wanted[i + _NEAR])
        if len(old):
            _ask_for_key(old, keys, values, wanted[i + _NEAR])


@kernel
def find(index: _Index, old: _Index, keys: _Keys, wanted: _Keys, found: NDArray[np.int64]) -> None:
    """found[i] = position of wanted[i], or -1."""
    for i in range(len(wanted)):
        _look_ahead(index, old, keys, 0, wanted, i)
        found[i] = max(_position(index, old, keys, wanted[i]), -1)


@kernel
def find_or_add(
    index: _Index,
    old: _Index,
    keys: _Keys,
    values: NDArray[Any],
    n: int,
    wanted: _Keys,
    value: NDArray[Any],
    found: NDArray[np.int64],
    is_new: NDArray[np.bool_],
) -> int:
    """Positions of all keys, one after the other; missing ones are added. Returns the new n."""
    for i in range(len(wanted)):
        _look_ahead(index, old, keys, 0, wanted, i)
        key = wanted[i]
        at = _position(index, old, keys, key)
        if at < 0:
            _enter(index, -1 - at, key, n)
            keys[n] = key
            values[n] = value[i]
            is_new[i] = True
            at = n
            n += 1
        found[i] = at
    return n


@kernel
def see(
    index: _Index,
    old: _Index,
    keys: _Keys,
    values: NDArray[Any],
    n: int,
    wanted: _Keys,
    value: NDArray[Any],
    before: NDArray[Any],
    is_new: NDArray[np.bool_],
    page_shift: int,
    dirty: NDArray[np.bool_],
) -> int:
    """As `find_or_add`, and raises each key's value to the one given. before[i]: what it was when
    i's turn came; untouched for new ones. dirty[page] is set where a value was raised."""
    known = address(values)
    for i in range(len(wanted)):
        _look_ahead(index, old, keys, known, wanted, i)
        key = wanted[i]
        at = _position(index, old, keys, key)
        if at < 0:
            _enter(index, -1 - at, key, n)
            keys[n] = key
            values[n] = value[i]
            is_new[i] = True
            n += 1
            continue
        before[i] = values[at]
        if value[i] > values[at]:
            values[at] = value[i]
            dirty[at >> page_shift] = True
    return n


@kernel
def _remove(index: _Index, keys: _Keys, slot: int) -> None:
    """Free a slot, and close the gap: whoever was pushed past it moves back."""
    slots = len(index)
    gap = slot
    while True:
        slot += 1
        if slot == slots:
            slot = 0
        at = _at(index, slot)
        if at < 0:
            break
        # how far its home is from here, and how far the gap is: both going back
        if (slot - _home(_hash(keys[at]), slots)) % slots >= (slot - gap) % slots:
            index[gap] = index[slot]
            gap = slot
    index[gap] = 0


@kernel
def compact(
    index: _Index,
    keys: _Keys,
    values: NDArray[Any],
    oldest: int,
    read: int,
    write: int,
    stop: int,
) -> int:
    """Drop the entries in [read, stop) with a value below `oldest`; move the others to `write` on.
    Returns where the next one would go."""
    for at in range(read, stop):
        slot = _slot_of(index, keys, keys[at])
        if values[at] < oldest:
            _remove(index, keys, slot)
            continue
        _enter(index, slot, keys[at], write)
        keys[write] = keys[at]
        values[write] = values[at]
        write += 1
    return write
