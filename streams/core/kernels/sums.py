"""Adds many small numbers to cells of an array that may be too narrow for some of them.

`numpy.add.at` would wrap around in silence; finding out beforehand costs more than the adding.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from streams.core.kernels.jit import kernel

__all__ = ["add_cells"]


@kernel
def add_cells(
    flat: NDArray[Any], cells: NDArray[Any], deltas: NDArray[Any], start: int, sign: int, most: int
) -> int:
    """`flat[cells[i]] += sign * deltas[i]` for i from `start` on, while the sums stay within
    -`most` - 1 to `most`. Returns the first i that was not done: k if all were.

    flat: signed integers [m]; cells: uint32 or int64 [k], each below m; deltas: integers [k].
    """
    for i in range(start, len(cells)):
        cell = cells[i]
        total = flat[cell] + sign * deltas[i]
        if total > most or total < -most - 1:
            return i
        flat[cell] = total
    return len(cells)
