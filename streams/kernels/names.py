"""The loops of `streams.core.state.directory`: user ids to rows, by hash and then byte for byte.

Open addressing with linear probing (Knuth, vol. 3, 6.4). `index` is int32 [slots], a power of two:
1 + row, 0 where free. Ids are pieces of one buffer. `sizes` tells what a row is: above 0
somebody's, 0 nobody's, free for the next; below 0 nobody's for ever.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch, same, store8

__all__ = ["find_or_add", "place", "release"]

_FAR: Final = 24
_NEAR: Final = 16
_NEXT: Final = 8


@kernel
def _home(found: np.uint64, mask: int) -> Any:
    return np.int64(found & np.uint64(mask))


@kernel
def place(index: NDArray[np.int32], hashes: NDArray[np.uint64], sizes: NDArray[np.int32]) -> None:
    """Enter all rows whose id is not empty into an index that is free."""
    mask = len(index) - 1
    for row in range(len(hashes)):
        if sizes[row] <= 0:
            continue
        slot = _home(hashes[row], mask)
        while index[slot] != 0:
            slot = (slot + 1) & mask
        index[slot] = row + 1


@kernel
def find_or_add(
    data: NDArray[np.uint8],
    at: NDArray[np.int64],
    size: NDArray[np.int32],
    hashed: NDArray[np.uint64],
    index: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    names: NDArray[np.uint8],
    known: int,
    used: int,
    free: int,
    add: bool,
    rows: NDArray[np.int64],
    added: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """rows[i]: the row of id i, which lies in data at `at` and hashes to `hashed`.

    Ids that are not known get the lowest free rows if `add`, else -1; no row below `free` is. The
    caller has made room in all arrays. Returns the rows and bytes of `names` that are then in use,
    the new `free`, and how many rows were given out: the first of `added`.
    """
    new = 0
    mask = len(index) - 1
    given, kept = address(data), address(names)
    entries, known_hashes = address(index), address(hashes)
    known_starts, known_sizes = address(starts), address(sizes)
    for i in range(len(at)):
        # What the ids to come will need is fetched into the cache: where they are in the index,
        # then what is known of the row there, then its name.
        if i + _FAR < len(at):
            prefetch(entries + 4 * _home(hashed[i + _FAR], mask))
        if i + _NEAR < len(at):
            entry = np.int64(index[_home(hashed[i + _NEAR], mask)])
            if entry > 0:
                prefetch(known_hashes + 8 * (entry - 1))
                prefetch(known_starts + 8 * (entry - 1))
                prefetch(known_sizes + 4 * (entry - 1))
        if i + _NEXT < len(at):
            entry = np.int64(index[_home(hashed[i + _NEXT], mask)])
            if entry > 0:
                prefetch(kept + starts[entry - 1])
        slot = _home(hashed[i], mask)
        row = -1
        while True:
            entry = index[slot]
            if entry == 0:
                break
            if (
                hashes[entry - 1] == hashed[i]
                and sizes[entry - 1] == size[i]
                and same(kept + starts[entry - 1], given + at[i], size[i])
            ):
                row = entry - 1
                break
            slot = (slot + 1) & mask
        if row < 0 and add:
            row = free
            while row < known and sizes[row] != 0:
                row += 1
            free = row + 1
            known = max(known, free)
            added[new] = row
            new += 1
            index[slot] = row + 1
            hashes[row], starts[row], sizes[row] = hashed[i], used, size[i]
            for byte in range(size[i]):
                store8(kept + used + byte, data[at[i] + byte])
            used += size[i]
        rows[i] = row
    return known, used, free, new


@kernel
def release(
    rows: NDArray[np.int64],
    left: int,
    index: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    names: NDArray[np.uint8],
    known: int,
    free: int,
) -> tuple[int, int, int]:
    """Take the ids from `rows`, which have one each, and overwrite them; `left` is their size from
    now on. Returns the rows that are then in use, the new `free`, and the bytes of ids that were
    given back."""
    mask = len(index) - 1
    given_back = 0
    for row in rows:
        gap = _home(hashes[row], mask)
        while index[gap] != row + 1:
            gap = (gap + 1) & mask
        # whoever was pushed past the gap moves back into it
        slot = gap
        while True:
            slot = (slot + 1) & mask
            entry = index[slot]
            if entry == 0:
                break
            if (slot - _home(hashes[entry - 1], mask)) & mask >= (slot - gap) & mask:
                index[gap] = entry
                gap = slot
        index[gap] = 0
        for byte in range(starts[row], starts[row] + sizes[row]):
            names[byte] = 0
        given_back += sizes[row]
        sizes[row] = left
        hashes[row] = 0
        if left == 0:
            free = min(free, row)
    while known > 0 and sizes[known - 1] == 0:
        known -= 1
    return known, min(free, known), given_back
