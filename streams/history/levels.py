"""Whether an amount stands for the order, repeated on its rows, or for each line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError

__all__ = ["Groups", "Level", "amount_level", "first_known", "group_rows", "once_or_sum"]

Level = Literal["order", "line"]
CLEAR: Final = 10
_LINE_NAMES: Final = ("line", "item", "salesvalue", "extended", "unit", "sku")


@dataclass(frozen=True)
class Groups:
    """Rows sorted into orders: `row` int64 [n] (which row comes at each place), `start` int64 [m]
    (where each order begins), `named` bool [m]: whether an order id made it, not only a time."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    named: NDArray[np.bool_]

    def of_rows(self) -> NDArray[np.int64]:
        """The order of each row, int64 [n], in the rows' own order."""
        number = np.zeros(len(self.row), np.int64)
        number[self.start[1:]] = 1
        found = np.empty(len(self.row), np.int64)
        found[self.row] = np.cumsum(number)
        return found


def group_rows(
    user: NDArray[np.int64], order: NDArray[np.int64], ts_ms: NDArray[np.int64]
) -> Groups:
    """Rows of one user with the same order id (or, where `order` is -1, the same time) are one
    order. All int64 [n]; rows keep their sequence within an order."""
    named = order >= 0
    # times and codes don't meet: a code is a small number, and times are moved below all codes
    key = np.where(named, order, ts_ms - np.int64(2) ** 60)
    row = np.lexsort((key, user))
    same = (user[row[1:]] == user[row[:-1]]) & (key[row[1:]] == key[row[:-1]])
    start = np.flatnonzero(np.r_[True, ~same]) if len(row) else np.zeros(0, np.int64)
    return Groups(row, start.astype(np.int64), named[row[start]])


def _repeats(groups: Groups, values: NDArray[np.float64]) -> tuple[int, int, int]:
    """Orders by id with two values or more; those of them in which all are the same; and orders
    that have rows with and without one."""
    if not len(groups.start):
        return 0, 0, 0
    ordered = values[groups.row]
    known = np.add.reduceat((~np.isnan(ordered)).astype(np.int64), groups.start)
    size = np.diff(np.append(groups.start, len(ordered)))
    several = (known >= 2) & groups.named
    low, high = (f.reduceat(ordered, groups.start) for f in (np.fmin, np.fmax))
    gaps = groups.named & (known >= 1) & (known < size)
    return int(several.sum()), int((several & (low == high)).sum()), int(gaps.sum())


def amount_level(
    column: str,
    names: Mapping[str, bool],
    groups: Groups,
    amount: NDArray[np.float64],
    of_line: NDArray[np.float64] | None,
) -> Level:
    """What the amounts of `column` are; `amount` and `of_line` (price times quantity) float64 [n].

    `names[column]` says whether its name is one that orders' totals have. Raises SettingsError if
    the rows show neither.
    """
    several, same, gaps = _repeats(groups, amount)
    plain = "".join(c for c in column.lower() if c.isalnum())
    if gaps and not (several - same):
        return "order"
    if not several:
        return "order" if names.get(column, False) else "line"
    if of_line is not None:
        both = ~np.isnan(amount) & ~np.isnan(of_line)
        if (
            both.any()
            and np.isclose(np.abs(amount[both]), np.abs(of_line[both]), atol=0.011).mean() > 0.9
        ):
            return "line"
    if any(word in plain for word in _LINE_NAMES):
        return "line"
    differ = several - same
    of_order = names.get(column, False)
    # a total repeats by its name; under another name, a few orders of equal lines show nothing
    if same > CLEAR * differ and (of_order or same >= CLEAR):
        return "order"
    if same <= differ:
        return "line"
    others = f", and in {differ:,} it is not" if differ else ""
    raise SettingsError(
        f"Column {column}: in {same:,} of {several:,} orders with several rows it is the same in "
        f"all of them{others}. Say whether it is the order's total or each line's: "
        "--amount-per order or --amount-per line."
    )


def once_or_sum(groups: Groups, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A value per order, float64 [m]: the first one where orders repeat it, else the sum; 0 where
    there is none."""
    if not len(groups.start):
        return np.zeros(0)
    ordered = values[groups.row]
    several, same, _ = _repeats(groups, values)
    if several == same:
        return first_known(groups, values)
    return np.asarray(np.add.reduceat(np.nan_to_num(ordered), groups.start), np.float64)


def first_known(groups: Groups, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first value of each order that there is, float64 [m]; 0 where there is none."""
    ordered = values[groups.row]
    at = np.where(np.isnan(ordered), len(ordered), np.arange(len(ordered)))
    first = np.minimum.reduceat(at, groups.start)
    return np.append(np.nan_to_num(ordered), 0.0)[first]
