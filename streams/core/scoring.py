"""Scores and forecasts of the users whose turn it is, and the rows that say so."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.messages import LearnerSnapshot
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.config import CoreConfig, Scorer
from streams.core.features import DAY_MS
from streams.core.segments import segment_names
from streams.core.state.shard_state import ShardState
from streams.core.texts import Coded, TableRows

__all__ = [
    "forecast_orders",
    "is_young",
    "mark_written",
    "rows_to_write",
    "score_rows",
    "take_scores",
]

# A score row is written when something a reader would see has changed, and once a day at least.
WRITE_P_CHANGE: Final = 0.02
WRITE_SPEND_CHANGE: Final = 0.05
WRITE_AFTER_MS: Final = DAY_MS

FORECAST_AGE_SHARE: Final = 8
"""A forecast becomes no older than an eighth of the silence it was made after, for it changes about
as fast as that grows: it is renewed every day for two weeks, and every other week in the end."""
MINUTE_MS: Final = 60_000
_BANDS: Final = 16  # of the churn probability; within each, by spend
_MOST_SPEND: Final = np.float32(1e6)  # what is larger counts as this; more than a band is wide


def is_young(state: ShardState, now_ms: int, config: CoreConfig) -> bool:
    """Whether the shop's first order is not long enough ago for anybody to be scored."""
    first_ms, least_ms = state.meta.first_order_ms, config.shop_min_ms
    # An order may be dated slightly ahead of the clock.
    return least_ms > 0 and (not first_ms or max(0, now_ms - first_ms) < least_ms)


def take_scores(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    learner: LearnerSnapshot | None,
) -> NDArray[np.int64]:
    """Score the users that the champion has a model for; the others get NaN, which reads "not
    enough data". In a shop that is too young for silences to mean something, nobody is scored.

    Returns those of `rows` that the champion gave no number, int64 [k]: a model that fails for some
    must not stop the stream, whose journal would lead every replay to the same failure.
    """
    c, meta = state.columns, state.meta
    customers = np.flatnonzero(c.orders[rows] > 0)
    if len(customers):
        first = int(c.first_order_ms[rows[customers]].min())
        meta.first_order_ms = min(meta.first_order_ms or first, first)
    young = is_young(state, now_ms, config)
    fit = np.zeros(len(rows), np.bool_) if young else scorer.covers(c.orders[rows])
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


def forecast_orders(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    swept: NDArray[np.int64],
    now_ms: int,
    sweep_interval_ms: int,
    scorer: Scorer,
) -> None:
    """Forecast the next order, and the value within a year, of those of `rows` who ordered, and of
    the swept whose forecast would else become older than a share of the silence that it was made
    after. Browsing changes little about it, and would run a second model each time. The swept
    without a value get one at once, by a champion that knows it."""
    c = state.columns
    known = ~np.isnan(c.p_churn[rows])
    old = (c.forecast_kept_minute[swept] < now_ms // MINUTE_MS) | np.isnan(c.p_buy_7d[swept])
    due = c.orders[rows] != c.forecast_after_orders[rows]
    due[np.searchsorted(rows, swept[old])] = True
    gone = rows[~known & ~(np.isnan(c.p_buy_7d[rows]) & np.isnan(c.value_365d[rows]))]
    c.p_buy_7d[gone] = c.p_buy_30d[gone] = np.nan
    c.value_365d[gone] = c.value_365d_low[gone] = c.value_365d_high[gone] = np.nan
    c.next_order_ms[gone] = 0
    _value_year(state, rows, x, swept, due & known, scorer)
    chosen = np.flatnonzero(due & known)
    if len(chosen):
        chosen = chosen[_alike(c.p_churn[rows[chosen]], c.expected_spend[rows[chosen]])]
        at = rows[chosen]
        forecast = scorer.forecast(x[chosen])
        c.p_buy_7d[at], c.p_buy_30d[at] = forecast.p_buy_7d, forecast.p_buy_30d
        days = forecast.next_order_days
        wait_ms = np.where(np.isnan(days), 0.0, days * DAY_MS).astype(np.int64)
        c.next_order_ms[at] = np.where(np.isnan(days), 0, now_ms + wait_ms)
        c.forecast_after_orders[at] = c.orders[at]
        # a visitor's forecast changes with visits, as a customer's does with orders
        since_ms = np.where(c.orders[at] > 0, c.recent_orders_ms[at, 0], c.last_activity_ms[at])
        silence_ms = np.maximum(0, now_ms - since_ms)
        # from the next sweep after this one it would be too old
        kept_ms = now_ms + silence_ms // FORECAST_AGE_SHARE - sweep_interval_ms
        c.forecast_kept_minute[at] = kept_ms // MINUTE_MS


def _value_year(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    swept: NDArray[np.int64],
    due: NDArray[np.bool_],
    scorer: Scorer,
) -> None:
    """The value within a year of those of `rows` who are `due` (bool [k]) for a forecast, and of
    the swept who have a score and no value yet."""
    c = state.columns
    chosen = due.copy()
    if scorer.long_seen_days:  # a champion that knows it may have come since
        lacks = np.isnan(c.value_365d[swept]) & ~np.isnan(c.p_churn[swept]) & (c.orders[swept] > 0)
        chosen[np.searchsorted(rows, swept[lacks])] = True
    at = rows[chosen]
    if len(at):
        year = scorer.long_value(x[chosen])
        c.value_365d[at] = year.value
        c.value_365d_low[at], c.value_365d_high[at] = year.low, year.high


def _alike(p_churn: NDArray[np.float32], spend: NDArray[np.float32]) -> NDArray[np.int64]:
    """An order of k users in which neighbours have had similar scores; int64 [k].

    Trees lead them the same way then, and a processor that guesses the way from the one before
    takes a quarter less time for it. What each gets does not depend on who stands beside.
    """
    return np.argsort(np.floor(p_churn * _BANDS) * _MOST_SPEND + np.minimum(spend, _MOST_SPEND))


def rows_to_write(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, moved: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Which of the scored users in `rows` (int64 [k]) get a score row: those whose change a reader
    would see, those who `moved` (bool [k]) to another segment, and every user once a day."""
    c = state.columns
    p, spend = c.p_churn[rows], c.expected_spend[rows]
    with np.errstate(invalid="ignore"):
        # A visitor's spend is small, and each click moves it by a part.
        steady = np.abs(spend - c.written_spend[rows]) <= WRITE_SPEND_CHANGE * spend
        unchanged = (
            (np.abs(p - c.written_p[rows]) < WRITE_P_CHANGE) & (steady | (c.orders[rows] == 0))
        ) | (np.isnan(p) & np.isnan(c.written_p[rows]) & (c.written_at_ms[rows] > 0))
    unchanged &= c.orders[rows] == c.written_orders[rows]
    unchanged &= now_ms - c.written_at_ms[rows] < WRITE_AFTER_MS
    unchanged &= ~moved
    written: NDArray[np.int64] = rows[~unchanged]
    return written


def mark_written(state: ShardState, rows: NDArray[np.int64], now_ms: int) -> None:
    """Remember the scores of `rows` (int64 [k]) as those written last."""
    c = state.columns
    c.written_p[rows], c.written_spend[rows] = c.p_churn[rows], c.expected_spend[rows]
    c.written_orders[rows], c.written_at_ms[rows] = c.orders[rows], now_ms


def score_rows(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, scorer: Scorer, learner_version: int
) -> TableRows:
    """`score_history` rows of the users in `rows` (int64 [k])."""
    c, k = state.columns, len(rows)
    low, high = scorer.spend_interval(c.orders[rows], c.p_churn[rows], c.expected_spend[rows])
    return {
        "user_id": state.users.strings(rows),
        "shard": np.full(k, state.meta.shard, np.uint16),
        "seq": np.full(k, state.meta.seq, np.uint64),
        "scored_at": np.full(k, now_ms, np.int64),
        "p_churn": c.p_churn[rows],
        "p_champion": c.p_champion[rows],
        "p_learner": c.p_learner[rows],
        "expected_spend": c.expected_spend[rows],
        "spend_low": low,
        "spend_high": high,
        "p_buy_7d": c.p_buy_7d[rows],
        "p_buy_30d": c.p_buy_30d[rows],
        "next_order_at": c.next_order_ms[rows],
        "value_365d": c.value_365d[rows],
        "value_365d_low": c.value_365d_low[rows],
        "value_365d_high": c.value_365d_high[rows],
        "value_365d_seen_days": np.full(k, scorer.long_seen_days, np.uint16),
        "horizon_days": np.full(k, scorer.horizon_days, np.uint16),
        "champion_version": Coded.same(scorer.champion_version, k),
        "learner_version": np.full(k, learner_version, np.uint32),
        "value_tier": Coded(c.value_tier[rows], VALUE_TIERS),
        "lifecycle": Coded(c.lifecycle[rows], LIFECYCLE),
        "at_risk": c.at_risk[rows].astype(np.uint8),
        "lifetime_orders": c.orders[rows].astype(np.uint32),
        "last_order_at": c.recent_orders_ms[rows, 0],
        "segments": segment_names(state, rows),
    }
