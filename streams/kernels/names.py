"""The loops of `streams.core.state.directory`: user ids to rows, by hash and then byte for byte.

Open addressing with linear probing (Knuth, vol. 3, 6.4).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch, same, store8
from streams.kernels.strings import Pieces

__all__ = ["Directory", "fill_index", "find_or_add", "release"]

_FAR: Final = 24  # ids ahead: their slot in the index is prefetched
_NEAR: Final = 16  # ids ahead: what is known of the row in that slot is prefetched
_NEXT: Final = 8  # ids ahead: the id of that row is prefetched


class Directory(NamedTuple):
    """The arrays of a directory of `room` rows.

    slots: int32, a power of two of them: 1 + row, 0 where free. hashes: uint64 [room]. The id of a
    row is the `sizes` (int32 [room]) bytes of names (uint8 [bytes]) from `starts` (int64 [room])
    on; a size of 0 means that the row is free, one below 0 that it is never used again.
    """

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int32]
    names: NDArray[np.uint8]


@kernel
def _home(found: np.uint64, mask: int) -> Any:
    return np.int64(found & np.uint64(mask))


@kernel
def fill_index(directory: Directory, rows: int) -> None:
    """Enter those of the first `rows` rows that have an id into an empty index."""
    index, hashes, sizes = directory.slots, directory.hashes, directory.sizes
    mask = len(index) - 1
    for row in range(rows):
        if sizes[row] <= 0:
            continue
        slot = _home(hashes[row], mask)
        while index[slot] != 0:
            slot = (slot + 1) & mask
        index[slot] = row + 1


@kernel
def find_or_add(
    directory: Directory,
    in_use: tuple[int, int, int],
    ids: Pieces,
    hashed: NDArray[np.uint64],
    add: bool,
    rows: NDArray[np.int64],
    added: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Set rows[i], int64 [k], to the row of id i, whose xxh64 is hashed[i], uint64 [k].

    in_use: the number of rows in use, of bytes of `names` in use, and a row below which none is
    free. Unknown ids get the lowest free rows if `add`, else -1. The caller has made room in all
    arrays. Returns the new `in_use`, and how many rows were assigned: they are the first of
    `added`, int64 [k] (or [0] without `add`).
    """
    index, hashes, starts, sizes, names = directory
    data, at, size = ids
    known, used, free = in_use
    new = 0
    mask = len(index) - 1
    given, kept = address(data), address(names)
    entries, known_hashes = address(index), address(hashes)
    known_starts, known_sizes = address(starts), address(sizes)
    for i in range(len(at)):
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
    directory: Directory, rows: NDArray[np.int64], size: int, known: int, free: int
) -> tuple[int, int, int]:
    """Remove and overwrite the ids of `rows`, int64 [k], which have one each.

    size: what their size becomes, 0 or less. known: the number of rows in use; no row below `free`
    is free. Returns the new `known` and `free`, and the bytes of the ids that were removed.
    """
    index, hashes, starts, sizes, names = directory
    mask = len(index) - 1
    removed = 0
    for row in rows:
        gap = _home(hashes[row], mask)
        while index[gap] != row + 1:
            gap = (gap + 1) & mask
        # entries that were displaced past the gap move back into it
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
        removed += sizes[row]
        sizes[row] = size
        hashes[row] = 0
        if size == 0:
            free = min(free, row)
    while known > 0 and sizes[known - 1] == 0:
        known -= 1
    return known, min(free, known), removed
