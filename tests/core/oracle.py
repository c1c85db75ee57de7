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


@dataclass
class Admission:
    """Which events of successive batches count. Lateness is measured against earlier batches."""

    lateness_ms: int
    accepted: list[Sent] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0
    watermark_ms: int = 0
    _seen: set[tuple[bool, str]] = field(default_factory=set)

    def batch(self, clicks: Iterable[Wire], orders: Iterable[Wire]) -> None:
        limit = self.watermark_ms - self.lateness_ms
        for source, events in ((0, clicks), (1, orders)):
            for event in events:
                if event["ts"] < limit:
                    self.late += 1
                elif (source == 1, event["event_id"]) in self._seen:
                    self.duplicates += 1
                else:
                    self._seen.add((source == 1, event["event_id"]))
                    self.accepted.append(Sent(source, event))
                    self.watermark_ms = max(self.watermark_ms, event["ts"])

    def of(self, user: str) -> list[Sent]:
        return [s for s in self.accepted if s.event["user_id"] == user]


def cents(amount: float, currency: str | None, rates: dict[str, float]) -> int:
    rate = Decimal(repr(rates[currency])) if currency else Decimal(1)
    return int((Decimal(repr(amount)) * rate * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


def recount(events: Sequence[Sent], now_ms: int, rates: dict[str, float]) -> dict[str, float]:
    """Every feature of one user, whose accepted `events` are given, at `now_ms`."""
    found: dict[str, float] = {}
    for window in WINDOWS:
        hop = window.hop_seconds * 1000
        first = now_ms // hop - window.length_seconds // window.hop_seconds
        inside = [s for s in events if s.event["ts"] // hop > first]
        found |= {f"{k}_{window.name}": v for k, v in _measures(inside, rates).items()}
    found |= _recencies(events, now_ms)
    found |= _orders(events, now_ms, rates)
    found |= _decayed(events, now_ms, rates)
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
    revenue = sum(cents(o["amount"], o.get("currency"), rates) for o in placed)
    discount = sum(cents(o.get("discount", 0.0), o.get("currency"), rates) for o in placed)
    counts = {kind: float(sum(c["type"] == kind for c in clicks)) for kind in CLICK_TYPES}
    return counts | {
        "orders": len(placed),
        "cancellations": sum(o["type"] == "cancelled" for o in back),
        "returns": sum(o["type"] == "returned" for o in back),
        "order_lines": len(lines),
        "coupon_orders": sum(o.get("coupon") is not None for o in placed),
        "sessions": len({c.get("session_id") or c["ts"] // HALF_HOUR_MS for c in clicks}),
        "distinct_items": len({x["item_id"] for x in (*clicks, *lines) if x.get("item_id")}),
        "distinct_categories": len({x["category"] for x in (*clicks, *lines) if x.get("category")}),
        "rating_mean": sum(tenths) / len(tenths) / 10 if tenths else NAN,
        "revenue": revenue / 100,
        "refunds": sum(cents(o["amount"], o.get("currency"), rates) for o in back) / 100,
        "discount_share": discount / (revenue + discount) if revenue + discount else NAN,
    }


_KIND_OF_ORDER = {"placed": "order", "cancelled": "cancellation", "returned": "return"}


def _days_since(times: Sequence[int], now_ms: int) -> float:
    return max(0, now_ms - max(times)) / DAY_MS if times else NAN


def _recencies(events: Sequence[Sent], now_ms: int) -> dict[str, float]:
    times: dict[str, list[int]] = {kind: [] for kind in RECENCY_KINDS}
    for s in events:
        kind = s.event["type"]
        times[_KIND_OF_ORDER[kind] if s.source else kind].append(s.event["ts"])
    every = [s.event["ts"] for s in events]
    found = {f"days_since_{kind}": _days_since(when, now_ms) for kind, when in times.items()}
    found["days_since_activity"] = _days_since(every, now_ms)
    found["tenure_days"] = max(0, now_ms - min(every)) / DAY_MS if every else NAN
    return found


def _orders(events: Sequence[Sent], now_ms: int, rates: dict[str, float]) -> dict[str, float]:
    placed = [s.event for s in events if s.source == 1 and s.event["type"] == "placed"]
    times = sorted(o["ts"] for o in placed)
    revenue = sum(cents(o["amount"], o.get("currency"), rates) for o in placed) / 100
    newest = times[-NEAR_ORDERS:]
    gaps = [(b - a) / DAY_MS for a, b in itertools.pairwise(newest)]
    mean = sum(gaps) / len(gaps) if gaps else NAN
    spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps)) if gaps else NAN
    silence = _days_since(times, now_ms)
    return {
        "lifetime_orders": len(placed),
        "lifetime_revenue": revenue,
        "mean_order_value": revenue / len(placed) if placed else NAN,
        "gap_lifetime_mean_days": (
            (times[-1] - times[0]) / DAY_MS / (len(times) - 1) if len(times) > 1 else NAN
        ),
        "gap_mean_days": mean,
        "gap_std_days": spread,
        "gap_last_days": gaps[-1] if gaps else NAN,
        "silence_over_gap": silence / max(mean, 1 / 24) if gaps else NAN,
        **_rhythm(times, now_ms),
    }


def _rhythm(times: Sequence[int], now_ms: int) -> dict[str, float]:
    days = sorted({t // DAY_MS for t in sorted(times)[-GAP_ORDERS:]})
    pauses = [b - a for a, b in itertools.pairwise(days)]
    silence = _days_since(times, now_ms)
    found = {"days_since_first_order": _days_since([min(times)], now_ms) if times else NAN}
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


def _decayed(events: Sequence[Sent], now_ms: int, rates: dict[str, float]) -> dict[str, float]:
    # what is dated ahead of the clock has not begun to decay
    now_ms = max([now_ms, *(s.event["ts"] for s in events)])
    found = {}
    for days in DECAY_HALF_LIVES_DAYS:
        orders, revenue, activity = [], [], []
        for s in events:
            weight = 0.5 ** ((now_ms - s.event["ts"]) / (days * DAY_MS))
            activity.append(weight)
            if s.source == 1 and s.event["type"] == "placed":
                orders.append(weight)
                amount = cents(s.event["amount"], s.event.get("currency"), rates) / 100
                revenue.append(weight * amount)
        found[f"orders_decayed_{int(days)}d"] = math.fsum(orders)
        found[f"revenue_decayed_{int(days)}d"] = math.fsum(revenue)
        found[f"activity_decayed_{int(days)}d"] = math.fsum(activity)
    return found
