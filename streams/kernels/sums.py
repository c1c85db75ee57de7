"""Adds many small numbers to window sums, which may be too narrow for some of the results.

`numpy.add.at` would wrap around in silence; finding out beforehand costs more than the adding.
A table of sums is signed integers [cells, W]: a cell's windows lie side by side, so that an event
touches one place however many windows it is in.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["add_events", "take_from_window"]

_AHEAD: Final = 16  # cells ahead whose sums are fetched into the cache


@kernel
def add_events(
    table: NDArray[Any],
    cells: NDArray[np.uint32],
    ts_ms: NDArray[np.int64],
    deltas: NDArray[Any],
    begins_ms: NDArray[np.int64],
    start: int,
    most: int,
) -> int:
    """Add deltas[i] at time ts_ms[i] to every window of cells[i] that has begun by then, for i from
    `start` on, while all sums stay within -`most` - 1 to `most`. Returns the first i that was not
    done: k if all were.

    begins_ms: int64 [W], the first time that each window covers.
    """
    base, size = address(table), table.strides[0]
    windows = len(begins_ms)
    for i in range(start, len(cells)):
        if i + _AHEAD < len(cells):
            ahead = base + np.int64(cells[i + _AHEAD]) * size
            prefetch(ahead)
            prefetch(ahead + size - 1)
        sums, at, delta = table[cells[i]], ts_ms[i], deltas[i]
        # Without branches within, so that the compiler takes many windows at once.
        beyond: Any = 0
        for w in range(windows):
            total = np.int64(sums[w]) + (delta if at >= begins_ms[w] else 0)
            beyond |= (total > most) | (total < -most - 1)
        if beyond:
            return i
        for w in range(windows):
            sums[w] += delta if at >= begins_ms[w] else 0
    return len(cells)


@kernel
def take_from_window(
    table: NDArray[Any],
    w: int,
    cells: NDArray[np.uint32],
    deltas: NDArray[Any],
    start: int,
    most: int,
) -> int:
    """As `add_events`, but takes deltas[i] from window w alone."""
    base, size = address(table) + w * table.itemsize, table.strides[0]
    for i in range(start, len(cells)):
        if i + _AHEAD < len(cells):
            prefetch(base + np.int64(cells[i + _AHEAD]) * size)
        total = table[cells[i], w] - deltas[i]
        if total > most or total < -most - 1:
            return i
        table[cells[i], w] = total
    return len(cells)
