"""A slow recount of everything the core keeps up to date, straight from a list of events.

Written from `schemas/features.py` and the contract, not from the core: loops over wire events
(dicts as JSON has them), no numpy, no running sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from schemas.events import CLICK_TYPES
from schemas.features import (
    DECAY_HALF_LIVES_DAYS,
    GAP_ORDERS,
    NEAR_ORDERS,
    RECENCY_KINDS,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOWS,
)

DAY_MS = 86_400_000
HALF_HOUR_MS = 1_800_000
NAN = math.nan

Wire = dict[str, Any]
"""One event as on the wire."""


@dataclass(frozen=True)
class Sent:
    """An event and the topic it went to: 0 clickstream, 1 orders."""

    source: int
    event: Wire


@dataclass(eq=False)
class Order:
    """One order: every `placed` of it as it came, and what happened to it since."""

    versions: list[Wire] = field(default_factory=list)
    cancelled: bool = False
    returned: int = 0
    newest_ms: int = 0
    faded: bool = False  # not in the decayed sums any more
    faded_cents: int = 0
    # taken from the lifetime totals for an order that nobody remembers
    taken_orders: int = 0
    taken_cents: int = 0
    taken_ms: int = 0

    @property
    def placed_ms(self) -> int:
        return int(min(v["ts"] for v in self.versions))

    @property
    def version(self) -> Wire:
        return max(reversed(self.versions), key=lambda v: v["ts"])  # of equals the last one

    @property
    def counts(self) -> bool:
        return bool(self.versions) and not self.cancelled

    def net(self, rates: dict[str, float]) -> int:
        return max(0, cents_of(self.version, rates) - self.returned)

    def said(self, rates: dict[str, float]) -> tuple[Any, ...]:
        v = self.version
        discount = cents(v.get("discount", 0.0), v.get("currency"), rates)
        coupon = v.get("coupon") is not None
        return self.placed_ms, cents_of(v, rates), discount, coupon, len(v.get("lines", []))


@dataclass(eq=False)
class Standing:
    """The orders of one user."""

    rates: dict[str, float]
    known: dict[str, Order] = field(default_factory=dict)
    forgotten: list[Order] = field(default_factory=list)
    newest: list[int] = field(default_factory=list)  # order times, newest first
    first_ms: int = 0
    orders: int = 0
    revenue: int = 0

    @property
    def every(self) -> list[Order]:
        return [*self.forgotten, *self.known.values()]

    @property
    def live(self) -> list[Order]:
        return [o for o in self.every if o.counts]

    def take_in(self, event: Wire, oldest_day: int) -> bool:
        """One order event of this user; whether it says nothing new."""
        day = event["ts"] // DAY_MS
        order = self._order(event, max(oldest_day, day - 89))
        was, repeat = order.placed_ms if order.counts else 0, False
        if event["type"] == "placed":
            before = order.said(self.rates) if order.versions else None
            if before is None:
                self._give_back(order)
            net = order.net(self.rates) if order.counts else 0
            order.versions.append(event)
            repeat = before == order.said(self.rates)
            self._add((order.net(self.rates) if order.counts else 0) - net)
        elif event["type"] == "cancelled":
            repeat = order.cancelled
            if order.counts:
                self._add(-order.net(self.rates))
            order.cancelled = True
            if not repeat and not order.versions:
                self._take(order, cents_of(event, self.rates), (day - 89) * DAY_MS)
        else:
            net = order.net(self.rates) if order.counts else 0
            order.returned += cents_of(event, self.rates)
            if order.counts:
                self._add(order.net(self.rates) - net)
            elif not order.versions and not order.cancelled and self._older((day - 89) * DAY_MS):
                self._take_cents(order, cents_of(event, self.rates))
        self._move(was, order.placed_ms if order.counts else 0)
        for each in self.live:
            each.faded |= not self.orders
            if not self.revenue:
                each.faded_cents = each.net(self.rates)
        return repeat

    def _order(self, event: Wire, oldest_day: int) -> Order:
        order = self.known.get(event["order_id"])
        if order is not None and order.newest_ms // DAY_MS < oldest_day:
            self.forgotten.append(order)
            order = None
        if order is None:
            order = self.known[event["order_id"]] = Order()
        order.newest_ms = max(order.newest_ms, event["ts"])
        return order

    def _add(self, cents: int) -> None:
        self.revenue = max(0, self.revenue + cents)

    def _move(self, was: int, now: int) -> None:
        if was == now:
            return
        if was:
            if was in self.newest:
                self.newest.remove(was)
            self.orders -= 1
            self._follow()
        if now:
            self.first_ms = min(self.first_ms or now, now)
            self._insert(now)
            self.orders += 1
            self._follow()

    def _older(self, begin_ms: int) -> bool:
        """Whether there are orders from before a time that nobody may remember."""
        later = sum(t >= begin_ms for t in self.newest)
        return 0 < self.first_ms < begin_ms and self.orders > later

    def _take_cents(self, order: Order, most: int) -> None:
        taken = max(0, min(most, self.revenue))
        order.taken_cents += taken
        self.revenue -= taken

    def _take(self, order: Order, amount: int, begin_ms: int) -> None:
        if not self._older(begin_ms):
            return
        self._take_cents(order, amount - order.taken_cents)
        order.taken_orders = 1
        self.orders -= 1
        order.taken_ms = next((t for t in self.newest if t < begin_ms), 0)
        if order.taken_ms:
            self.newest.remove(order.taken_ms)
        self._follow()

    def _give_back(self, order: Order) -> None:
        self.revenue += order.taken_cents
        if order.taken_orders:
            if order.taken_ms:
                self._insert(order.taken_ms)
            self.orders += 1
            self._follow()
        order.taken_orders = order.taken_cents = order.taken_ms = 0

    def _insert(self, ts_ms: int) -> None:
        """Beyond a hole nothing is known."""
        if not (len(self.newest) < self.orders and self.newest and ts_ms < self.newest[-1]):
            self.newest = sorted([*self.newest, ts_ms], reverse=True)[:GAP_ORDERS]

    def _follow(self) -> None:
        if not self.orders:
            self.newest = []
        if len(self.newest) >= self.orders:
            self.first_ms = self.newest[-1] if self.newest else 0


@dataclass
class Admission:
    """Which events of successive batches count. Lateness is measured against earlier batches."""

    lateness_ms: int
    rates: dict[str, float] = field(default_factory=lambda: {"USD": 1.0})
    accepted: list[Sent] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0
    watermark_ms: int = 0
    standings: dict[str, Standing] = field(default_factory=dict)
    _seen: set[tuple[bool, str]] = field(default_factory=set)

    def batch(self, clicks: Iterable[Wire], orders: Iterable[Wire], clock_ms: int = 0) -> None:
        """`clock_ms`: the shard's before the batch."""
        limit = self.watermark_ms - self.lateness_ms
        fresh = []
        for source, events in ((0, clicks), (1, orders)):
            for event in events:
                if event["ts"] < limit:
                    self.late += 1
                elif (source == 1, event["event_id"]) in self._seen:
                    self.duplicates += 1
                else:
                    self._seen.add((source == 1, event["event_id"]))
                    fresh.append(Sent(source, event))
        oldest_day = min((clock_ms - self.lateness_ms) // DAY_MS - 89, limit // DAY_MS)
        for sent in fresh:
            user = sent.event["user_id"]
            standing = self.standings.setdefault(user, Standing(self.rates))
            if sent.source and standing.take_in(sent.event, oldest_day):
                self.duplicates += 1
            else:
                self.accepted.append(sent)
                self.watermark_ms = max(self.watermark_ms, sent.event["ts"])

    def of(self, user: str) -> list[Sent]:
        return [s for s in self.accepted if s.event["user_id"] == user]


def cents(amount: float, currency: str | None, rates: dict[str, float]) -> int:
    rate = Decimal(repr(rates[currency])) if currency else Decimal(1)
    return int((Decimal(repr(amount)) * rate * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


def cents_of(event: Wire, rates: dict[str, float]) -> int:
    return cents(event["amount"], event.get("currency"), rates)


def recount(
    events: Sequence[Sent],
    now_ms: int,
    rates: dict[str, float],
    standing: Standing | None = None,
) -> dict[str, float]:
    """Every feature of one user, whose accepted `events` are given, at `now_ms`. `standing`: what
    became of the orders; None: nobody cancelled anything."""
    if standing is None:
        standing = Standing(rates)
        for sent in events:
            if sent.source:
                standing.take_in(sent.event, 0)
    found: dict[str, float] = {}
    for window in WINDOWS:
        hop = window.hop_seconds * 1000
        first = now_ms // hop - window.length_seconds // window.hop_seconds
        inside = [s for s in events if s.event["ts"] // hop > first]
        found |= {f"{k}_{window.name}": v for k, v in _measures(inside, rates).items()}
        live = [o for o in standing.live if o.placed_ms // hop > first]
        found |= {f"{k}_{window.name}": v for k, v in _of_orders(live, rates).items()}
    found |= _recencies(events, standing, now_ms)
    found |= _orders(standing, now_ms)
    found |= _decayed(events, standing, now_ms, rates)
    found |= _trends(found)
    found["day_of_year"] = now_ms / 86_400_000 % 365.2425
    return found


def _trends(f: dict[str, float]) -> dict[str, float]:
    def over(a: float, b: float) -> float:
        return a / b if b else NAN

    age = max(f["days_since_first_order"], 7.0)
    if not f["lifetime_orders"]:
        age = NAN
    per_day = f["lifetime_revenue"] / age
    return {
        "revenue_per_day": per_day,
        "orders_per_day": f["lifetime_orders"] / age,
        "revenue_trend_90d": over(f["revenue_90d"], min(age, 90.0) * per_day),
        "revenue_trend_30d": over(f["revenue_30d"], f["revenue_90d"]),
        "orders_trend_30d": over(f["orders_30d"], f["orders_90d"]),
        "revenue_trend_7d": over(f["revenue_7d"], f["revenue_30d"]),
        "lines_per_order_90d": over(f["order_lines_90d"], f["orders_90d"]),
        "revenue_per_order_day_30d": over(f["revenue_30d"], f["order_days_30d"]),
        "revenue_per_order_day_90d": over(f["revenue_90d"], f["order_days_90d"]),
        "revenue_fading": over(f["revenue_decayed_30d"], f["revenue_decayed_90d"]),
        "orders_fading": over(f["orders_decayed_30d"], f["orders_decayed_90d"]),
    }


def _measures(events: Sequence[Sent], rates: dict[str, float]) -> dict[str, float]:
    clicks = [s.event for s in events if s.source == 0]
    placed = [s.event for s in events if s.source == 1 and s.event["type"] == "placed"]
    back = [s.event for s in events if s.source == 1 and s.event["type"] != "placed"]
    lines = [line for order in placed for line in order.get("lines", [])]
    tenths = [
        round(c["rating"] * 10)
        for c in clicks
        if c["type"] == "review" and c.get("rating") is not None
    ]
    counts = {kind: float(sum(c["type"] == kind for c in clicks)) for kind in CLICK_TYPES}
    return counts | {
        "cancellations": sum(o["type"] == "cancelled" for o in back),
        "returns": sum(o["type"] == "returned" for o in back),
        "sessions": len({c.get("session_id") or c["ts"] // HALF_HOUR_MS for c in clicks}),
        "distinct_items": len({x["item_id"] for x in (*clicks, *lines) if x.get("item_id")}),
        "distinct_categories": len({x["category"] for x in (*clicks, *lines) if x.get("category")}),
        "rating_mean": sum(tenths) / len(tenths) / 10 if tenths else NAN,
        "refunds": sum(cents_of(o, rates) for o in back) / 100,
    }


def _of_orders(orders: Sequence[Order], rates: dict[str, float]) -> dict[str, float]:
    said = [o.said(rates) for o in orders]
    revenue, discount = sum(o.net(rates) for o in orders), sum(each[2] for each in said)
    return {
        "orders": len(orders),
        "order_lines": sum(each[4] for each in said),
        "coupon_orders": sum(each[3] for each in said),
        "revenue": revenue / 100,
        "discount_share": discount / (revenue + discount) if revenue + discount else NAN,
    }


_KIND_OF_ORDER = {"placed": "order", "cancelled": "cancellation", "returned": "return"}


def _days_since(times: Sequence[int], now_ms: int) -> float:
    return max(0, now_ms - max(times)) / DAY_MS if times else NAN


def _recencies(events: Sequence[Sent], standing: Standing, now_ms: int) -> dict[str, float]:
    times: dict[str, list[int]] = {kind: [] for kind in RECENCY_KINDS}
    for s in events:
        kind = s.event["type"]
        times[_KIND_OF_ORDER[kind] if s.source else kind].append(s.event["ts"])
    times["order"] = standing.newest
    every = [s.event["ts"] for s in events]
    found = {f"days_since_{kind}": _days_since(when, now_ms) for kind, when in times.items()}
    found["days_since_activity"] = _days_since(every, now_ms)
    found["tenure_days"] = max(0, now_ms - min(every)) / DAY_MS if every else NAN
    return found


def _orders(standing: Standing, now_ms: int) -> dict[str, float]:
    times, orders = standing.newest[::-1], standing.orders
    revenue, first_ms = standing.revenue / 100, standing.first_ms
    newest = times[-NEAR_ORDERS:]
    gaps = [(b - a) / DAY_MS for a, b in itertools.pairwise(newest)]
    mean = sum(gaps) / len(gaps) if gaps else NAN
    spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps)) if gaps else NAN
    silence = _days_since(times, now_ms)
    return {
        "lifetime_orders": orders,
        "lifetime_revenue": revenue,
        "mean_order_value": revenue / orders if orders else NAN,
        "gap_lifetime_mean_days": (
            (times[-1] - first_ms) / DAY_MS / (orders - 1) if orders > 1 else NAN
        ),
        "gap_mean_days": mean,
        "gap_std_days": spread,
        "gap_last_days": gaps[-1] if gaps else NAN,
        "silence_over_gap": silence / max(mean, 1 / 24) if gaps else NAN,
        **_rhythm(times, first_ms, now_ms),
    }


def _rhythm(times: Sequence[int], first_ms: int, now_ms: int) -> dict[str, float]:
    days = sorted({t // DAY_MS for t in sorted(times)[-GAP_ORDERS:]})
    pauses = [b - a for a, b in itertools.pairwise(days)]
    silence = _days_since(times, now_ms)
    found = {"days_since_first_order": _days_since([first_ms], now_ms) if first_ms else NAN}
    for w in RHYTHM_DAYS:
        found[f"order_days_{w}d"] = sum(now_ms // DAY_MS - day < w for day in days)
    mean = sum(pauses) / len(pauses) if pauses else NAN
    typical = sum(p * p for p in pauses) / sum(pauses) if pauses else NAN
    squares = sum((p - mean) ** 2 for p in pauses)
    found |= {
        "day_gap_mean": mean,
        "day_gap_std": math.sqrt(squares / len(pauses)) if pauses else NAN,
        "day_gap_max": max(pauses, default=NAN),
        "day_gap_typical": typical,
        "silence_over_typical": silence / typical,
        "silence_over_max": silence / max(pauses, default=NAN),
        "longer_gap_share": sum(p > silence for p in pauses) / len(pauses) if pauses else NAN,
    }
    covered = sum(pauses) + silence
    for w in SILENCE_DAYS:
        silent = sum(max(p - w, 0) for p in pauses) + max(silence - w, 0.0) if times else NAN
        found[f"silent_share_{w}d"] = silent / covered if covered else NAN
    return found


def _decayed(
    events: Sequence[Sent], standing: Standing, now_ms: int, rates: dict[str, float]
) -> dict[str, float]:
    # what is dated ahead of the clock has not begun to decay
    now_ms = max([now_ms, *(s.event["ts"] for s in events)])
    found = {}
    for days in DECAY_HALF_LIVES_DAYS:
        orders, revenue, activity = [], [], []
        for s in events:
            weight = 0.5 ** ((now_ms - s.event["ts"]) / (days * DAY_MS))
            activity.append(weight)
        for order in standing.live:
            weight = 0.5 ** ((now_ms - order.placed_ms) / (days * DAY_MS))
            orders.append(0.0 if order.faded else weight)
            revenue.append(weight * (order.net(rates) - order.faded_cents) / 100)
        found[f"orders_decayed_{int(days)}d"] = math.fsum(orders)
        found[f"revenue_decayed_{int(days)}d"] = math.fsum(revenue)
        found[f"activity_decayed_{int(days)}d"] = math.fsum(activity)
    return found
