"""The loops of `streams.core.u64map`: open addressing with linear probing (Knuth, vol. 3, 6.4).

An index is int32 [slots] of 1 + position in `keys`, 0 where free. A key's home is its hash scaled
to the number of slots, so that this needs to be no power of two. While an index is replaced by a
larger one, what the new one does not have yet is in the old one, which is searched second.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.kernels.jit import kernel

__all__ = ["compact", "find", "find_or_add", "see", "take_in"]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing (Knuth, 6.4)
_HALF: Final = np.uint64(32)

_Index = NDArray[np.int32]
_Keys = NDArray[np.uint64]


@kernel
def _home(key: np.uint64, slots: int) -> np.int64:
    return np.int64((((key * _MIX) >> _HALF) * np.uint64(slots)) >> _HALF)


@kernel
def _slot_of(index: _Index, keys: _Keys, key: np.uint64) -> Any:
    """Where the key is, or -1 - the free slot where it would go."""
    slots = len(index)
    slot: Any = _home(key, slots)
    while True:
        at = index[slot] - 1
        if at < 0:
            return -1 - slot
        if keys[at] == key:
            return slot
        slot += 1
        if slot == slots:
            slot = 0


@kernel
def take_in(index: _Index, keys: _Keys, start: int, stop: int) -> None:
    """Enter positions start to stop, whose keys are distinct and not in the index."""
    for at in range(start, stop):
        index[-1 - _slot_of(index, keys, keys[at])] = at + 1


@kernel
def _position(index: _Index, old: _Index, keys: _Keys, key: np.uint64) -> Any:
    slot = _slot_of(index, keys, key)
    if slot >= 0:
        return index[slot] - 1
    if len(old):
        older = _slot_of(old, keys, key)
        if older >= 0:
            return old[older] - 1
    return slot  # below 0, and says where the key would go


@kernel
def find(index: _Index, old: _Index, keys: _Keys, wanted: _Keys, found: NDArray[np.int64]) -> None:
    """found[i] = position of wanted[i], or -1."""
    for i in range(len(wanted)):
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
        key = wanted[i]
        at = _position(index, old, keys, key)
        if at < 0:
            index[-1 - at] = n + 1
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
    for i in range(len(wanted)):
        key = wanted[i]
        at = _position(index, old, keys, key)
        if at < 0:
            index[-1 - at] = n + 1
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
        at = index[slot] - 1
        if at < 0:
            break
        # how far its home is from here, and how far the gap is: both going back
        if (slot - _home(keys[at], slots)) % slots >= (slot - gap) % slots:
            index[gap] = at + 1
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
        index[slot] = write + 1
        keys[write] = keys[at]
        values[write] = values[at]
        write += 1
    return write
