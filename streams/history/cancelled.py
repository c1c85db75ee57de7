"""Orders of a file that were cancelled before it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.history.rows import Cells
from streams.history.table import RowTable

__all__ = ["Cancelled", "cancelled_orders"]


@dataclass(frozen=True)
class Cancelled:
    """c orders that count for nothing; but what the topics say of them has to find them."""

    user: Cells
    order: Cells
    ts_ms: NDArray[np.int64]


def cancelled_orders(table: RowTable, reasons: Sequence[str]) -> Cancelled:
    """The orders that were left out for these `reasons`, if they have a user, an id and a time."""
    user, order = table.user.codes, table.order.codes
    left = table.reasons.left_for(*reasons)
    rows = np.flatnonzero(left & (user >= 0) & (order >= 0) & ~table.time_blank)
    _, first = np.unique(np.stack([user[rows], order[rows]]), axis=1, return_index=True)
    rows = rows[np.sort(first)]
    return Cancelled(table.user.take(rows), table.order.take(rows), table.ts_ms[rows])
