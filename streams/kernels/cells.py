"""Sorts the entries of a window's log by cell and adds up those of the same cell.

numpy's stable sort of 32-bit numbers compares them; a radix sort takes a fifth of its time here.
(Least significant digit first: Knuth, vol. 3, 5.2.5, algorithm R.)
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = ["DIGITS", "Entries", "combine_cells"]

_BITS: Final = 11
DIGITS: Final = 1 << _BITS
"""Counters that the sort needs."""
_FEW: Final = 64  # up to here insertion sort is faster: clearing the counters costs more


class Entries(NamedTuple):
    """k additions to cells of a table. cells: uint32 [k], row * measures + measure; deltas: signed
    integers [k]."""

    cells: NDArray[np.uint32]
    deltas: NDArray[Any]


@kernel
def _insertion_sort(entries: Entries) -> None:
    cells, deltas = entries.cells, entries.deltas
    for i in range(1, len(cells)):
        cell, delta = cells[i], deltas[i]
        at = i
        while at > 0 and cells[at - 1] > cell:
            cells[at], deltas[at] = cells[at - 1], deltas[at - 1]
            at -= 1
        cells[at], deltas[at] = cell, delta


@kernel
def _combine(entries: Entries) -> int:
    """Merge entries of ascending cells: one per cell, none that sums to 0. Returns how many are
    left, at the front of both arrays."""
    cells, deltas = entries.cells, entries.deltas
    n, i = 0, 0
    while i < len(cells):
        cell, total = cells[i], deltas[i]
        i += 1
        while i < len(cells) and cells[i] == cell:
            total += deltas[i]
            i += 1
        if total != 0:
            cells[n], deltas[n] = cell, total
            n += 1
    return n


@kernel
def combine_cells(entries: Entries, spare: Entries, starts: NDArray[np.int64]) -> tuple[int, bool]:
    """Sort k entries by cell and merge those of one cell; entries that sum to 0 are dropped.

    deltas: int64 [k]. `spare` has the shape of `entries`; starts: int64 [DIGITS], scratch space.
    All are overwritten. Returns how many entries are left, and whether they are at the front of
    `spare` and not of `entries`.
    """
    cells, deltas = entries.cells, entries.deltas
    spare_cells, spare_deltas = spare.cells, spare.deltas
    if len(cells) <= _FEW:
        _insertion_sort(entries)
        return _combine(entries), False
    most = np.uint32(0)
    for i in range(len(cells)):
        most = max(most, cells[i])
    swapped = False
    shift = np.uint32(0)
    while shift < 32 and most >> shift:
        starts[:] = 0
        for i in range(len(cells)):
            starts[(cells[i] >> shift) & np.uint32(DIGITS - 1)] += 1
        total = 0
        for digit in range(DIGITS):
            count = starts[digit]
            starts[digit] = total
            total += count
        for i in range(len(cells)):
            digit = (cells[i] >> shift) & np.uint32(DIGITS - 1)
            at = starts[digit]
            starts[digit] = at + 1
            spare_cells[at], spare_deltas[at] = cells[i], deltas[i]
        cells, spare_cells = spare_cells, cells
        deltas, spare_deltas = spare_deltas, deltas
        swapped = not swapped
        shift += np.uint32(_BITS)
    return _combine(spare if swapped else entries), swapped
