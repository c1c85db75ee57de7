"""Matured questions as rows of ClickHouse, with the very features that were served.

What the further heads of a champion need is known by the first order within the horizon: whether
there was one within 7 days and within 30 (`streams.evaluation.live` makes labels of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import LISTED_FEATURE_NAMES
from schemas.messages import Example
from streams.core.features import DAY_MS
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["EXAMPLE_TABLE", "example_rows", "first_orders_ms"]

EXAMPLE_TABLE: Final = "examples"


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
    examples: Sequence[Example],
    users: list[str],
    first_order_ms: NDArray[np.int64],
    x: NDArray[np.float32],
) -> TableRows:
    """`examples` rows: users [k], first_order_ms int64 [k], x float32 [k, F]."""
    return {
        "user_id": users,
        "asked_at": np.array([e.asked_at_ms for e in examples], np.int64),
        "matured_at": np.array([e.matured_at_ms for e in examples], np.int64),
        "horizon_days": np.array([e.horizon_days for e in examples], np.uint16),
        "shard": np.array([e.shard for e in examples], np.uint16),
        "ordinal": np.array([e.ordinal for e in examples], np.uint64),
        "churned": np.array([e.churned for e in examples], np.uint8),
        "spend": np.array([e.spend for e in examples], np.float32),
        "first_order_at": first_order_ms,
        "feature_names": [LISTED_FEATURE_NAMES] * len(examples),
        "features": x,
    }
