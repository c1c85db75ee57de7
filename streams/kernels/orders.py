"""What order events do to the orders that they name, and what that changes for their customers.

An order is placed when the first `placed` of it says; its amounts are those of the `placed` with
the latest event time, of two with the same time the one that came last (of one in a topic and one
in a history, the topic's). It counts unless it is
cancelled, by its amount less what was returned, never below 0. So the order in which its events
come does not matter, but for that of two versions of the same time.

A cancellation or return whose order is not known is of an order that was forgotten, if its customer
has one from before the longest window; else of one that is yet to come, or from before the first
record. In the first case it takes from the lifetime totals what it names, never more than is there;
should its order come after all, that is given back.

Events are taken one by one, and an order's age is measured from the event that names it: so nothing
depends on how a stream is cut into batches.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.features import COUNT_MEASURES, GAP_ORDERS
from streams.kernels.counting import Cells, put
from streams.kernels.jit import kernel

__all__ = [
    "Changes",
    "Customers",
    "KnownOrders",
    "OrderEvents",
    "order_cells",
    "read_orders",
]

_Longs = NDArray[np.int64]

_PLACED: Final = 1
_CANCELLED: Final = 2
_COUPON: Final = 4
_TAKEN: Final = 8  # a lifetime order was taken; placed_ms: its time in the ring, or 0
_OF_HISTORY: Final = 16  # amounts are a history's
_REPORTED, _PLACED_BEFORE = 3, 4  # kinds of events
_DAY_MS: Final = 86_400_000
_ORDERS: Final = COUNT_MEASURES.index("orders")
_ORDER_LINES: Final = COUNT_MEASURES.index("order_lines")
_COUPON_ORDERS: Final = COUNT_MEASURES.index("coupon_orders")


class OrderEvents(NamedTuple):
    """Order events in the order of their arrival, [k]. kind: 0 placed, 1 cancelled, 2 returned;
    of a history 3 returned, as a shop's export reports it, and 4 placed."""

    rows: _Longs
    owner: NDArray[np.uint64]
    kind: NDArray[np.int8]
    ts_ms: _Longs
    cents: _Longs
    discount_cents: _Longs
    lines: NDArray[np.int32]
    coupon: NDArray[np.bool_]


class KnownOrders(NamedTuple):
    """The columns of `ORDER` and the map's values, as they are in the state."""

    owner: NDArray[np.uint64]
    placed_ms: _Longs
    version_ms: _Longs
    cents: _Longs
    discount_cents: _Longs
    returned_cents: _Longs
    unmatched_cents: _Longs
    lines: NDArray[np.int16]
    state: NDArray[np.uint8]
    day: NDArray[np.int32]


class Customers(NamedTuple):
    """Columns of the state; `last_order_ms` is the last time seen of that kind."""

    orders: NDArray[np.int32]
    revenue_cents: _Longs
    first_order_ms: _Longs
    last_order_ms: _Longs
    recent_orders_ms: _Longs
    alert_orders: NDArray[np.int32]
    asked_ms: _Longs
    due_ms: _Longs
    question_orders: NDArray[np.int32]
    question_cents: _Longs


class Changes(NamedTuple):
    """What is added to a customer's sums at a time, or taken from them; int64 [m]."""

    rows: _Longs
    ts_ms: _Longs
    orders: _Longs
    lines: _Longs
    coupons: _Longs
    cents: _Longs
    discount_cents: _Longs


@kernel
def _count(ring: _Longs) -> int:
    n = 0
    while n < GAP_ORDERS and ring[n] != 0:
        n += 1
    return n


@kernel
def _remove(ring: _Longs, ts_ms: Any) -> None:
    n = _count(ring)
    for at in range(n):
        if ring[at] == ts_ms:
            for j in range(at, n - 1):
                ring[j] = ring[j + 1]
            ring[n - 1] = 0
            return


@kernel
def _insert(ring: _Longs, orders: int, ts_ms: Any) -> None:
    """The ring holds the newest of the customer's `orders`, without a gap: where one was removed,
    and older ones are known to be missing, an older one may not close up."""
    n = _count(ring)
    if n < orders and n > 0 and ts_ms < ring[n - 1]:
        return
    at = min(n, GAP_ORDERS - 1)
    if n == GAP_ORDERS and ts_ms <= ring[at]:
        return
    while at > 0 and ring[at - 1] < ts_ms:
        ring[at] = ring[at - 1]
        at -= 1
    ring[at] = ts_ms


@kernel
def _see_to(c: Customers, row: int) -> None:
    """What follows from a customer's number of orders and the ring."""
    ring = c.recent_orders_ms[row]
    if c.orders[row] <= 0:
        c.orders[row] = 0
        ring[:] = 0
    n = _count(ring)
    if n >= c.orders[row]:
        c.first_order_ms[row] = ring[n - 1] if n > 0 else 0
    c.last_order_ms[row] = ring[0]
    c.alert_orders[row] = min(c.alert_orders[row], c.orders[row])


@kernel
def _has_forgotten(c: Customers, row: int, begin_ms: int) -> bool:
    """Whether the customer has orders from before `begin_ms`."""
    if c.first_order_ms[row] == 0 or c.first_order_ms[row] >= begin_ms:
        return False
    ring, later = c.recent_orders_ms[row], 0
    while later < GAP_ORDERS and ring[later] >= begin_ms:
        later += 1
    return bool(c.orders[row] > later)


@kernel
def _take_cents(known: KnownOrders, c: Customers, row: int, at: int, cents: int) -> None:
    """Take from the lifetime value for an order that is forgotten."""
    taken = max(min(cents, c.revenue_cents[row]), 0)
    c.revenue_cents[row] -= taken
    known.cents[at] += taken


@kernel
def _take(known: KnownOrders, c: Customers, row: int, at: int, cents: int, begin_ms: int) -> None:
    """Take an order that is forgotten from the lifetime totals: of those that the ring has from
    before `begin_ms`, the newest, since it is the likeliest to be cancelled."""
    _take_cents(known, c, row, at, cents - known.cents[at])
    ring = c.recent_orders_ms[row]
    for j in range(_count(ring)):
        if ring[j] < begin_ms:
            known.placed_ms[at] = ring[j]
            _remove(ring, ring[j])
            break
    c.orders[row] -= 1
    known.state[at] |= _TAKEN
    _see_to(c, row)


@kernel
def _give_back(events: OrderEvents, known: KnownOrders, c: Customers, i: int, at: int) -> None:
    """The order has come, so what was taken belongs to others."""
    row = events.rows[i]
    c.revenue_cents[row] += known.cents[at]
    if known.state[at] & _TAKEN:
        if known.placed_ms[at] != 0:
            _insert(c.recent_orders_ms[row], c.orders[row], known.placed_ms[at])
        c.orders[row] += 1
        _see_to(c, row)
    known.state[at] &= _CANCELLED


@kernel
def _place(events: OrderEvents, known: KnownOrders, i: int, at: int) -> None:
    """Amounts are those of this event."""
    known.version_ms[at] = events.ts_ms[i]
    known.cents[at] = events.cents[i]
    known.discount_cents[at] = events.discount_cents[i]
    known.lines[at] = events.lines[i]
    known.state[at] &= 255 ^ (_COUPON | _OF_HISTORY)
    known.state[at] |= _COUPON if events.coupon[i] else 0
    known.state[at] |= _OF_HISTORY if events.kind[i] == _PLACED_BEFORE else 0


@kernel
def _placed(events: OrderEvents, known: KnownOrders, c: Customers, i: int, at: int) -> bool:
    """Take a `placed` in; False if nothing was new in it."""
    ts_ms = events.ts_ms[i]
    if not known.state[at] & _PLACED:
        _give_back(events, known, c, i, at)
        known.state[at] |= _PLACED
        known.placed_ms[at] = ts_ms
        _place(events, known, i, at)
        return True
    news = ts_ms < known.placed_ms[at]
    if news:
        known.placed_ms[at] = ts_ms
    # A file may say less of an order than the topics do: it has no coupon, say, or no products.
    says_less = events.kind[i] == _PLACED_BEFORE and not known.state[at] & _OF_HISTORY
    if ts_ms > known.version_ms[at] or (ts_ms == known.version_ms[at] and not says_less):
        news |= (
            known.cents[at] != events.cents[i]
            or known.discount_cents[at] != events.discount_cents[i]
            or known.lines[at] != events.lines[i]
            or (known.state[at] & _COUPON != 0) != events.coupon[i]
        )
        _place(events, known, i, at)
    return bool(news)


@kernel
def _cancelled(
    events: OrderEvents, known: KnownOrders, c: Customers, i: int, at: int, begin_ms: int
) -> bool:
    if known.state[at] & _CANCELLED:
        return False
    known.state[at] |= _CANCELLED
    row = events.rows[i]
    if not known.state[at] & _PLACED and _has_forgotten(c, row, begin_ms):
        _take(known, c, row, at, events.cents[i], begin_ms)
    return True


@kernel
def _news_of_return(
    known: KnownOrders, at: int, cents: int, reported: bool, reports_end: bool
) -> int:
    """How much of `cents` that came back was not known yet. Returns of a customer and reports of a
    history are two accounts of the same: `unmatched_cents` is by how much the one is ahead (below
    0: the other). `reports_end`: the return is later than what any history could report of."""
    ahead = known.unmatched_cents[at]
    if reported:
        known.unmatched_cents[at] -= cents
        return int(cents - min(max(ahead, 0), cents))
    if ahead < 0 and reports_end:
        return int(cents)
    known.unmatched_cents[at] += cents
    return int(cents - min(max(-ahead, 0), cents))


@kernel
def _returned(
    events: OrderEvents,
    known: KnownOrders,
    c: Customers,
    i: int,
    at: int,
    begin_ms: int,
    reports_until_ms: int,
) -> bool:
    """Take a return in; False if all of it was known."""
    cents = events.cents[i]
    news = _news_of_return(
        known, at, cents, events.kind[i] == _REPORTED, events.ts_ms[i] > reports_until_ms
    )
    known.returned_cents[at] += news
    done = known.state[at] & (_PLACED | _CANCELLED)
    if not done and _has_forgotten(c, events.rows[i], begin_ms):
        _take_cents(known, c, events.rows[i], at, news)
    return bool(news == cents or news > 0)


@kernel
def _net(known: KnownOrders, at: int) -> int:
    return int(max(known.cents[at] - known.returned_cents[at], 0))


@kernel
def _change(
    changes: Changes, n: int, row: int, ts_ms: int, sign: int, known: KnownOrders, at: int
) -> int:
    changes.rows[n] = row
    changes.ts_ms[n] = ts_ms
    changes.orders[n] = sign
    changes.lines[n] = sign * np.int64(known.lines[at])
    changes.coupons[n] = sign if known.state[at] & _COUPON else 0
    changes.cents[n] = sign * _net(known, at)
    changes.discount_cents[n] = sign * known.discount_cents[at]
    return n + 1


@kernel
def _joined(changes: Changes, n: int) -> int:
    """Make one of the last two changes, of the same time: the difference, if there is one."""
    a, b = n - 2, n - 1
    changes.orders[a] += changes.orders[b]
    changes.lines[a] += changes.lines[b]
    changes.coupons[a] += changes.coupons[b]
    changes.cents[a] += changes.cents[b]
    changes.discount_cents[a] += changes.discount_cents[b]
    if changes.lines[a] or changes.coupons[a] or changes.cents[a] or changes.discount_cents[a]:
        return n - 1
    return n - 2


@kernel
def _settle(changes: Changes, i: int, c: Customers) -> None:
    """Add a change to lifetime totals, the newest order times, and the answer to an open question.

    A question is about exactly [asked, asked + H): a sweep runs before the records of its own time,
    so an order of that very time (date-only orders, midnight sweeps) was not known when it was
    asked.
    """
    row, ts_ms, sign = changes.rows[i], changes.ts_ms[i], changes.orders[i]
    if c.asked_ms[row] > 0 and c.asked_ms[row] <= ts_ms < c.due_ms[row]:
        c.question_orders[row] = max(c.question_orders[row] + sign, 0)
        c.question_cents[row] = max(c.question_cents[row] + changes.cents[i], 0)
    if sign > 0:
        first = c.first_order_ms[row]
        c.first_order_ms[row] = ts_ms if first == 0 else min(first, ts_ms)
        _insert(c.recent_orders_ms[row], c.orders[row], ts_ms)
    elif sign < 0:
        _remove(c.recent_orders_ms[row], ts_ms)
    c.orders[row] += sign
    c.revenue_cents[row] = max(c.revenue_cents[row] + changes.cents[i], 0)
    if sign != 0:
        _see_to(c, row)


@kernel
def read_orders(
    events: OrderEvents,
    at: _Longs,
    is_new: NDArray[np.bool_],
    oldest_day: int,
    window_days: int,
    reports_until_ms: int,
    known: KnownOrders,
    c: Customers,
    changes: Changes,
    repeats: NDArray[np.bool_],
) -> int:
    """Take k order events in, one after the other, into what is known of orders and of customers;
    returns how many changes they make to the sums that customers have by time.

    at: int64 [k], each order's place in `known`; is_new: bool [k], whether it was not there before.
    An order is forgotten if its newest event was before `oldest_day` (since 1970), or before the
    longest window, of `window_days`, at the time of the event that names it. Returns up to
    `reports_until_ms` may be in a history's reports as well. Written: `changes`, with room for 2 k;
    repeats, False [k]: which events say nothing new.
    """
    n = 0
    for i in range(len(at)):
        place: Any = at[i]
        day: Any = events.ts_ms[i] // _DAY_MS
        begin = day - window_days + 1
        if is_new[i] or known.day[place] < max(oldest_day, begin):
            known.owner[place] = events.owner[i]
            known.placed_ms[place] = known.version_ms[place] = 0
            known.cents[place] = known.discount_cents[place] = 0
            known.returned_cents[place] = known.unmatched_cents[place] = 0
            known.lines[place] = 0
            known.state[place] = 0
            known.day[place] = day
        known.day[place] = max(known.day[place], day)
        before = n
        live = known.state[place] & (_PLACED | _CANCELLED) == _PLACED
        old_ms = known.placed_ms[place]
        if live:
            n = _change(changes, n, events.rows[i], old_ms, -1, known, place)
        if events.kind[i] == 0 or events.kind[i] == _PLACED_BEFORE:
            repeats[i] = not _placed(events, known, c, i, place)
        elif events.kind[i] == 1:
            repeats[i] = not _cancelled(events, known, c, i, place, begin * _DAY_MS)
        else:
            repeats[i] = not _returned(
                events, known, c, i, place, begin * _DAY_MS, reports_until_ms
            )
        if known.state[place] & (_PLACED | _CANCELLED) == _PLACED:
            n = _change(changes, n, events.rows[i], known.placed_ms[place], 1, known, place)
        if n == before + 2 and old_ms == known.placed_ms[place]:
            n = _joined(changes, n)
        for j in range(before, n):
            _settle(changes, j, c)
    return n


@kernel
def order_cells(changes: Changes, cells: Cells, n: int) -> int:
    """The cells of m changes, three each at most. Written from n on; returns where they end."""
    for i in range(len(changes.rows)):
        row, at = changes.rows[i], changes.ts_ms[i]
        if changes.orders[i] != 0:
            n = put(cells, n, row, _ORDERS, changes.orders[i], at)
        if changes.lines[i] != 0:
            n = put(cells, n, row, _ORDER_LINES, changes.lines[i], at)
        if changes.coupons[i] != 0:
            n = put(cells, n, row, _COUPON_ORDERS, changes.coupons[i], at)
    return n
