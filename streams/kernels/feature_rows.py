"""Writes feature rows, one user after the other, so that each number is read while it is in cache.

The formulas are those of `schemas.features`. `tests/core/reference_features.py` has them in numpy,
and a test compares the two bit for bit; so each operation here is the one that numpy would do, in
the same width and order.

Columns of x go by the features' names. The positions are looked up on import and compiled in as
constants, so a feature that is added in the middle of the list moves the others by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    DECAY_HALF_LIVES_DAYS,
    FEATURE_NAMES,
    GAP_ORDERS,
    MONEY_MEASURES,
    NEAR_ORDERS,
    RECENCY_KINDS,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOWS,
)
from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["UserColumns", "history_features", "present_features", "window_features"]

_DAY_MS: Final = 86_400_000
_DAY: Final = np.uint64(_DAY_MS)
_MIN_GAP_DAYS: Final = 1 / 24  # two orders in one minute do not make a day of silence infinite
_MIN_AGE_DAYS: Final = 7.0  # a first week would be multiplied up to a life of it

_AHEAD: Final = 8  # users between the one whose numbers are prefetched and the present one
_LINE: Final = 64  # bytes of a cache line

_Sums = NDArray[Any]
_Rows = NDArray[np.int64]
_X = NDArray[np.float32]


class _Columns(NamedTuple):
    """The column of x that each feature is in, by its name."""

    days_since_activity: int
    tenure_days: int

    lifetime_orders: int
    lifetime_revenue: int
    mean_order_value: int
    gap_lifetime_mean_days: int
    gap_mean_days: int
    gap_std_days: int
    gap_last_days: int
    silence_over_gap: int

    days_since_first_order: int
    day_gap_mean: int
    day_gap_std: int
    day_gap_max: int
    day_gap_typical: int
    silence_over_typical: int
    silence_over_max: int
    longer_gap_share: int

    revenue_per_day: int
    orders_per_day: int
    revenue_trend_90d: int
    revenue_trend_30d: int
    orders_trend_30d: int
    revenue_trend_7d: int
    lines_per_order_90d: int
    revenue_per_order_day_30d: int
    revenue_per_order_day_90d: int
    revenue_fading: int
    orders_fading: int

    # read by `present_features`, written through the lists below
    revenue_7d: int
    revenue_30d: int
    revenue_90d: int
    orders_30d: int
    orders_90d: int
    order_lines_90d: int
    order_days_30d: int
    order_days_90d: int
    orders_decayed_30d: int
    orders_decayed_90d: int
    revenue_decayed_30d: int
    revenue_decayed_90d: int


def _columns(names: Iterable[str]) -> NDArray[np.int64]:
    return np.array([FEATURE_NAMES.index(name) for name in names], np.uint64)


_AT: Final = _Columns(*map(FEATURE_NAMES.index, _Columns._fields))

# One column per window (and measure), kind, number of days, or half-life.
_COUNTED: Final = [name for name in COUNT_MEASURES if name not in ("rating_tenths", "ratings")]
_COUNTS_AT: Final = np.stack([_columns(f"{c}_{w.name}" for c in _COUNTED) for w in WINDOWS])
_RATING_MEAN_AT: Final = _columns(f"rating_mean_{w.name}" for w in WINDOWS)
_REVENUE_AT: Final = _columns(f"revenue_{w.name}" for w in WINDOWS)
_REFUNDS_AT: Final = _columns(f"refunds_{w.name}" for w in WINDOWS)
_DISCOUNT_SHARE_AT: Final = _columns(f"discount_share_{w.name}" for w in WINDOWS)
_DAYS_SINCE_AT: Final = _columns(f"days_since_{kind}" for kind in RECENCY_KINDS)
_ORDER_DAYS_AT: Final = _columns(f"order_days_{days}d" for days in RHYTHM_DAYS)
_SILENT_SHARE_AT: Final = _columns(f"silent_share_{days}d" for days in SILENCE_DAYS)
_DECAYED_AT: Final = _columns(
    f"{what}_decayed_{int(days)}d"
    for days in DECAY_HALF_LIVES_DAYS
    for what in ("orders", "revenue", "activity")  # as the state has them side by side
)

# Where the window sums have what.
_MEASURES: Final = np.array([COUNT_MEASURES.index(name) for name in _COUNTED], np.int64)
_RATING_TENTHS: Final = COUNT_MEASURES.index("rating_tenths")
_RATINGS: Final = COUNT_MEASURES.index("ratings")
_REVENUE: Final = MONEY_MEASURES.index("revenue_cents")
_DISCOUNT: Final = MONEY_MEASURES.index("discount_cents")
_REFUND: Final = MONEY_MEASURES.index("refund_cents")


class UserColumns(NamedTuple):
    """Columns of the state that features are made of, one row per user.

    Times in ms since 1970 UTC, 0 for never. last_seen_ms: int64 [rows, kinds]; recent_orders_ms:
    int64 [rows, GAP_ORDERS], newest first; decayed: float64 [rows, 3 H], orders, revenue (currency)
    and activity of each of H half-lives; orders: int32 [rows]; the others: int64 [rows].
    """

    last_seen_ms: _Rows
    last_activity_ms: _Rows
    first_seen_ms: _Rows
    orders: NDArray[np.int32]
    revenue_cents: _Rows
    first_order_ms: _Rows
    recent_orders_ms: _Rows
    decayed: NDArray[np.float64]


@kernel
def _prefetch_row(table: NDArray[Any], row: int) -> None:
    """Prefetch one row of a 2-d or 3-d array."""
    size = table.shape[1] * table.strides[1]
    start = address(table) + row * table.strides[0]
    at = start
    while at < start + size:
        prefetch(at)
        at += _LINE
    prefetch(start + size - 1)


@kernel
def window_features(x: _X, rows: _Rows, counts: _Sums, money: _Sums) -> None:
    """Write the windows' features of the users in `rows` into x.

    x: float32 [k, F]; rows: int64 [k]. counts (events, tenths of stars) and money (cents): integers
    [users, measures, W], in the order of COUNT_MEASURES, MONEY_MEASURES and WINDOWS.
    """
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = rows[i + _AHEAD]
            _prefetch_row(counts, ahead)
            _prefetch_row(money, ahead)
        row = rows[i]
        for w in range(len(_REVENUE_AT)):
            for j in range(len(_MEASURES)):
                x[i, _COUNTS_AT[w, j]] = counts[row, _MEASURES[j], w]
            tenths = np.float64(counts[row, _RATING_TENTHS, w])
            ratings = np.float64(counts[row, _RATINGS, w])
            revenue = np.float64(money[row, _REVENUE, w])
            discount = np.float64(money[row, _DISCOUNT, w])
            x[i, _RATING_MEAN_AT[w]] = tenths / (10.0 * ratings)
            x[i, _REVENUE_AT[w]] = revenue / 100.0
            x[i, _REFUNDS_AT[w]] = np.float64(money[row, _REFUND, w]) / 100.0
            x[i, _DISCOUNT_SHARE_AT[w]] = discount / (revenue + discount)


@kernel
def _days_since(then_ms: int, now_ms: int) -> float:
    """Days, never negative (an event may be dated slightly ahead of the clock); NaN for never."""
    return max(now_ms - then_ms, 0) / _DAY_MS if then_ms > 0 else np.nan


@kernel
def _at_least(value: float, least: float) -> float:
    """The larger one; NaN stays."""
    return least if value < least else value


@kernel
def _or_nan(value: float, known: bool) -> float:
    return value if known else np.nan


@kernel
def _orders(
    x: _X, i: int, orders: int, cents: int, first_ms: int, recent: _Rows, silence_days: float
) -> None:
    """Lifetime totals, and the gaps between the NEAR_ORDERS newest orders."""
    kept = min(orders, NEAR_ORDERS)
    revenue = cents / 100.0
    count = _or_nan(np.float64(kept - 1), kept > 1)
    total = 0.0
    for j in range(NEAR_ORDERS - 1):
        total += (recent[j] - recent[j + 1]) / _DAY_MS if j < kept - 1 else 0.0
    mean = total / count
    squares = 0.0
    for j in range(NEAR_ORDERS - 1):
        if j < kept - 1:
            off = (recent[j] - recent[j + 1]) / _DAY_MS - mean
            squares += off * off
    lifetime = _or_nan((recent[0] - first_ms) / _DAY_MS, orders > 1)
    x[i, _AT.lifetime_orders] = orders
    x[i, _AT.lifetime_revenue] = revenue
    x[i, _AT.mean_order_value] = revenue / np.float64(orders)
    x[i, _AT.gap_lifetime_mean_days] = lifetime / np.float64(orders - 1)
    x[i, _AT.gap_mean_days] = mean
    x[i, _AT.gap_std_days] = np.sqrt(squares / count)
    x[i, _AT.gap_last_days] = _or_nan((recent[0] - recent[1]) / _DAY_MS, kept > 1)
    x[i, _AT.silence_over_gap] = silence_days / _at_least(mean, _MIN_GAP_DAYS)


@kernel
def _rhythm(
    x: _X,
    i: int,
    first_ms: int,
    recent: _Rows,
    silence_days: float,
    now_ms: int,
    within: _Rows,
    beyond: _Rows,
) -> None:
    """The long rhythm. Whole days are integers, so sums over them are exact in any order.

    An order on the day of the next newer one adds nothing to the rhythm. `within` (days with an
    order) and `beyond` (days of silence) are scratch space: int64 [len(RHYTHM_DAYS)] and
    [len(SILENCE_DAYS)].
    """
    today = max(now_ms // _DAY_MS, 0)
    within[:] = 0
    beyond[:] = 0
    pauses, span, squares, longest = 0, 0, 0, 0
    longer: Any = 0
    newer: Any = np.int64(0)
    for j in range(GAP_ORDERS):
        day: Any = np.int64(np.uint64(recent[j]) // _DAY)
        if day == 0:  # no such order: nor are there older ones
            break
        pause = newer - day if j > 0 else 0
        newer = day
        if j > 0:
            if pause == 0:
                continue
            pauses += 1
            span += pause
            squares += pause * pause
            longest = max(longest, pause)
            longer += pause > silence_days
            for s in range(len(SILENCE_DAYS)):
                beyond[s] += max(pause - SILENCE_DAYS[s], 0)
        for w in range(len(RHYTHM_DAYS)):
            within[w] += today - day < RHYTHM_DAYS[w]
    count = _or_nan(np.float64(pauses), pauses > 0)
    mean = span / count
    typical = squares / _or_nan(np.float64(span), span > 0)
    most = _or_nan(np.float64(longest), longest > 0)
    x[i, _AT.days_since_first_order] = _days_since(first_ms, now_ms)
    for w in range(len(RHYTHM_DAYS)):
        x[i, _ORDER_DAYS_AT[w]] = within[w]
    x[i, _AT.day_gap_mean] = mean
    x[i, _AT.day_gap_std] = np.sqrt(_at_least(squares / count - mean * mean, 0.0))
    x[i, _AT.day_gap_max] = most
    x[i, _AT.day_gap_typical] = typical
    x[i, _AT.silence_over_typical] = silence_days / typical
    x[i, _AT.silence_over_max] = silence_days / most
    x[i, _AT.longer_gap_share] = longer / count
    for s in range(len(SILENCE_DAYS)):
        silent = np.float64(beyond[s]) + _at_least(silence_days - SILENCE_DAYS[s], 0.0)
        x[i, _SILENT_SHARE_AT[s]] = silent / (span + silence_days)


@kernel
def history_features(
    x: _X, rows: _Rows, now_ms: int, users: UserColumns, within: _Rows, beyond: _Rows
) -> None:
    """Write recency, orders and rhythm of the users in `rows` at `now_ms` into x.

    x: float32 [k, F]; rows: int64 [k]. `within` and `beyond` are scratch space: int64
    [len(RHYTHM_DAYS)] and [len(SILENCE_DAYS)].
    """
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = rows[i + _AHEAD]
            for table in (users.last_seen_ms, users.recent_orders_ms):
                _prefetch_row(table, ahead)
            for column in (
                users.last_activity_ms,
                users.first_seen_ms,
                users.revenue_cents,
                users.first_order_ms,
            ):
                prefetch(address(column) + column.strides[0] * ahead)
            prefetch(address(users.orders) + users.orders.strides[0] * ahead)
        row = rows[i]
        for kind in range(len(_DAYS_SINCE_AT)):
            x[i, _DAYS_SINCE_AT[kind]] = _days_since(users.last_seen_ms[row, kind], now_ms)
        x[i, _AT.days_since_activity] = _days_since(users.last_activity_ms[row], now_ms)
        x[i, _AT.tenure_days] = _days_since(users.first_seen_ms[row], now_ms)
        recent, first_ms = users.recent_orders_ms[row], users.first_order_ms[row]
        silence = _days_since(recent[0], now_ms)
        _orders(x, i, users.orders[row], users.revenue_cents[row], first_ms, recent, silence)
        _rhythm(x, i, first_ms, recent, silence, now_ms, within, beyond)


@kernel
def _put_finite(x: _X, i: int, column: int, value: float) -> None:
    x[i, column] = value if np.isfinite(value) else np.nan


@kernel
def present_features(
    x: _X, rows: _Rows, now_ms: int, users: UserColumns, faded: NDArray[np.float64]
) -> None:
    """Write the decayed sums, and the present compared with the customer's own past, into x.

    x: float32 [k, F], in which `window_features` and `history_features` have written already: their
    columns are read here. rows: int64 [k]. faded: float64 [k, H], the share of a decayed sum that
    is left at `now_ms`, for each half-life.
    """
    halves = faded.shape[1]
    each = len(_DECAYED_AT) // halves
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            _prefetch_row(users.decayed, rows[i + _AHEAD])
        row = rows[i]
        for h in range(halves):
            for j in range(h * each, (h + 1) * each):
                x[i, _DECAYED_AT[j]] = users.decayed[row, j] * faded[i, h]
        age_days = _at_least(_days_since(users.first_order_ms[row], now_ms), _MIN_AGE_DAYS)
        per_day = users.revenue_cents[row] / 100.0 / age_days
        revenue_30, revenue_90 = (
            np.float64(x[i, _AT.revenue_30d]),
            np.float64(x[i, _AT.revenue_90d]),
        )
        orders_30, orders_90 = np.float64(x[i, _AT.orders_30d]), np.float64(x[i, _AT.orders_90d])
        past_90 = (90.0 if age_days > 90.0 else age_days) * per_day
        revenue_7, lines_90 = (
            np.float64(x[i, _AT.revenue_7d]),
            np.float64(x[i, _AT.order_lines_90d]),
        )
        days_30, days_90 = (
            np.float64(x[i, _AT.order_days_30d]),
            np.float64(x[i, _AT.order_days_90d]),
        )
        _put_finite(x, i, _AT.revenue_per_day, per_day)
        _put_finite(x, i, _AT.orders_per_day, users.orders[row] / age_days)
        _put_finite(x, i, _AT.revenue_trend_90d, revenue_90 / past_90)
        _put_finite(x, i, _AT.revenue_trend_30d, revenue_30 / revenue_90)
        _put_finite(x, i, _AT.orders_trend_30d, orders_30 / orders_90)
        _put_finite(x, i, _AT.revenue_trend_7d, revenue_7 / revenue_30)
        _put_finite(x, i, _AT.lines_per_order_90d, lines_90 / orders_90)
        _put_finite(x, i, _AT.revenue_per_order_day_30d, revenue_30 / days_30)
        _put_finite(x, i, _AT.revenue_per_order_day_90d, revenue_90 / days_90)
        revenue_fading = np.float64(x[i, _AT.revenue_decayed_30d]) / np.float64(
            x[i, _AT.revenue_decayed_90d]
        )
        orders_fading = np.float64(x[i, _AT.orders_decayed_30d]) / np.float64(
            x[i, _AT.orders_decayed_90d]
        )
        _put_finite(x, i, _AT.revenue_fading, revenue_fading)
        _put_finite(x, i, _AT.orders_fading, orders_fading)
