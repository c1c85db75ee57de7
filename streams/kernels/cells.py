"""Sorts the cells of a window's log and adds up what is said of the same cell.

numpy's stable sort of 32-bit numbers compares them; counting digits takes a fifth of its time here.
(Least significant digit first: Knuth, vol. 3, 5.2.5, algorithm R.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = ["DIGITS", "combine_cells"]

_BITS: Final = 11
DIGITS: Final = 1 << _BITS
"""Counters that sorting needs."""
_FEW: Final = 64  # so few are sorted by insertion: cheaper than clearing the counters


@kernel
def _insertion_sort(cells: NDArray[np.uint32], deltas: NDArray[np.int64]) -> None:
    for i in range(1, len(cells)):
        cell, delta = cells[i], deltas[i]
        at = i
        while at > 0 and cells[at - 1] > cell:
            cells[at], deltas[at] = cells[at - 1], deltas[at - 1]
            at -= 1
        cells[at], deltas[at] = cell, delta


@kernel
def _combine(cells: NDArray[np.uint32], deltas: NDArray[np.int64]) -> int:
    """Of ascending cells, one entry each, without those that sum to 0. Returns how many are left,
    at the front of both arrays."""
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
def combine_cells(
    cells: NDArray[np.uint32],
    deltas: NDArray[np.int64],
    spare_cells: NDArray[np.uint32],
    spare_deltas: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> tuple[int, bool]:
    """Sort k cells with their deltas, one entry per cell, entries that sum to 0 dropped.

    All arrays are [k], but for `starts`, which is [DIGITS]; all are written to. Returns how many
    entries are left, and whether they are at the front of the spare arrays.
    """
    if len(cells) <= _FEW:
        _insertion_sort(cells, deltas)
        return _combine(cells, deltas), False
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
    return _combine(cells, deltas), swapped
