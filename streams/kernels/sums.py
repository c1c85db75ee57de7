"""Adds many small numbers to window sums, and stops before one overflows its dtype.

`numpy.add.at` would wrap around in silence, and a check beforehand costs more than the additions.
A table of sums is signed integers [cells, W]: a cell's windows lie side by side, so that an event
touches one place in memory however many windows cover it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.cells import Entries
from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["add_events", "take_from_window"]

_AHEAD: Final = 16  # entries between the one whose sums are prefetched and the present one


@kernel
def add_events(
    table: NDArray[Any],
    entries: Entries,
    ts_ms: NDArray[np.int64],
    begins_ms: NDArray[np.int64],
    start: int,
    most: int,
) -> int:
    """Add entry i at time ts_ms[i] to every window of its cell that has begun by then, for i from
    `start` on, as long as all sums stay within -`most` - 1 to `most`. Returns the first i that was
    not added: k if all were.

    ts_ms: int64 [k]; begins_ms: int64 [W], the first time that each window covers.
    """
    cells, deltas = entries.cells, entries.deltas
    base, size = address(table), table.strides[0]
    windows = len(begins_ms)
    for i in range(start, len(cells)):
        if i + _AHEAD < len(cells):
            ahead = base + np.int64(cells[i + _AHEAD]) * size
            prefetch(ahead)
            prefetch(ahead + size - 1)
        sums, at, delta = table[cells[i]], ts_ms[i], deltas[i]
        # No branch inside, so that the compiler can vectorise over windows.
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
def take_from_window(table: NDArray[Any], w: int, entries: Entries, start: int, most: int) -> int:
    """As `add_events`, but subtracts the entries, and from window w alone."""
    cells, deltas = entries.cells, entries.deltas
    base, size = address(table) + w * table.itemsize, table.strides[0]
    for i in range(start, len(cells)):
        if i + _AHEAD < len(cells):
            prefetch(base + np.int64(cells[i + _AHEAD]) * size)
        total = table[cells[i], w] - deltas[i]
        if total > most or total < -most - 1:
            return i
        table[cells[i], w] = total
    return len(cells)
