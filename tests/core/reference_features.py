"""The feature matrix in numpy: the reference for `streams.kernels.feature_rows`.

One feature after the other for all users, by name, as the formulas read; the kernels do one user
after the other and must give the same bits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    DECAY_HALF_LIVES_DAYS,
    FEATURE_NAMES,
    MONEY_MEASURES,
    NEAR_ORDERS,
    RECENCY_KINDS,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOWS,
    YEAR_DAYS,
)
from streams.core.features import DAY_MS, HALF_LIVES_MS
from streams.core.state.shard_state import ShardState

__all__ = ["features"]

Named = dict[str, Any]
"""Features by name: a number per user, or one for all."""
MIN_AGE_DAYS: Final = 7.0


def features(state: ShardState, rows: NDArray[np.int64], now_ms: int) -> NDArray[np.float32]:
    """Features of the users in `rows` (int64 [k]) at `now_ms`, the windows' clock.

    Returns float32 [k, F], columns in `schemas.features.FEATURES` order; what is unknown is NaN.
    Each row depends on its user alone, bit for bit, whichever others are asked for.
    """
    found: Named = {"day_of_year": now_ms / DAY_MS % YEAR_DAYS}
    with np.errstate(invalid="ignore", divide="ignore"):
        _windows(found, state, rows)
        _recency(found, state, rows, now_ms)
        _orders(found, state, rows, now_ms)
        _rhythm(found, state, rows, now_ms)
        _decayed(found, state, rows, now_ms)
        _trends(found, state, rows, now_ms)
    x = np.empty((len(rows), len(FEATURE_NAMES)), np.float32)
    for column, name in enumerate(FEATURE_NAMES):
        x[:, column] = found.pop(name)
    assert not found, f"not features: {sorted(found)}"
    return x


def _windows(found: Named, state: ShardState, rows: NDArray[np.int64]) -> None:
    for w, window in enumerate(WINDOWS):
        counts = dict(zip(COUNT_MEASURES, state.counts.table[..., w][rows].T, strict=True))
        money = dict(zip(MONEY_MEASURES, state.money.table[..., w][rows].T / 1.0, strict=True))
        tenths, ratings = counts.pop("rating_tenths"), counts.pop("ratings")
        revenue, discount = money["revenue_cents"], money["discount_cents"]
        values = counts | {
            "rating_mean": tenths / (10.0 * ratings),
            "revenue": revenue / 100.0,
            "refunds": money["refund_cents"] / 100.0,
            "discount_share": discount / (revenue + discount),
        }
        found |= {f"{name}_{window.name}": value for name, value in values.items()}


def _days_since(then_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.float64]:
    """Days, never negative (an event may be dated slightly ahead of the clock); NaN for never."""
    days = np.maximum(now_ms - then_ms, 0) / DAY_MS
    return np.where(then_ms > 0, days, np.nan)


def _recency(found: Named, state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    c = state.columns
    for kind, last_ms in zip(RECENCY_KINDS, c.last_seen_ms[rows].T, strict=True):
        found[f"days_since_{kind}"] = _days_since(last_ms, now_ms)
    found["days_since_activity"] = _days_since(c.last_activity_ms[rows], now_ms)
    found["tenure_days"] = _days_since(c.first_seen_ms[rows], now_ms)


def _orders(found: Named, state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    c = state.columns
    orders = c.orders[rows]
    revenue = c.revenue_cents[rows] / 100.0
    recent = c.recent_orders_ms[rows, :NEAR_ORDERS]
    kept = np.minimum(orders, NEAR_ORDERS)
    last = recent[:, 0]
    silence = _days_since(last, now_ms)
    lifetime_gap = np.where(orders > 1, (last - c.first_order_ms[rows]) / DAY_MS, np.nan) / (
        orders - 1
    )
    # The gaps between the newest orders: [k, NEAR_ORDERS - 1], the first one the newest.
    gaps = (recent[:, :-1] - recent[:, 1:]) / DAY_MS
    known = np.arange(NEAR_ORDERS - 1) < (kept - 1)[:, None]
    count = np.where(kept > 1, kept - 1, np.nan)
    mean = _row_sum(np.where(known, gaps, 0.0)) / count
    variance = _row_sum(np.where(known, (gaps - mean[:, None]) ** 2, 0.0)) / count
    found |= {
        "lifetime_orders": orders,
        "lifetime_revenue": revenue,
        "mean_order_value": revenue / orders,
        "gap_lifetime_mean_days": lifetime_gap,
        "gap_mean_days": mean,
        "gap_std_days": np.sqrt(variance),
        "gap_last_days": np.where(kept > 1, gaps[:, 0], np.nan),
        # a floor of one hour: two orders in one minute do not make a day of silence infinite
        "silence_over_gap": silence / np.maximum(mean, 1 / 24),
    }


def _rhythm(found: Named, state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    """The long rhythm. Whole days are integers, so sums over them are exact in any order."""
    c = state.columns
    recent = c.recent_orders_ms[rows]
    silence = _days_since(recent[:, 0], now_ms)
    days = (recent // DAY_MS).astype(np.int32)  # 0 where there is no order
    ordered = days > 0
    # An order on the day of the next newer one adds nothing to the rhythm.
    pauses = np.where(ordered[:, 1:], days[:, :-1] - days[:, 1:], 0)  # [k, GAP_ORDERS - 1]
    fresh = ordered.copy()
    fresh[:, 1:] &= pauses > 0
    age = max(now_ms // DAY_MS, 0) - days
    many = (pauses > 0).sum(axis=1, dtype=np.int32).astype(np.float64)
    many[many == 0.0] = np.nan
    span = pauses.sum(axis=1, dtype=np.int64).astype(np.float64)
    mean = span / many
    squares = (pauses.astype(np.int64) ** 2).sum(axis=1).astype(np.float64)
    longest = pauses.max(axis=1).astype(np.float64)
    longest[longest == 0.0] = np.nan
    typical = squares / np.where(span > 0.0, span, np.nan)
    longer = (pauses > silence[:, None]).sum(axis=1, dtype=np.int32)
    found |= {
        "days_since_first_order": _days_since(c.first_order_ms[rows], now_ms),
        "day_gap_mean": mean,
        "day_gap_std": np.sqrt(np.maximum(squares / many - mean * mean, 0.0)),
        "day_gap_max": longest,
        "day_gap_typical": typical,
        "silence_over_typical": silence / typical,
        "silence_over_max": silence / longest,
        "longer_gap_share": longer / many,
    }
    for w in RHYTHM_DAYS:
        found[f"order_days_{w}d"] = (fresh & (age < w)).sum(axis=1, dtype=np.int32)
    for w in SILENCE_DAYS:
        silent = np.maximum(pauses - w, 0).sum(axis=1, dtype=np.int64)
        found[f"silent_share_{w}d"] = (silent + np.maximum(silence - w, 0.0)) / (span + silence)


def _trends(found: Named, state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    """The present compared with the customer's own past, from features that are there already."""
    c = state.columns

    def known(name: str) -> NDArray[np.float64]:
        return np.asarray(found[name], np.float32).astype(np.float64)  # as the matrix has it

    # A first week would be multiplied up to a life of it.
    age = np.maximum(_days_since(c.first_order_ms[rows], now_ms), MIN_AGE_DAYS)
    per_day = c.revenue_cents[rows] / 100.0 / age
    revenue_30, revenue_90 = known("revenue_30d"), known("revenue_90d")
    orders_30, orders_90 = known("orders_30d"), known("orders_90d")
    values = {
        "revenue_per_day": per_day,
        "orders_per_day": c.orders[rows] / age,
        "revenue_trend_90d": revenue_90 / (np.minimum(age, 90.0) * per_day),
        "revenue_trend_30d": revenue_30 / revenue_90,
        "orders_trend_30d": orders_30 / orders_90,
        "revenue_trend_7d": known("revenue_7d") / revenue_30,
        "lines_per_order_90d": known("order_lines_90d") / orders_90,
        "revenue_per_order_day_30d": revenue_30 / known("order_days_30d"),
        "revenue_per_order_day_90d": revenue_90 / known("order_days_90d"),
        "revenue_fading": known("revenue_decayed_30d") / known("revenue_decayed_90d"),
        "orders_fading": known("orders_decayed_30d") / known("orders_decayed_90d"),
    }
    found |= {name: np.where(np.isfinite(v), v, np.nan) for name, v in values.items()}


def _row_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over axis 1, column by column: the order of additions never depends on the shape."""
    total = values[:, 0].copy()
    for j in range(1, values.shape[1]):
        total += values[:, j]
    return total


def _decayed(found: Named, state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    c = state.columns
    age = np.maximum(now_ms - c.decayed_at_ms[rows], 0)[:, None]
    sums = c.decayed[rows] * np.exp2(-age / HALF_LIVES_MS)
    names = [
        f"{what}_decayed_{int(days)}d"
        for days in DECAY_HALF_LIVES_DAYS
        for what in ("orders", "revenue", "activity")
    ]
    found |= dict(zip(names, sums.T, strict=True))
