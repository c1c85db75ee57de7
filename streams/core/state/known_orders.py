"""The orders that are remembered one by one, so that later events can repeat, amend or undo them.

An order is (user, order id). A `U64Map` with a record of `ORDER` for each is keyed by a mix of the
two hashes; its value is the day of the newest event that named the order. An order is forgotten,
and counts as never seen, for an event from whose day the longest window would not reach back to
that day. What a cancellation or a return says before its order has come is in a record as well.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from schemas.features import WINDOWS
from streams.core.state.u64map import U64Map
from streams.core.state.windows import oldest_tile

__all__ = ["LONGEST_WINDOW_DAYS", "ORDER", "forget_orders", "oldest_known_day"]

_DAY_MS: Final = 86_400_000
LONGEST_WINDOW_DAYS: Final = max(w.length_seconds for w in WINDOWS) // 86_400
_NEVER: Final = np.iinfo(np.int32).min  # older than any day

ORDER: Final = np.dtype(
    [
        ("owner", "u8"),  # hash of the user id
        ("placed_ms", "i8"),  # the first `placed` of it; see `streams.kernels.orders`
        ("version_ms", "i8"),  # the `placed` that amounts are from
        ("cents", "i8"),
        ("discount_cents", "i8"),
        ("returned_cents", "i8"),
        ("unmatched_cents", "i8"),  # returned as events say, less what a history's reports say
        ("lines", "i2"),
        ("state", "u1"),  # bits
    ],
    align=True,
)


def oldest_known_day(clock_ms: int, active_ms: int, watermark_ms: int, lateness_ms: int) -> int:
    """Orders whose newest event was before this day (since 1970) are forgotten.

    No event that is still admitted would know them, since it is no older than the watermark less
    the lateness. By a clock that is far ahead of all events (of a history that is replayed) only
    orders are kept that may still be repeated. None is when nothing has come since `active_ms`, for
    longer than the longest window.

    >>> day = 86_400_000
    >>> oldest_known_day(200 * day, 200 * day, 200 * day, 7 * day)
    104
    >>> oldest_known_day(900 * day, 900 * day, 200 * day, 7 * day)
    193
    >>> oldest_known_day(900 * day, 200 * day, 200 * day, 7 * day)
    804
    """
    in_a_window = oldest_tile(clock_ms - lateness_ms, LONGEST_WINDOW_DAYS, _DAY_MS)
    if active_ms < in_a_window * _DAY_MS:
        return in_a_window
    return min(in_a_window, (watermark_ms - lateness_ms) // _DAY_MS)


def forget_orders(orders: U64Map, user_hash: Any) -> None:
    """Overwrite the records of one user. Their keys, hashes that lead to no name, are dropped with
    those of old orders."""
    at = np.flatnonzero(orders.records["owner"] == user_hash)
    orders.before_change(at)
    orders.words[at] = 0
    orders.values[at] = _NEVER
