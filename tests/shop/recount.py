"""Counts facts one by one in plain Python: the values that every customer's state must have.

No code of Tideline is used. The rules are written out again from docs/events.md and the docstrings
of schemas/features.py, so that a fault in one place shows in the other:

- A window of length W that moves in hops of h covers, at clock `now`, the tiles `t` of width h with
  `now // h - W // h < t`. What is ahead of the clock counts.
- An order counts when it was first placed, by its latest version, less what came back, at least 0;
  cancelled, it does not count. Cancellations and returns count when they happened, with what was
  paid back.
- An item, a category or a session counts once per window, at the five minutes in which it was last
  seen. Only clicks and orders placed touch items. Clicks without a session are one per half hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tests.shop.facts import Cancelled, Click, Fact, Line, Placed, Returned

__all__ = ["CLICKS", "MEASURES", "WINDOWS", "Customer", "recount"]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
WINDOWS: Mapping[str, tuple[int, int]] = {
    "1h": (_HOUR_MS, 5 * _MINUTE_MS),
    "24h": (24 * _HOUR_MS, _HOUR_MS),
    "7d": (7 * _DAY_MS, _DAY_MS),
    "30d": (30 * _DAY_MS, _DAY_MS),
    "90d": (90 * _DAY_MS, _DAY_MS),
}
"""Name -> length and hop, in ms."""
ORDER_TIMES = 24
"""A state has the times of so many orders, the newest."""
CLICKS = ("view", "search", "cart_add", "cart_remove", "wishlist", "review", "share", "support")
MEASURES = (
    *CLICKS, "orders", "cancellations", "returns", "order_lines", "coupon_orders", "rating_tenths",
    "ratings", "sessions", "distinct_items", "distinct_categories", "revenue_cents",
    "discount_cents", "refund_cents",
)  # fmt: skip


@dataclass
class Customer:
    """What is known of a customer. `windows`: (measure, window) -> sum, those of 0 left out.

    Times are ms since 1970 UTC, 0 for never.
    """

    orders: int = 0
    revenue_cents: int = 0
    first_seen_ms: int = 0
    last_activity_ms: int = 0
    first_order_ms: int = 0
    last_order_ms: int = 0
    first_order_is_vague: bool = False
    """One of more orders than Tideline keeps times of was cancelled: if it was the first, its time
    may stay the first (streams/core/orders.py)."""
    windows: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass
class _Order:
    versions: list[Placed] = field(default_factory=list)
    cancelled: bool = False
    returned_cents: int = 0


def recount(facts: Iterable[Fact], clock_ms: Callable[[str], int]) -> dict[str, Customer]:
    """Every customer that the facts name, by id; `clock_ms` is the clock of each one's windows.

    A fact counts once, however often it is there.
    """
    of_user: dict[str, list[Fact]] = defaultdict(list)
    for fact in dict.fromkeys(facts):
        of_user[fact.user].append(fact)
    return {user: _customer(of_user[user], clock_ms(user)) for user in sorted(of_user)}


def _customer(facts: list[Fact], now_ms: int) -> Customer:
    found = Customer(
        first_seen_ms=min(fact.ts_ms for fact in facts),
        last_activity_ms=max(fact.ts_ms for fact in facts),
    )
    amounts = [*_clicks(facts), *_touched(facts)]
    orders: dict[str, _Order] = defaultdict(_Order)
    for fact in facts:
        if isinstance(fact, Placed):
            orders[fact.order].versions.append(fact)
        elif isinstance(fact, Cancelled | Returned):
            name = "cancellations" if isinstance(fact, Cancelled) else "returns"
            amounts += [(name, fact.ts_ms, 1), ("refund_cents", fact.ts_ms, fact.cents)]
            if isinstance(fact, Cancelled):
                orders[fact.order].cancelled = True
            else:
                orders[fact.order].returned_cents += fact.cents
    times = []
    for order in orders.values():
        if order.cancelled or not order.versions:
            continue
        placed_ms = min(version.ts_ms for version in order.versions)
        latest = max(order.versions, key=lambda version: version.ts_ms)
        net_cents = max(0, latest.cents - order.returned_cents)
        times.append(placed_ms)
        found.orders += 1
        found.revenue_cents += net_cents
        amounts += [
            ("orders", placed_ms, 1),
            ("order_lines", placed_ms, len(latest.lines)),
            ("coupon_orders", placed_ms, int(latest.coupon is not None)),
            ("revenue_cents", placed_ms, net_cents),
            ("discount_cents", placed_ms, latest.discount_cents),
        ]
    gone = any(order.cancelled for order in orders.values())
    found.first_order_is_vague = gone and len(orders) > ORDER_TIMES
    if times:
        found.first_order_ms, found.last_order_ms = min(times), max(times)
    found.windows = _windows(amounts, now_ms)
    return found


_Amount = tuple[str, int, int]
"""A measure, when, and how much is added to it."""


def _clicks(facts: list[Fact]) -> list[_Amount]:
    amounts: list[_Amount] = []
    for fact in facts:
        if isinstance(fact, Click):
            amounts.append((fact.type, fact.ts_ms, 1))
            if fact.rating_tenths:
                amounts.append(("rating_tenths", fact.ts_ms, fact.rating_tenths))
                amounts.append(("ratings", fact.ts_ms, 1))
    return amounts


def _touched(facts: list[Fact]) -> list[_Amount]:
    """Items, categories and sessions: each once, in the five minutes in which it was last seen."""
    last_ms: dict[tuple[str, object], int] = {}
    for fact in facts:
        seen: list[tuple[str, object]] = []
        if isinstance(fact, Click):
            half_hour = fact.ts_ms // (30 * _MINUTE_MS)
            seen.append(("sessions", half_hour if fact.session is None else fact.session))
        lines: tuple[Line | Click, ...] = ()
        if isinstance(fact, Click):
            lines = (fact,)
        elif isinstance(fact, Placed):
            lines = fact.lines
        for line in lines:
            if line.item is not None:
                seen.append(("distinct_items", line.item))
            if line.category is not None:
                seen.append(("distinct_categories", line.category))
        for thing in seen:
            last_ms[thing] = max(last_ms.get(thing, 0), fact.ts_ms)
    five = 5 * _MINUTE_MS
    return [(measure, ts // five * five, 1) for (measure, _), ts in last_ms.items()]


def _windows(amounts: list[_Amount], now_ms: int) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for name, (length_ms, hop_ms) in WINDOWS.items():
        for measure, ts_ms, amount in amounts:
            if now_ms // hop_ms - length_ms // hop_ms < ts_ms // hop_ms:
                sums[measure, name] += amount
    return {key: total for key, total in sums.items() if total}
