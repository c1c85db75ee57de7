"""What truly happened: the orders of a source as columns, checked, and questions to them.

Orders and spend are net of cancellations and returns, as the answers to label questions are: as far
as these were known when the time that is asked about was over. Of an order that was sent more than
once the newest amount is taken to have been known all along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from schemas.events import OrderEvent
from streams.core.events.decode import decode
from streams.core.events.events import KIND_OF_ORDER, KIND_PLACED, DecodeRules
from streams.core.events.records import ORDERS, Records
from streams.core.features import DAY_MS
from streams.core.hashing import mix
from streams.core.state.directory import UserDirectory
from streams.replay.records import Block

__all__ = ["History", "Undone", "check_orders", "history_of", "read_history"]

_DECODED: Final = 1 << 16  # records at a time
_ANY_TIME_MS: Final = 1 << 50
"""Ahead of its record an order may be by so much: nothing else is known of when it was sent."""


@dataclass(frozen=True)
class Undone:
    """Cancellations and returns: order int64 [m], of which one (index into the orders), ts_ms
    int64 [m], amount float64 [m] that the customer gets back; infinite for a cancellation."""

    order: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    amount: NDArray[np.float64]

    @staticmethod
    def nothing() -> Undone:
        """Nobody cancelled or returned anything."""
        return Undone(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class History:
    """Placed orders in time order: user int64 [n] (index into `users`), ts_ms int64 [n], amount
    float64 [n] in the shop's currency; the records they came from; and what was undone of them."""

    users: list[str]
    user: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    records: Records
    undone: Undone = field(default_factory=Undone.nothing)

    @property
    def first_ms(self) -> int:
        return int(self.ts_ms[0])

    @property
    def last_ms(self) -> int:
        return int(self.ts_ms[-1])

    def _between(self, start_ms: int, end_ms: int) -> slice:
        low, high = np.searchsorted(self.ts_ms, [start_ms, end_ms])
        return slice(int(low), int(high))

    def _net(
        self, part: slice, end_ms: int | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which orders of a part stand, bool [k], and what each is worth, float64 [k]: as known at
        a time, or in the end."""
        undone, amount = self.undone, self.amount[part]
        known = (undone.order >= part.start) & (undone.order < part.stop)
        if end_ms is not None:
            known &= undone.ts_ms < end_ms
        if not known.any():
            return np.ones(len(amount), np.bool_), amount
        order = undone.order[known] - part.start
        back = np.bincount(order, undone.amount[known], minlength=len(amount))
        return ~np.isinf(back), np.maximum(amount - back, 0.0)

    def orders(self, start_ms: int, end_ms: int) -> NDArray[np.int64]:
        """Orders of every user in [start, end), int64 [users]."""
        part = self._between(start_ms, end_ms)
        stands = self._net(part, end_ms)[0]
        return np.bincount(self.user[part][stands], minlength=len(self.users))

    def spend(self, start_ms: int, end_ms: int) -> NDArray[np.float64]:
        """Spend of every user in [start, end), float64 [users]."""
        part = self._between(start_ms, end_ms)
        net = self._net(part, end_ms)[1]
        total = np.bincount(self.user[part], net, minlength=len(self.users))
        return total.astype(np.float64)  # of no orders bincount makes integers

    def next_order_ms(self, cut_ms: int) -> NDArray[np.int64]:
        """When every user orders next, at `cut_ms` or later, int64 [users]; 0: never here. Orders
        that were cancelled later are none."""
        part = self._between(cut_ms, self.last_ms + 1)
        stands = self._net(part)[0]
        user, ts_ms = self.user[part][stands], self.ts_ms[part][stands]
        found = np.zeros(len(self.users), np.int64)
        found[user[::-1]] = ts_ms[::-1]  # the first one stays
        return found

    def standing(self) -> History:
        """The orders that were not cancelled in the end; users keep their numbers."""
        stands, net = self._net(slice(0, len(self.ts_ms)))
        user, ts_ms = self.user[stands], self.ts_ms[stands]
        return History(self.users, user, ts_ms, net[stands], self.records)

    def before(self, cut_ms: int, users: NDArray[np.int64] | None = None) -> History:
        """The orders before a time, as they were known then, of all or of `users` (int64 [k]);
        users keep their numbers."""
        part = self._between(0, cut_ms)
        stands, net = self._net(part, cut_ms)
        if users is not None:
            chosen = np.zeros(len(self.users), np.bool_)
            chosen[users] = True
            stands &= chosen[self.user[part]]
        user, ts_ms = self.user[part][stands], self.ts_ms[part][stands]
        return History(self.users, user, ts_ms, net[stands], self.records)


def read_history(blocks: Iterable[Block], currency: str, rates: Mapping[str, float]) -> History:
    """The history in a source's records. Raises SettingsError if nothing can be learned of it."""
    sent = [record for block in blocks for record in block if record.topic_kind == "orders"]
    records = Records.of(
        np.arange(len(sent)),
        np.array([record.timestamp_ms for record in sent], np.int64),
        [record.key for record in sent],
        [record.value for record in sent],
    )
    history = history_of(records, DecodeRules(_ANY_TIME_MS, currency, rates))
    _check(history)
    return history


def history_of(records: Records, rules: DecodeRules) -> History:
    """The history in records of orders, as columns. Raises SettingsError for an order in a currency
    that no rate is known for; other records that can't be used are no part of it."""
    users = UserDirectory()
    placed: list[tuple[NDArray[Any], ...]] = []
    others: list[tuple[NDArray[Any], ...]] = []
    for start in range(0, len(records), _DECODED):
        part = records[slice(start, start + _DECODED)]
        events = decode(part, ORDERS, rules)
        for reject in events.rejects:
            if reject.reason == "unknown_currency":
                _refuse(part.values[reject.position] or b"", rules)
        key, is_placed = mix(events.users.hashed, events.order), events.kind == KIND_PLACED
        at, other = np.flatnonzero(is_placed), np.flatnonzero(~is_placed)
        user = users.rows_of(events.users[at])[0]
        placed.append((key[at], user, events.ts_ms[at], events.amount_cents[at]))
        columns = (events.ts_ms, events.amount_cents, events.kind)
        others.append((key[other], *(column[other] for column in columns)))
    key, user, ts_ms, cents = _joined(placed, (np.uint64, np.int64, np.int64, np.int64))
    orders, first, which = np.unique(key, return_index=True, return_inverse=True)
    newest = _newest(which, ts_ms)
    in_order = np.argsort(first)
    place = np.empty(len(orders), np.int64)  # of each key among the orders
    place[in_order] = np.arange(len(orders))
    first, newest = first[in_order], newest[in_order]
    undone = _undone(orders, place, _joined(others, (np.uint64, np.int64, np.int64, np.int8)))
    names = users.names(slice(0, len(users))).tolist()
    return History(names, user[first], ts_ms[first], cents[newest] / 100, records, undone)


def _joined(parts: list[tuple[NDArray[Any], ...]], dtypes: tuple[Any, ...]) -> list[NDArray[Any]]:
    if not parts:
        return [np.empty(0, dtype) for dtype in dtypes]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _newest(which: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each group the position of its newest version, of the same time the last one."""
    by_group = np.lexsort((ts_ms, which))
    last = np.flatnonzero(np.diff(which[by_group], append=-1))
    return by_group[last]


def _undone(
    orders: NDArray[np.uint64], place: NDArray[np.int64], told: list[NDArray[Any]]
) -> Undone:
    """What events (key, ts_ms, cents, kind) undo of the orders with the keys `orders`, ascending,
    which are at `place`."""
    key, ts_ms, cents, kind = told
    if not len(orders):
        return Undone.nothing()
    at = np.minimum(np.searchsorted(orders, key), len(orders) - 1)
    known = orders[at] == key
    back = np.where(kind == KIND_OF_ORDER["cancelled"], np.inf, cents / 100)
    return Undone(place[at[known]], ts_ms[known], back[known])


def _refuse(value: bytes, rules: DecodeRules) -> None:
    order = msgspec.json.decode(value, type=OrderEvent)
    raise SettingsError(
        f"Order {order.order_id} is in {order.currency}, and no rate to {rules.currency} is "
        f"known. Set TIDELINE_STREAM_CURRENCY_RATES, such as {order.currency}=1.1."
    )


def _check(history: History) -> None:
    """Raises SettingsError if nothing can be learned of it."""
    low, high = (history.amount.min(), history.amount.max()) if len(history.amount) else (0, 0)
    check_orders(len(history.ts_ms), len(history.users), (*history.users, "")[0], low, high)
    if (np.diff(history.ts_ms) < 0).any():
        at = int(np.flatnonzero(np.diff(history.ts_ms) < 0)[0]) + 1
        raise SettingsError(
            f"The clock runs backwards: order {at + 1} is "
            f"{(history.ts_ms[at - 1] - history.ts_ms[at]) / DAY_MS:.1f} days older than the one "
            "before it. A source of orders has to be in time order."
        )


def check_orders(orders: int, users: int, user: str, low: float, high: float) -> None:
    """Raises SettingsError if nothing can be learned of so many orders of so many users, one of
    whom is `user`, whose amounts are from `low` to `high`."""
    if not orders:
        raise SettingsError("There are no orders in it; check the file and --map.")
    if users == 1:
        raise SettingsError(
            f"All {orders:,} orders are of one user ({user!r}), and with "
            "one there is nobody to compare. Check which column --map names as user."
        )
    if orders > 1 and low == high:
        raise SettingsError(
            f"Every order has the same amount ({low:g}), so value can't be judged. "
            "Check which column --map names as amount."
        )
