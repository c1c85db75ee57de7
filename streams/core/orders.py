"""Counts orders, each once: repeats, amendments, cancellations and returns name it by its id.

An order is (user, order id). `streams.kernels.orders` says what each event does to it; what follows
for the customer (windows, lifetime totals, order times, the answer to an open question) is the
difference between the order as it was and as it is now, at the time when it was placed.

Nothing here depends on the order in which an order's events arrive, with these exceptions:

- of two versions of an order with the same event time, the one that arrives last counts;
- a cancellation or return of an order that is forgotten (older than the longest window) takes from
  the lifetime totals alone, by the amount that it names: what the order had been worth, and when
  exactly it was, is not known any more;
- only the newest `GAP_ORDERS` order times are kept. Of a customer with more orders, the place of a
  cancelled one stays empty until the next order comes, and if the very first order is cancelled,
  its time stays the first; with so many orders neither matters to a rhythm. When all of the newest
  are cancelled, the time of the last order is unknown until the next one.

What a cancelled order touched (distinct items and categories) stays touched: it was of interest.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streams.core.events.events import KIND_PLACED, Events
from streams.core.features import DAY_MS
from streams.core.hashing import mix
from streams.core.state.known_orders import LONGEST_WINDOW_DAYS
from streams.core.state.shard_state import ShardState
from streams.kernels.orders import Changes, Customers, KnownOrders, OrderEvents, read_orders

__all__ = ["History", "apply_orders"]

History = Literal["none", "events", "export"]
"""Whether events are a history's: in the form that producers send them, whose ids are theirs; or as
a shop's export has them, which has no ids for returns but says what was returned in all."""

_RETURNED, _REPORTED, _PLACED_BEFORE = np.int8(2), np.int8(3), np.int8(4)  # of `OrderEvents`
_NO_PLACES: Final = np.empty(0, np.int64)
_NO_CHANGES: Final = Changes(*(_NO_PLACES for _ in Changes._fields))


def apply_orders(
    state: ShardState,
    events: Events,
    fresh: NDArray[np.int64],
    rows: NDArray[np.int64],
    oldest_known_day: int,
    history: History = "none",
) -> tuple[Changes, NDArray[np.int64]]:
    """Take in what the `fresh` events (positions, int64 [k]; their users' rows, int64 [k]) say of
    orders, into everything but windows and decayed sums. Returns the changes that are to be made to
    these, and which of `fresh` are repeats, int64 [r]: they say nothing new.

    Orders whose newest event was before `oldest_known_day` are forgotten in any case. `history`
    says what the events are of.
    """
    chosen = np.flatnonzero(events.kind[fresh] >= KIND_PLACED)
    if not len(chosen):
        return _NO_CHANGES, _NO_PLACES
    source, rows, k = fresh[chosen], rows[chosen], len(chosen)
    ts_ms, owner = events.ts_ms[source], events.users.hashed[source]
    table = state.known_orders
    days = (ts_ms // DAY_MS).astype(np.int32)
    at, is_new = table.find_or_add(mix(owner, events.order[source]), days)
    table.before_change(at)
    kind = events.kind[source] - np.int8(KIND_PLACED)
    if history != "none":
        kind[kind == 0] = _PLACED_BEFORE
    if history == "export":
        kind[kind == _RETURNED] = _REPORTED
    changes = Changes(*np.empty((len(Changes._fields), 2 * k), np.int64))
    repeats = np.zeros(k, np.bool_)
    n = read_orders(
        OrderEvents(
            rows=rows,
            owner=owner,
            kind=kind,
            ts_ms=ts_ms,
            cents=events.amount_cents[source],
            discount_cents=events.discount_cents[source],
            lines=events.order_lines[source],
            coupon=events.coupon[source],
        ),
        at, is_new, oldest_known_day, LONGEST_WINDOW_DAYS,
        state.meta.reports_until_ms, _known(state), _customers(state),
        changes, repeats,
    )  # fmt: skip
    return Changes(*(column[:n] for column in changes)), chosen[repeats]


def _known(state: ShardState) -> KnownOrders:
    records = state.known_orders.records
    columns = {name: records[name] for name in KnownOrders._fields if name != "day"}
    return KnownOrders(**columns, day=state.known_orders.values)


def _customers(state: ShardState) -> Customers:
    c = state.columns
    return Customers(
        orders=c.orders,
        revenue_cents=c.revenue_cents,
        first_order_ms=c.first_order_ms,
        last_order_ms=c.last_seen_ms[:, KIND_PLACED],
        recent_orders_ms=c.recent_orders_ms,
        alert_orders=c.alert_orders,
        asked_ms=c.asked_ms,
        due_ms=c.due_ms,
        question_orders=c.question_orders,
        question_cents=c.question_cents,
    )
