"""Says which order a cancelling invoice takes back, line by line: no column of the file does.

The rule: the newest earlier order of the same customer that has the same product at the same price,
and as many of it left as are taken back. What one cancellation took is not there for the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.history.rows import Cells

__all__ = ["InvoiceLines", "orders_reversed"]

LOOKED_BACK: Final = 100
"""Of a customer's orders with the same product at the same price, so many are looked at: a million
lines of one customer take seconds and not hours."""
_PRICE_STEPS: Final = 10_000
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class InvoiceLines:
    """n lines of invoices; `back` bool [n]: the line takes something back."""

    user: Ints
    order: Cells
    item: Cells
    ts_ms: Ints
    quantity: NDArray[np.float64]
    """Without its sign."""
    worth: NDArray[np.float64]
    """Price times quantity, without its sign."""
    back: NDArray[np.bool_]

    def take(self, rows: Ints) -> InvoiceLines:
        """Some of the lines."""
        return InvoiceLines(
            self.user[rows], self.order.take(rows), self.item.take(rows), self.ts_ms[rows],
            self.quantity[rows], self.worth[rows], self.back[rows],
        )  # fmt: skip


def orders_reversed(lines: InvoiceLines) -> Ints:
    """The code of the order that each line takes back, int64 [n]; -1 for none."""
    reverses = np.full(len(lines.back), -1, np.int64)
    able = (lines.order.codes >= 0) & (lines.item.codes >= 0) & (lines.quantity > 0)
    if not (able & lines.back).any():
        return reverses
    price = np.round(lines.worth / np.where(able, lines.quantity, 1.0) * _PRICE_STEPS)
    key = _numbered(lines.user, lines.item.codes, price)
    taken_back = np.zeros(int(key.max()) + 1, np.bool_)
    taken_back[key[able & lines.back]] = True
    rows = np.flatnonzero(able & taken_back[key])
    # of one time: by id, so that the sequence of the file decides nothing
    ids = np.unique(lines.order.take(rows).codes)
    rank = np.zeros(int(ids.max()) + 1, np.int64)
    rank[ids[np.argsort([str(lines.order.texts[i]) for i in ids.tolist()])]] = np.arange(len(ids))
    rows = rows[
        np.lexsort((lines.quantity[rows], rank[lines.order.codes[rows]], lines.back[rows],
                    lines.ts_ms[rows], key[rows]))
    ]  # fmt: skip
    columns = (rows, key[rows], lines.back[rows], lines.order.codes[rows], lines.quantity[rows])
    last, left = -1, list[list[float]]()  # [order, how many are left], the newest at the end
    for row, of_key, back, order, quantity in zip(*(c.tolist() for c in columns), strict=True):
        if of_key != last:
            last, left = of_key, []
        if not back:
            if left and left[-1][0] == order:
                left[-1][1] += quantity
            else:
                left.append([order, quantity])
            continue
        for found in islice(reversed(left), LOOKED_BACK):
            if found[1] >= quantity:
                found[1] -= quantity
                reverses[row] = found[0]
                break
        while left and left[-1][1] <= 0:
            left.pop()
    return reverses


def _numbered(*columns: NDArray[np.int64] | NDArray[np.float64]) -> Ints:
    """Equal rows of some columns get the same number from 0 on, int64 [n]."""
    found = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        number = np.unique(column, return_inverse=True)[1].reshape(-1)
        found = np.unique(found * (int(number.max()) + 1) + number, return_inverse=True)[1]
    return found.reshape(-1)
