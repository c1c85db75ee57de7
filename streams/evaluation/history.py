"""What truly happened: the orders of a source as columns, checked, and questions to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
class History:
    """Placed orders in time order: user int64 [n] (index into `users`), ts_ms int64 [n], amount
    float64 [n] in the shop's currency; and the records they came from, returns among them."""

    users: list[str]
    user: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    records: Records

    @property
    def first_ms(self) -> int:
        return int(self.ts_ms[0])

    @property
    def last_ms(self) -> int:
        return int(self.ts_ms[-1])

    def _between(self, start_ms: int, end_ms: int) -> slice:
        low, high = np.searchsorted(self.ts_ms, [start_ms, end_ms])
        return slice(int(low), int(high))

    def orders(self, start_ms: int, end_ms: int) -> NDArray[np.int64]:
        """Orders of every user in [start, end), int64 [users]."""
        return np.bincount(self.user[self._between(start_ms, end_ms)], minlength=len(self.users))

    def spend(self, start_ms: int, end_ms: int) -> NDArray[np.float64]:
        """Spend of every user in [start, end), float64 [users]."""
        part = self._between(start_ms, end_ms)
        total = np.bincount(self.user[part], self.amount[part], minlength=len(self.users))
        return total.astype(np.float64)  # of no orders bincount makes integers

    def next_order_ms(self, cut_ms: int) -> NDArray[np.int64]:
        """When every user orders next, at `cut_ms` or later, int64 [users]; 0: never here."""
        part = self._between(cut_ms, self.last_ms + 1)
        found = np.zeros(len(self.users), np.int64)
        found[self.user[part][::-1]] = self.ts_ms[part][::-1]  # the first one stays
        return found

    def before(self, cut_ms: int) -> History:
        """The orders before a time; users keep their numbers."""
        part = self._between(0, cut_ms)
        return History(
            self.users, self.user[part], self.ts_ms[part], self.amount[part], self.records
        )


def read_history(blocks: Iterable[Block], currency: str, rates: Mapping[str, float]) -> History:
    """The history in a source's records. Raises SettingsError if nothing can be learned of it."""
    records = [record for block in blocks for record in block if record.topic_kind == "orders"]
    decoder = msgspec.json.Decoder(OrderEvent)
    number: dict[str, int] = {}
    user: list[int] = []
    ts: list[int] = []
    amount: list[float] = []
    for record in records:
        order = decoder.decode(record.value)
        if order.type != "placed":
            continue
        rate = rates.get(order.currency or currency)
        if rate is None:
            raise SettingsError(
                f"Order {order.order_id} is in {order.currency}, and no rate to {currency} is "
                f"known. Set TIDELINE_STREAM_CURRENCY_RATES, such as {order.currency}=1.1."
            )
        user.append(number.setdefault(order.user_id, len(number)))
        ts.append(order.ts)
        amount.append(order.amount * rate)
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
    )
    _check(history)
    return history


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
