"""Scores of the users whose turn it is, and what lies ahead of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.messages import LearnerSnapshot
from streams.core.config import CoreConfig, Scorer
from streams.core.features import DAY_MS
from streams.core.state.shard_state import ShardState

__all__ = ["take_outlook", "take_scores"]

OUTLOOK_AGE_SHARE: Final = 8
"""An outlook becomes no older than an eighth of the silence it was made after, for it changes about
as fast as that grows: it is taken anew every day for two weeks, and every other week in the end."""
MINUTE_MS: Final = 60_000
_NEVER: Final = np.iinfo(np.int32).max  # more orders than anybody has
_BANDS: Final = 16  # of the churn probability; within each, by spend
_MOST_SPEND: Final = np.float32(1e6)  # told apart; more than a band is wide


def take_scores(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    learner: LearnerSnapshot | None,
) -> NDArray[np.int64]:
    """Who has enough history gets scores; the others have NaN, which reads "not enough data".

    Enough is what the champion was trained on: so many orders of the user, and a shop old enough
    for its customers' silences to mean something.

    Returns whom the champion gave no number, of `rows`: a model that fails for some must not stop
    the stream, whose journal would lead every replay to the same failure.
    """
    c, meta = state.columns, state.meta
    customers = np.flatnonzero(c.orders[rows] > 0)
    if len(customers):
        first = int(c.first_order_ms[rows[customers]].min())
        meta.first_order_ms = min(meta.first_order_ms or first, first)
    # An order may be dated slightly ahead of the clock.
    young = not meta.first_order_ms or max(0, now_ms - meta.first_order_ms) < config.shop_min_ms
    fit = c.orders[rows] >= (_NEVER if young else max(1, scorer.min_orders))
    scored = np.flatnonzero(fit)
    columns = (c.p_churn, c.p_champion, c.p_learner, c.expected_spend)
    refused = np.empty(0, np.int64)
    if len(scored):
        scored = scored[_alike(c.p_churn[rows[scored]], c.expected_spend[rows[scored]])]
        at = rows[scored]
        scores = scorer.score(x[scored], learner)
        new = [scores.p_churn, scores.p_champion, scores.p_learner, scores.spend]
        known = ~np.isnan(scores.p_churn)
        refused = at[~known]
        if len(refused):
            at, new = at[known], [values[known] for values in new]
        for column, values in zip(columns, new, strict=True):
            column[at] = values
    if len(scored) < len(rows):
        for column in columns:  # a champion that asks for more may have come since
            column[rows[~fit]] = np.nan
    return refused


def take_outlook(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    swept: NDArray[np.int64],
    now_ms: int,
    sweep_interval_ms: int,
    scorer: Scorer,
) -> None:
    """Chances of an order, and when it is due, of those of `rows` who ordered, and of the swept
    whose outlook would else become older than a share of the silence that it was made after.
    Browsing changes little about it, and would pay for a second model each time."""
    c = state.columns
    known = ~np.isnan(c.p_churn[rows])
    old = (c.outlook_kept_minute[swept] < now_ms // MINUTE_MS) | np.isnan(c.p_buy_7d[swept])
    due = c.orders[rows] != c.outlook_orders[rows]
    due[np.searchsorted(rows, swept[old])] = True
    gone = rows[~known & ~np.isnan(c.p_buy_7d[rows])]
    c.p_buy_7d[gone] = c.p_buy_30d[gone] = np.nan
    c.next_order_ms[gone] = 0
    chosen = np.flatnonzero(due & known)
    if len(chosen):
        chosen = chosen[_alike(c.p_churn[rows[chosen]], c.expected_spend[rows[chosen]])]
        at = rows[chosen]
        outlook = scorer.outlook(x[chosen])
        c.p_buy_7d[at], c.p_buy_30d[at] = outlook.p_buy_7d, outlook.p_buy_30d
        days = outlook.next_order_days
        wait_ms = np.where(np.isnan(days), 0.0, days * DAY_MS).astype(np.int64)
        c.next_order_ms[at] = np.where(np.isnan(days), 0, now_ms + wait_ms)
        c.outlook_orders[at] = c.orders[at]
        silence_ms = np.maximum(0, now_ms - c.recent_orders_ms[at, 0])
        # from the next sweep after this one it would be too old
        kept_ms = now_ms + silence_ms // OUTLOOK_AGE_SHARE - sweep_interval_ms
        c.outlook_kept_minute[at] = kept_ms // MINUTE_MS


def _alike(p_churn: NDArray[np.float32], spend: NDArray[np.float32]) -> NDArray[np.int64]:
    """An order of k users in which neighbours have had similar scores; int64 [k].

    Trees lead them the same way then, and a processor that guesses the way from the one before
    takes a quarter less time for it. What each gets does not depend on who stands beside.
    """
    return np.argsort(np.floor(p_churn * _BANDS) * _MOST_SPEND + np.minimum(spend, _MOST_SPEND))
