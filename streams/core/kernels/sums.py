"""Adds many small numbers to cells of an array that may be too narrow for some of them.

`numpy.add.at` would wrap around in silence; finding out beforehand costs more than the adding.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.kernels.jit import kernel
from streams.core.kernels.memory import address, prefetch

__all__ = ["add_cells"]

_AHEAD: Final = 16  # cells ahead whose sum is fetched into the cache


@kernel
def add_cells(
    flat: NDArray[Any], cells: NDArray[Any], deltas: NDArray[Any], start: int, sign: int, most: int
) -> int:
    """`flat[cells[i]] += sign * deltas[i]` for i from `start` on, while the sums stay within
    -`most` - 1 to `most`. Returns the first i that was not done: k if all were.

    flat: signed integers [m]; cells: uint32 or int64 [k], each below m; deltas: integers [k].
    """
    base, size = address(flat), flat.itemsize
    for i in range(start, len(cells)):
        if i + _AHEAD < len(cells):
            prefetch(base + np.int64(cells[i + _AHEAD]) * size)
        cell = cells[i]
        total = flat[cell] + sign * deltas[i]
        if total > most or total < -most - 1:
            return i
        flat[cell] = total
    return len(cells)
