"""Feature rows, one user after the other, so that each number is read while it is in the cache.

The formulas are those of `schemas.features`. `tests/core/reference_features.py` has them in numpy,
and a test compares the two bit for bit; so each operation here is the one that numpy would do, in
the same width and order.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.features import GAP_ORDERS, NEAR_ORDERS, RHYTHM_DAYS, SILENCE_DAYS
from streams.kernels.jit import kernel
from streams.kernels.memory import address, prefetch

__all__ = ["Places", "history_features", "present_features", "window_features"]

_DAY_MS: Final = 86_400_000
_DAY: Final = np.uint64(_DAY_MS)
_MIN_GAP_DAYS: Final = 1 / 24  # two orders in one minute do not make a day of silence infinite
_MIN_AGE_DAYS: Final = 7.0  # a first week would be multiplied up to a life of it

_AHEAD: Final = 8  # users ahead whose numbers are fetched into the cache
_LINE: Final = 64  # bytes

_Counts = NDArray[Any]
_Rows = NDArray[np.int64]
_X = NDArray[np.float32]


@kernel
def _ask_for(table: NDArray[Any], row: int) -> None:
    """Have a row of a 2-d array fetched."""
    size = table.shape[1] * table.strides[1]
    start = address(table) + row * table.strides[0]
    at = start
    while at < start + size:
        prefetch(at)
        at += _LINE
    prefetch(start + size - 1)


@kernel
def window_features(
    x: _X,
    columns: NDArray[np.int64],
    rows: _Rows,
    counts: _Counts,
    money: _Counts,
    plain: NDArray[np.int64],
    rating: int,
    ratings: int,
    revenue: int,
    discount: int,
    refund: int,
) -> None:
    """The windows' features into x float32 [k, F], each window's from its one of `columns` on.
    counts and money: sums by user, measure and window; `plain`: the counts that are features as
    they are; the others: where which sum is."""
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = rows[i + _AHEAD]
            _ask_for(counts, ahead)
            _ask_for(money, ahead)
        row = rows[i]
        for w in range(len(columns)):
            at = columns[w]
            for j in range(len(plain)):
                x[i, at + j] = counts[row, plain[j], w]
            at += len(plain)
            stars, many = np.float64(counts[row, rating, w]), np.float64(counts[row, ratings, w])
            spent, off = np.float64(money[row, revenue, w]), np.float64(money[row, discount, w])
            x[i, at] = stars / (10.0 * many)
            x[i, at + 1] = spent / 100.0
            x[i, at + 2] = np.float64(money[row, refund, w]) / 100.0
            x[i, at + 3] = off / (spent + off)


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
    x: _X, i: int, at: int, orders: int, cents: int, first_ms: int, recent: _Rows, silence: float
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
    x[i, at] = orders
    x[i, at + 1] = revenue
    x[i, at + 2] = revenue / np.float64(orders)
    x[i, at + 3] = lifetime / np.float64(orders - 1)
    x[i, at + 4] = mean
    x[i, at + 5] = np.sqrt(squares / count)
    x[i, at + 6] = _or_nan((recent[0] - recent[1]) / _DAY_MS, kept > 1)
    x[i, at + 7] = silence / _at_least(mean, _MIN_GAP_DAYS)


@kernel
def _rhythm(
    x: _X,
    i: int,
    at: int,
    first_ms: int,
    recent: _Rows,
    silence: float,
    now_ms: int,
    within: _Rows,
    beyond: _Rows,
) -> None:
    """The long rhythm. Whole days are integers, so sums over them are exact in any order.

    An order on the day of the next newer one tells nothing new of the rhythm. `within` and `beyond`
    are room to count in, one place for each of RHYTHM_DAYS and SILENCE_DAYS.
    """
    today = max(now_ms // _DAY_MS, 0)
    within[:] = 0
    beyond[:] = 0
    many, span, squares, longest = 0, 0, 0, 0
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
            many += 1
            span += pause
            squares += pause * pause
            longest = max(longest, pause)
            longer += pause > silence
            for s in range(len(SILENCE_DAYS)):
                beyond[s] += max(pause - SILENCE_DAYS[s], 0)
        for w in range(len(RHYTHM_DAYS)):
            within[w] += today - day < RHYTHM_DAYS[w]
    pauses = _or_nan(np.float64(many), many > 0)
    mean = span / pauses
    typical = squares / _or_nan(np.float64(span), span > 0)
    most = _or_nan(np.float64(longest), longest > 0)
    x[i, at] = _days_since(first_ms, now_ms)
    at += 1
    for w in range(len(RHYTHM_DAYS)):
        x[i, at + w] = within[w]
    at += len(RHYTHM_DAYS)
    x[i, at] = mean
    x[i, at + 1] = np.sqrt(_at_least(squares / pauses - mean * mean, 0.0))
    x[i, at + 2] = most
    x[i, at + 3] = typical
    x[i, at + 4] = silence / typical
    x[i, at + 5] = silence / most
    x[i, at + 6] = longer / pauses
    at += 7
    for s in range(len(SILENCE_DAYS)):
        silent = np.float64(beyond[s]) + _at_least(silence - SILENCE_DAYS[s], 0.0)
        x[i, at + s] = silent / (span + silence)


@kernel
def history_features(
    x: _X,
    recency_at: int,
    orders_at: int,
    rhythm_at: int,
    rows: _Rows,
    now_ms: int,
    last_seen_ms: _Rows,
    last_activity_ms: _Rows,
    first_seen_ms: _Rows,
    orders: NDArray[np.int32],
    revenue_cents: _Rows,
    first_order_ms: _Rows,
    recent_orders_ms: _Rows,
    within: _Rows,
    beyond: _Rows,
) -> None:
    """Recency, orders and rhythm into x float32 [k, F], each from its column on. The columns of
    the state as in `streams.core.state.shard_state`; `within` and `beyond` as in `_rhythm`."""
    kinds = last_seen_ms.shape[1]
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = rows[i + _AHEAD]
            for column in (last_seen_ms, recent_orders_ms):
                _ask_for(column, ahead)
            for column in (last_activity_ms, first_seen_ms, revenue_cents, first_order_ms):
                prefetch(address(column) + column.strides[0] * ahead)
            prefetch(address(orders) + orders.strides[0] * ahead)
        row = rows[i]
        for kind in range(kinds):
            x[i, recency_at + kind] = _days_since(last_seen_ms[row, kind], now_ms)
        x[i, recency_at + kinds] = _days_since(last_activity_ms[row], now_ms)
        x[i, recency_at + kinds + 1] = _days_since(first_seen_ms[row], now_ms)
        recent, first_ms = recent_orders_ms[row], first_order_ms[row]
        silence = _days_since(recent[0], now_ms)
        _orders(x, i, orders_at, orders[row], revenue_cents[row], first_ms, recent, silence)
        _rhythm(x, i, rhythm_at, first_ms, recent, silence, now_ms, within, beyond)


class Places(NamedTuple):
    """Columns of x that `present_features` reads, each named as its feature."""

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


@kernel
def _put(x: _X, i: int, at: int, value: float) -> None:
    x[i, at] = value if np.isfinite(value) else np.nan


@kernel
def present_features(
    x: _X,
    trends_at: int,
    decayed_at: int,
    places: Places,
    rows: _Rows,
    now_ms: int,
    faded: NDArray[np.float64],
    decayed: NDArray[np.float64],
    orders: NDArray[np.int32],
    revenue_cents: _Rows,
    first_order_ms: _Rows,
) -> None:
    """The decayed sums, and the present against the customer's own past, into x float32 [k, F].

    faded: float64 [k, H], what is left by now for each half-life. Reads other columns of x: call it
    last.
    """
    halves = faded.shape[1]
    each = decayed.shape[1] // halves
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            _ask_for(decayed, rows[i + _AHEAD])
        row = rows[i]
        for h in range(halves):
            for j in range(each):
                x[i, decayed_at + h * each + j] = decayed[row, h * each + j] * faded[i, h]
        age = _at_least(_days_since(first_order_ms[row], now_ms), _MIN_AGE_DAYS)
        per_day = revenue_cents[row] / 100.0 / age
        revenue_30 = np.float64(x[i, places.revenue_30d])
        revenue_90 = np.float64(x[i, places.revenue_90d])
        orders_30 = np.float64(x[i, places.orders_30d])
        orders_90 = np.float64(x[i, places.orders_90d])
        fading_30, fading_90 = places.revenue_decayed_30d, places.revenue_decayed_90d
        at = trends_at
        _put(x, i, at, per_day)
        _put(x, i, at + 1, orders[row] / age)
        _put(x, i, at + 2, revenue_90 / ((90.0 if age > 90.0 else age) * per_day))
        _put(x, i, at + 3, revenue_30 / revenue_90)
        _put(x, i, at + 4, orders_30 / orders_90)
        _put(x, i, at + 5, np.float64(x[i, places.revenue_7d]) / revenue_30)
        _put(x, i, at + 6, np.float64(x[i, places.order_lines_90d]) / orders_90)
        _put(x, i, at + 7, revenue_30 / np.float64(x[i, places.order_days_30d]))
        _put(x, i, at + 8, revenue_90 / np.float64(x[i, places.order_days_90d]))
        _put(x, i, at + 9, np.float64(x[i, fading_30]) / np.float64(x[i, fading_90]))
        fading_30, fading_90 = places.orders_decayed_30d, places.orders_decayed_90d
        _put(x, i, at + 10, np.float64(x[i, fading_30]) / np.float64(x[i, fading_90]))
