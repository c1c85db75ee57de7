"""What truly happened: the orders of a source as columns, checked, and questions to them.

Orders and spend are net of cancellations and returns, as the answers to label questions are: as far
as these were known when the time that is asked about was over. Of an order that was sent more than
once the newest amount is taken to have been known all along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from schemas.events import OrderEvent
from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.replay.records import Block

__all__ = ["History", "read_history"]


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

    def _net(self, end_ms: int | None = None) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which orders stand, bool [n], and what each is worth, float64 [n]: as known at a time,
        or in the end."""
        undone = self.undone
        known = np.flatnonzero(undone.ts_ms < end_ms) if end_ms is not None else slice(None)
        back = np.bincount(undone.order[known], undone.amount[known], minlength=len(self.amount))
        return ~np.isinf(back), np.maximum(self.amount - back, 0.0)

    def orders(self, start_ms: int, end_ms: int) -> NDArray[np.int64]:
        """Orders of every user in [start, end), int64 [users]."""
        part = self._between(start_ms, end_ms)
        stands = self._net(end_ms)[0][part]
        return np.bincount(self.user[part][stands], minlength=len(self.users))

    def spend(self, start_ms: int, end_ms: int) -> NDArray[np.float64]:
        """Spend of every user in [start, end), float64 [users]."""
        part = self._between(start_ms, end_ms)
        net = self._net(end_ms)[1][part]
        total = np.bincount(self.user[part], net, minlength=len(self.users))
        return total.astype(np.float64)  # of no orders bincount makes integers

    def next_order_ms(self, cut_ms: int) -> NDArray[np.int64]:
        """When every user orders next, at `cut_ms` or later, int64 [users]; 0: never here. Orders
        that were cancelled later are none."""
        part = self._between(cut_ms, self.last_ms + 1)
        stands = self._net()[0][part]
        user, ts_ms = self.user[part][stands], self.ts_ms[part][stands]
        found = np.zeros(len(self.users), np.int64)
        found[user[::-1]] = ts_ms[::-1]  # the first one stays
        return found

    def standing(self) -> History:
        """The orders that were not cancelled in the end; users keep their numbers."""
        return self.before(self.last_ms + 1)

    def before(self, cut_ms: int) -> History:
        """The orders before a time, as they were known then; users keep their numbers."""
        part = self._between(0, cut_ms)
        every, net = self._net(cut_ms)
        stands = every[part]
        user, ts_ms = self.user[part][stands], self.ts_ms[part][stands]
        return History(self.users, user, ts_ms, net[part][stands], self.records)


def read_history(blocks: Iterable[Block], currency: str, rates: Mapping[str, float]) -> History:
    """The history in a source's records. Raises SettingsError if nothing can be learned of it."""
    records = [record for block in blocks for record in block if record.topic_kind == "orders"]
    decoder = msgspec.json.Decoder(OrderEvent)
    number: dict[str, int] = {}
    place: dict[tuple[str, str], int] = {}
    user: list[int] = []
    ts: list[int] = []
    version: list[int] = []
    amount: list[float] = []
    others: list[tuple[OrderEvent, float]] = []
    for record in records:
        order = decoder.decode(record.value)
        rate = rates.get(order.currency or currency)
        if rate is None:
            raise SettingsError(
                f"Order {order.order_id} is in {order.currency}, and no rate to {currency} is "
                f"known. Set TIDELINE_STREAM_CURRENCY_RATES, such as {order.currency}=1.1."
            )
        if order.type != "placed":
            others.append((order, order.amount * rate))
            continue
        at = place.setdefault((order.user_id, order.order_id), len(user))
        if at == len(user):
            user.append(number.setdefault(order.user_id, len(number)))
            ts.append(order.ts)
            version.append(order.ts)
            amount.append(order.amount * rate)
        elif order.ts >= version[at]:
            version[at], amount[at] = order.ts, order.amount * rate
    history = History(
        list(number),
        np.array(user, np.int64),
        np.array(ts, np.int64),
        np.array(amount),
        Records.of(
            np.arange(len(records)),
            np.array([r.timestamp_ms for r in records], np.int64),
            [r.key for r in records],
            [r.value for r in records],
        ),
        _undone(others, place),
    )
    _check(history)
    return history


def _undone(events: list[tuple[OrderEvent, float]], place: Mapping[tuple[str, str], int]) -> Undone:
    """What `events`, each with its amount in the shop's currency, undo of the orders at `place`."""
    known = [
        (place[order.user_id, order.order_id], order.ts, amount, order.type)
        for order, amount in events
        if (order.user_id, order.order_id) in place
    ]
    return Undone(
        np.array([at for at, _, _, _ in known], np.int64),
        np.array([ts for _, ts, _, _ in known], np.int64),
        np.array([np.inf if kind == "cancelled" else back for _, _, back, kind in known]),
    )


def _check(history: History) -> None:
    if not len(history.ts_ms):
        raise SettingsError("There are no orders in it; check the file and --map.")
    if len(history.users) == 1:
        raise SettingsError(
            f"All {len(history.ts_ms):,} orders are of one user ({history.users[0]!r}), and with "
            "one there is nobody to compare. Check which column --map names as user."
        )
    if len(history.ts_ms) > 1 and np.ptp(history.amount) == 0.0:
        raise SettingsError(
            f"Every order has the same amount ({history.amount[0]:g}), so value can't be judged. "
            "Check which column --map names as amount."
        )
    if (np.diff(history.ts_ms) < 0).any():
        at = int(np.flatnonzero(np.diff(history.ts_ms) < 0)[0]) + 1
        raise SettingsError(
            f"The clock runs backwards: order {at + 1} is "
            f"{(history.ts_ms[at - 1] - history.ts_ms[at]) / DAY_MS:.1f} days older than the one "
            "before it. A source of orders has to be in time order."
        )
