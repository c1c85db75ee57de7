"""The feature matrix: what `schemas.features` names, computed from the state for chosen users."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    DECAY_HALF_LIVES_DAYS,
    FEATURE_NAMES,
    FEATURES,
    MONEY_MEASURES,
    RECENCY_KINDS,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOWS,
    YEAR_DAYS,
)
from streams.core.state.shard_state import ShardState
from streams.kernels.feature_rows import (
    Places,
    history_features,
    present_features,
    window_features,
)

__all__ = ["DAY_MS", "HALF_LIVES_MS", "features"]

DAY_MS: Final = 86_400_000
HALF_LIVES_MS: Final = np.repeat(np.array(DECAY_HALF_LIVES_DAYS) * DAY_MS, 3)

_RATING = COUNT_MEASURES.index("rating_tenths")
_RATINGS = COUNT_MEASURES.index("ratings")
_PLAIN: Final = np.array([i for i in range(len(COUNT_MEASURES)) if i not in (_RATING, _RATINGS)])
_REVENUE = MONEY_MEASURES.index("revenue_cents")
_DISCOUNT = MONEY_MEASURES.index("discount_cents")
_REFUND = MONEY_MEASURES.index("refund_cents")
_AT: Final = {name: i for i, name in enumerate(FEATURE_NAMES)}
_WINDOWS_AT: Final = np.array([_AT[f"{COUNT_MEASURES[0]}_{w.name}"] for w in WINDOWS])
_RECENCY_AT: Final = _AT[f"days_since_{RECENCY_KINDS[0]}"]
_ORDERS_AT: Final = _AT["lifetime_orders"]
_RHYTHM_AT: Final = _AT["days_since_first_order"]
_DECAYED_AT: Final = _AT[f"orders_decayed_{int(DECAY_HALF_LIVES_DAYS[0])}d"]
_DAY_AT: Final = _AT["day_of_year"]
_PLACES: Final = Places(*(_AT[name] for name in Places._fields))


def features(state: ShardState, rows: NDArray[np.int64], now_ms: int) -> NDArray[np.float32]:
    """Features of the users in `rows` (int64 [k]) at `now_ms`, the windows' clock.

    Returns float32 [k, F], columns in `schemas.features.FEATURES` order; what is unknown is NaN.
    Each row depends on its user alone, bit for bit, whichever other users are in `rows`.
    """
    x = np.empty((len(rows), len(FEATURES)), np.float32)
    window_features(
        x, _WINDOWS_AT, rows, state.counts.table, state.money.table, _PLAIN,
        _RATING, _RATINGS, _REVENUE, _DISCOUNT, _REFUND,
    )  # fmt: skip
    c = state.columns
    history_features(
        x, _RECENCY_AT, _ORDERS_AT, _RHYTHM_AT, rows, now_ms,
        c.last_seen_ms, c.last_activity_ms, c.first_seen_ms,
        c.orders, c.revenue_cents, c.first_order_ms, c.recent_orders_ms,
        np.empty(len(RHYTHM_DAYS), np.int64), np.empty(len(SILENCE_DAYS), np.int64),
    )  # fmt: skip
    age_ms = np.maximum(now_ms - c.decayed_at_ms[rows], 0)
    faded = np.exp2(-age_ms[:, None] / HALF_LIVES_MS[::3])  # numpy's own; others round differently
    present_features(
        x, _AT["revenue_per_day"], _DECAYED_AT, _PLACES, rows, now_ms,
        faded, c.decayed, c.orders, c.revenue_cents, c.first_order_ms,
    )  # fmt: skip
    x[:, _DAY_AT] = now_ms / DAY_MS % YEAR_DAYS
    return x
