"""Matured questions as rows of ClickHouse, with the very features that were served.

What the further heads of a champion need is known by the first order within the horizon: whether
there was one within 7 days and within 30 (`streams.evaluation.live` makes labels of it).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, LISTED_FEATURE_NAMES
from streams.core.features import DAY_MS
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["EXAMPLE_TABLE", "example_rows", "first_orders_ms"]

EXAMPLE_TABLE: Final = "examples"
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")
_AS_PREDICTED: Final = (
    "user_id", "asked_at", "matured_at", "horizon_days", "shard", "ordinal", "churned", "spend",
    "p_churn", "spend_predicted",
)  # fmt: skip


def first_orders_ms(
    state: ShardState, rows: NDArray[np.int64], asked_ms: NDArray[np.int64], horizon_days: int
) -> NDArray[np.int64]:
    """When each of the users in `rows` first ordered in [asked, asked + horizon), int64 [k]; 0 if
    they did not, or if so many orders followed that the state no longer has the first."""
    c = state.columns
    times, asked = c.recent_orders_ms[rows], asked_ms[:, None]
    since = times >= asked
    within = since & (times < asked + horizon_days * DAY_MS)
    kept = (times > 0).sum(axis=1)
    whole = (since.sum(axis=1) < kept) | (kept >= c.orders[rows])
    first = np.where(within, times, np.iinfo(np.int64).max).min(axis=1)
    return np.where(within.any(axis=1) & whole & (c.question_orders[rows] > 0), first, 0)


def example_rows(
    predictions: TableRows, first_order_ms: NDArray[np.int64], x: NDArray[np.float32]
) -> TableRows:
    """`examples` rows of k questions: their rows of `matured_predictions`, first_order_ms int64
    [k], x float32 [k, F]."""
    return {name: predictions[name] for name in _AS_PREDICTED} | {
        "lifetime_orders": x[:, _ORDERS].astype(np.uint32),
        "first_order_at": first_order_ms,
        "feature_names": [LISTED_FEATURE_NAMES] * len(x),
        "features": x,
    }
