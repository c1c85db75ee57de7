"""Simulates browsing around real orders, because no real clickstream with user ids is to be had.

Every event carries `simulated: true`. Each placed order gets about `rate` events:

- a *buying session* in the 45 minutes before it: searches, views, cart adds, a few second thoughts
  (a cart add and its removal) of the items on the order;
- more often than not a *later session* within three weeks after it: reviews with ratings, views,
  wishlists, now and then a question to support.

`visitors` adds people who look and never buy: that share of the orders has one passing by, with a
buying session of about `rate` events at the same items, under a user id of their own.

The later session depends on the order behind it and never on what comes next, and only a buyer
about to buy is seen in the buying session: so browsing says nothing about who will stay that the
orders themselves don't, an hour later. A model's gain from simulated browsing is no evidence.

Every draw is a hash of (seed, order's event id, number of the draw): one order always gets the same
browsing, whatever else is replayed with it. Browsing ends with the last order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from schemas.events import CLICK_TYPES, EVENT_VERSION, ClickEvent, OrderEvent
from streams.replay.draws import poisson, sequences, uniform
from streams.replay.records import CLICKSTREAM, ORDERS, Block, Source, records

__all__ = ["WithBrowsing", "with_browsing"]

MAX_RATE: Final = 50.0
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_BUYING_MS: Final = 45 * _MINUTE_MS
_LATER_MS: Final = 30 * _MINUTE_MS
_LATER_MAX_DAYS: Final = 21.0
_LATER_ORDERS: Final = 0.7  # share of orders with a later session
_LATER_EVENTS: Final = 0.45  # share of their events that happen in it
_SHARES: Final = np.array([
    [0.57, 0.17, 0.19, 0.03, 0.02, 0.00, 0.01, 0.01],  # buying session
    [0.55, 0.14, 0.00, 0.00, 0.07, 0.20, 0.02, 0.02],  # later session
])  # fmt: skip
_CUMULATIVE: Final = np.cumsum(_SHARES, axis=1)
_CART_ADD, _CART_REMOVE, _SEARCH = (
    CLICK_TYPES.index(t) for t in ("cart_add", "cart_remove", "search")
)
_STARS: Final = np.cumsum([0.05, 0.06, 0.12, 0.30, 0.47])
_REVIEWS: Final = ("would not buy again", "not what I expected", "does the job", "good", "love it")
# Which draw of an event decides what; the order's own draws have their own numbers.
_WHEN, _TYPE, _ITEM, _STAR = range(4)
_COUNT, _LATER, _LAG, _VISITOR = range(1_000_000, 1_000_004)

_decode_order: Final = msgspec.json.Decoder(OrderEvent).decode
_encode: Final = msgspec.json.Encoder().encode
_time: Final = attrgetter("timestamp_ms")


@dataclass(frozen=True)
class WithBrowsing:
    """A source with simulated browsing woven in; made by `with_browsing`."""

    source: Source
    rate: float
    seed: int
    visitors: float = 0.0

    @property
    def expected_records(self) -> int | None:
        orders = self.source.expected_records
        if orders is None:
            return None
        return round(orders * (1 + self.rate * (1 + self.visitors)))

    def summary(self) -> dict[str, Any]:
        described = f"simulated around each order, about {self.rate:g} events, seed {self.seed}"
        if self.visitors:
            described += f"; and visitors who never buy, one per {1 / self.visitors:.0f} orders"
        return {**self.source.summary(), "browsing": described}

    def __iter__(self) -> Iterator[Block]:
        waiting: Block = []
        end_ms = 0
        for block in self.source:
            end_ms = block[-1].timestamp_ms
            waiting += block
            orders = [_decode_order(r.value) for r in block if r.topic_kind == ORDERS]
            orders = [o for o in orders if o.type == "placed"]
            waiting += _browse(orders, self.rate, self.seed, _LATER_ORDERS)
            passing = _visitors(orders, self.visitors, self.seed)
            waiting += _browse(passing, self.rate, self.seed, later_orders=0.0)
            waiting.sort(key=_time)  # stable, and quick: two runs that are nearly sorted
            # No order still to come can bring browsing from before this.
            ready = _count_before(waiting, end_ms - _BUYING_MS)
            if ready:
                yield waiting[:ready]
                del waiting[:ready]
        ready = _count_before(waiting, end_ms + 1)
        if ready:
            yield waiting[:ready]


def with_browsing(
    source: Source, rate: float = 6.0, seed: int = 0, visitors: float = 0.0
) -> WithBrowsing:
    """Weave about `rate` simulated events per placed order into `source`, in time order, and
    `visitors` per order who browse as much and never buy.

    Raises SettingsError for a rate below 0 or above 50, and for visitors below 0 or above 1.
    """
    if not 0 <= rate <= MAX_RATE:
        raise SettingsError(f"browsing rate is {rate}; use 0 to {MAX_RATE:g} events per order.")
    if not 0 <= visitors <= 1:
        raise SettingsError(f"visitors is {visitors}; use 0 to 1 visitors per order.")
    return WithBrowsing(source, rate, seed, visitors)


def _count_before(block: Block, ts_ms: int) -> int:
    low, high = 0, len(block)
    while low < high:
        middle = (low + high) // 2
        if block[middle].timestamp_ms < ts_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _visitors(orders: list[OrderEvent], share: float, seed: int) -> list[OrderEvent]:
    """The orders that a visitor passes by, each in that visitor's name: to be browsed around only.

    Which they are depends on nothing but the order itself, as with all browsing.
    """
    if not orders or share == 0:
        return []
    chosen = np.flatnonzero(uniform(_sequences(orders, seed), _VISITOR) < share)
    names = [(orders[i], f"visitor-{orders[i].event_id}") for i in chosen.tolist()]
    return [msgspec.structs.replace(o, event_id=name, user_id=name) for o, name in names]


def _browse(orders: list[OrderEvent], rate: float, seed: int, later_orders: float) -> Block:
    """The events around placed orders, in no particular order; `later_orders` of them bring a later
    session."""
    if not orders or rate == 0:
        return []
    base = _sequences(orders, seed)
    count = np.searchsorted(poisson(rate), uniform(base, _COUNT)).astype(np.int64)
    lag_days = 0.25 + (_LATER_MAX_DAYS - 0.5) * uniform(base, _LAG) ** 2
    with_later = uniform(base, _LATER) < later_orders
    later_count = np.where(with_later, count * _LATER_EVENTS, 0).astype(np.int64)

    owner = np.repeat(np.arange(len(orders)), count)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    buying_count = (count - later_count)[owner]
    later = slot >= buying_count
    place = np.where(later, slot - buying_count, slot)
    of = np.where(later, later_count[owner], buying_count)

    def draw(what: int) -> NDArray[np.float64]:
        return uniform(base[owner], slot * 4 + what)

    # One event in each n-th of the session, so that slots are in time order.
    share = (place + draw(_WHEN)) / of
    ordered_ms = np.array([o.ts for o in orders], np.int64)[owner]
    start_ms = np.where(later, ordered_ms + (lag_days * _DAY_MS)[owner], ordered_ms - _BUYING_MS)
    length_ms = np.where(later, _LATER_MS, _BUYING_MS - 1_000)
    ts_ms = (start_ms + share * length_ms).astype(np.int64)

    u = draw(_TYPE)
    kind = np.where(
        later, np.searchsorted(_CUMULATIVE[1], u), np.searchsorted(_CUMULATIVE[0], u)
    ).clip(max=len(CLICK_TYPES) - 1)
    lines = np.array([len(o.lines) for o in orders])[owner]
    item = (draw(_ITEM) * lines).astype(np.int64)
    # What leaves the cart was put there just before: the event in front becomes that cart add.
    kind[(kind == _CART_REMOVE) & (place == 0)] = _CART_ADD
    removed = np.flatnonzero(kind == _CART_REMOVE)[::-1]
    for i in removed.tolist():
        if kind[i] == _CART_REMOVE:
            kind[i - 1], item[i - 1] = _CART_ADD, item[i]
    kind[lines == 0] = _SEARCH  # an order without lines names no item
    stars = np.searchsorted(_STARS, draw(_STAR)).clip(max=4)
    return _render(orders, base, owner, slot, later, kind, item, stars, ts_ms)


def _render(
    orders: list[OrderEvent],
    base: NDArray[np.uint64],
    owner: NDArray[np.int64],
    slot: NDArray[np.int64],
    later: NDArray[np.bool_],
    kind: NDArray[np.int64],
    item: NDArray[np.int64],
    stars: NDArray[np.int64],
    ts_ms: NDArray[np.int64],
) -> Block:
    names = [f"{b:016x}" for b in base.tolist()]
    keys: list[bytes] = []
    values: list[bytes] = []
    times = ts_ms.tolist()
    columns = zip(
        owner.tolist(), slot.tolist(), later.tolist(), kind.tolist(), item.tolist(),
        stars.tolist(), times, strict=True,
    )  # fmt: skip
    for i, k, after, code, which, star, ts in columns:
        order, name, what = orders[i], names[i], CLICK_TYPES[code]
        line = order.lines[which] if order.lines else None
        review = what == "review"
        search = what == "search"
        event = ClickEvent(
            f"b{name}-{k}",
            order.user_id,
            what,  # type: ignore[arg-type]  # one of CLICK_TYPES, which is what it wants
            ts,
            EVENT_VERSION,
            f"s{name}-{int(after)}",
            None if search or line is None or what == "support" else line.item_id,
            None if line is None else line.category,
            _query(line.category if line else None) if search else None,
            star + 1.0 if review else None,
            _REVIEWS[star] if review else None,
            True,
        )
        keys.append(order.user_id.encode())
        values.append(_encode(event))
    return records([CLICKSTREAM] * len(keys), keys, values, times)


def _query(category: str | None) -> str:
    return "offers" if category is None else category.lower()


def _sequences(orders: list[OrderEvent], seed: int) -> NDArray[np.uint64]:
    return sequences([o.event_id for o in orders], seed)
