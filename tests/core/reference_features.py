"""The feature matrix in numpy: the reference for `streams.kernels.feature_rows`.

One measure after the other for all users, as the formulas read; the kernels do one user after the
other and must give the same bits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    FEATURE_NAMES,
    FEATURES,
    MONEY_MEASURES,
    NEAR_ORDERS,
    RECENCY_KINDS,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOWS,
    YEAR_DAYS,
)
from streams.core.features import DAY_MS, HALF_LIVES_MS
from streams.core.state.columns import DECAYED
from streams.core.state.shard_state import ShardState

__all__ = ["features"]

_RATING = COUNT_MEASURES.index("rating_tenths")
_RATINGS = COUNT_MEASURES.index("ratings")
_PLAIN: Final = np.array([i for i in range(len(COUNT_MEASURES)) if i not in (_RATING, _RATINGS)])
_REVENUE = MONEY_MEASURES.index("revenue_cents")
_DISCOUNT = MONEY_MEASURES.index("discount_cents")
_REFUND = MONEY_MEASURES.index("refund_cents")
_KINDS: Final = len(RECENCY_KINDS)
_AT: Final = {name: i for i, name in enumerate(FEATURE_NAMES)}
MIN_AGE_DAYS: Final = 7.0


def features(state: ShardState, rows: NDArray[np.int64], now_ms: int) -> NDArray[np.float32]:
    """Features of the users in `rows` (int64 [k]) at `now_ms`, the windows' clock.

    Returns float32 [k, F], columns in `schemas.features.FEATURES` order; what is unknown is NaN.
    Each row depends on its user alone, bit for bit, whichever others are asked for.
    """
    x = np.empty((len(rows), len(FEATURES)), np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        column = _windows(x, state, rows)
        column = _recency(x, column, state, rows, now_ms)
        column = _orders(x, column, state, rows, now_ms)
        column = _rhythm(x, column, state, rows, now_ms)
        _decayed(x, _AT["orders_decayed_7d"], state, rows, now_ms)
        _trends(x, column, state, rows, now_ms)
    x[:, _AT["day_of_year"]] = now_ms / DAY_MS % YEAR_DAYS
    return x


def _windows(x: NDArray[np.float32], state: ShardState, rows: NDArray[np.int64]) -> int:
    column = 0
    for w in range(len(WINDOWS)):
        counts = state.counts.table[..., w][rows]
        money = state.money.table[..., w][rows].astype(np.float64)
        plain = len(_PLAIN)
        x[:, column : column + plain] = counts[:, _PLAIN]
        column += plain
        revenue, discount = money[:, _REVENUE], money[:, _DISCOUNT]
        x[:, column] = counts[:, _RATING] / (10.0 * counts[:, _RATINGS])
        x[:, column + 1] = revenue / 100.0
        x[:, column + 2] = money[:, _REFUND] / 100.0
        x[:, column + 3] = discount / (revenue + discount)
        column += 4
    return column


def _days_since(then_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.float64]:
    """Days, never negative (an event may be dated slightly ahead of the clock); NaN for never."""
    days = np.maximum(now_ms - then_ms, 0) / DAY_MS
    return np.where(then_ms > 0, days, np.nan)


def _recency(
    x: NDArray[np.float32], column: int, state: ShardState, rows: NDArray[np.int64], now_ms: int
) -> int:
    c = state.columns
    x[:, column : column + _KINDS] = _days_since(c.last_seen_ms[rows], now_ms)
    column += _KINDS
    x[:, column] = _days_since(c.last_activity_ms[rows], now_ms)
    x[:, column + 1] = _days_since(c.first_seen_ms[rows], now_ms)
    return column + 2


def _orders(
    x: NDArray[np.float32], column: int, state: ShardState, rows: NDArray[np.int64], now_ms: int
) -> int:
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
    columns: list[NDArray[Any]] = [
        orders,
        revenue,
        revenue / orders,
        lifetime_gap,
        mean,
        np.sqrt(variance),
        np.where(kept > 1, gaps[:, 0], np.nan),
        # a floor of one hour: two orders in one minute do not make a day of silence infinite
        silence / np.maximum(mean, 1 / 24),
    ]
    for i, values in enumerate(columns):
        x[:, column + i] = values
    return column + len(columns)


def _rhythm(
    x: NDArray[np.float32], column: int, state: ShardState, rows: NDArray[np.int64], now_ms: int
) -> int:
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
    values = [
        _days_since(c.first_order_ms[rows], now_ms),
        *((fresh & (age < w)).sum(axis=1, dtype=np.int32) for w in RHYTHM_DAYS),
        mean,
        np.sqrt(np.maximum(squares / many - mean * mean, 0.0)),
        longest,
        typical,
        silence / typical,
        silence / longest,
        longer / many,
        *(
            (np.maximum(pauses - w, 0).sum(axis=1, dtype=np.int64) + np.maximum(silence - w, 0.0))
            / (span + silence)
            for w in SILENCE_DAYS
        ),
    ]
    for i, value in enumerate(values):
        x[:, column + i] = value
    return column + len(values)


def _trends(
    x: NDArray[np.float32], column: int, state: ShardState, rows: NDArray[np.int64], now_ms: int
) -> None:
    """The present against the customer's own past, from the columns that are there already."""
    c = state.columns

    def known(name: str) -> NDArray[np.float64]:
        return x[:, _AT[name]].astype(np.float64)

    # A first week would be multiplied up to a life of it.
    age = np.maximum(_days_since(c.first_order_ms[rows], now_ms), MIN_AGE_DAYS)
    per_day = c.revenue_cents[rows] / 100.0 / age
    revenue_30, revenue_90 = known("revenue_30d"), known("revenue_90d")
    orders_30, orders_90 = known("orders_30d"), known("orders_90d")
    values = [
        per_day,
        c.orders[rows] / age,
        revenue_90 / (np.minimum(age, 90.0) * per_day),
        revenue_30 / revenue_90,
        orders_30 / orders_90,
        known("revenue_7d") / revenue_30,
        known("order_lines_90d") / orders_90,
        revenue_30 / known("order_days_30d"),
        revenue_90 / known("order_days_90d"),
        known("revenue_decayed_30d") / known("revenue_decayed_90d"),
        known("orders_decayed_30d") / known("orders_decayed_90d"),
    ]
    for i, value in enumerate(values):
        x[:, column + i] = np.where(np.isfinite(value), value, np.nan)


def _row_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over axis 1, column by column: the order of additions never depends on the shape."""
    total = values[:, 0].copy()
    for j in range(1, values.shape[1]):
        total += values[:, j]
    return total


def _decayed(
    x: NDArray[np.float32], column: int, state: ShardState, rows: NDArray[np.int64], now_ms: int
) -> None:
    c = state.columns
    age = np.maximum(now_ms - c.decayed_at_ms[rows], 0)[:, None]
    x[:, column : column + DECAYED] = c.decayed[rows] * np.exp2(-age / HALF_LIVES_MS)
