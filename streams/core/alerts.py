"""Churn alerts: when one opens, when it closes, and what it says.

Open: enough data, p_churn >= enter, none open, the cooldown since the last one is over, and the
customer is overdue: silent for longer than is usual for them, whatever the model's horizon is.
Close: the customer ordered; or p_churn < leave; or there is no longer enough data (so long silent
that the alert is history: the customer has lapsed). Between leave and enter nothing happens, so a
score that trembles around a threshold raises one alert.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from schemas.lives import life_of
from schemas.messages import AlertMessage, LearnerSnapshot
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.audiences import held_everywhere
from streams.core.config import CoreConfig, Scorer
from streams.core.erasure import erased_namesakes
from streams.core.features import DAY_MS
from streams.core.hashing import stable_id, stable_share
from streams.core.quantities import UserQuantities
from streams.core.rulebook import Rulebook
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows
from streams.core.times import iso_utc

__all__ = ["RULE", "enough_data", "overdue", "update_alerts"]

RULE: Final = "churn"
_SILENCE, _MEAN_GAP = map(FEATURE_NAMES.index, ("days_since_order", "gap_mean_days"))


def enough_data(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, config: CoreConfig, min_orders: int
) -> NDArray[np.bool_]:
    """Which users (rows int64 [k]) have a score, and the history to act on it: the orders that
    alerts ask for, and `min_orders`, from which on a champion knows customers. bool [k]."""
    c = state.columns
    recent = now_ms - c.recent_orders_ms[rows, 0] <= config.active_within_ms
    least = max(config.min_orders, min_orders)
    fit: NDArray[np.bool_] = (c.orders[rows] >= least) & recent
    return fit & ~np.isnan(c.p_churn[rows])


def overdue(
    state: ShardState, rows: NDArray[np.int64], x: NDArray[np.float32], ratio: float
) -> NDArray[np.bool_]:
    """Which users (rows int64 [k], features x float32 [k, F]) are silent for longer than is usual
    for them. bool [k].

    The silence is `ratio` times their usual gap or more, and longer than the mean gap, which
    reasons name as usual. The usual gap is the median of the gaps between days (UTC) with an order,
    of the newest GAP_ORDERS orders. Who has no gap yet has nothing to compare with, and counts as
    overdue.
    """
    day = state.columns.recent_orders_ms[rows] // DAY_MS  # 0 where there is no such order
    gap = np.where(day[:, 1:] > 0, day[:, :-1] - day[:, 1:], 0)
    gap = np.sort(gap, axis=1)[:, ::-1]  # longest first; 0: none, and the last one is
    gaps, each = np.count_nonzero(gap, axis=1), np.arange(len(rows))
    usual_days = (gap[each, (gaps - 1) // 2] + gap[each, gaps // 2]) / 2.0
    silence_days, mean_gap_days = x[:, _SILENCE], x[:, _MEAN_GAP]  # NaN: no order, no gap
    late: NDArray[np.bool_] = silence_days >= ratio * usual_days
    return late & ~(silence_days <= mean_gap_days)


def update_alerts(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    produced_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    learner: LearnerSnapshot | None,
    book: Rulebook,
) -> tuple[TableRows, list[AlertMessage]]:
    """Open and close alerts of the scored users in `rows` (int64 [k], features x float32 [k, F]).

    Returns the `alerts` rows and the messages for Kafka, closings before openings.
    """
    c = state.columns
    p = c.p_churn[rows]
    fit = enough_data(state, rows, now_ms, config, max(1, scorer.min_orders))
    open_ = c.at_risk[rows]
    ordered = open_ & (c.orders[rows] > c.alert_orders[rows])
    fell = open_ & ~ordered & (p < config.alert_leave)
    lapsed = open_ & ~ordered & ~fell & ~fit
    closing = np.flatnonzero(ordered | fell | lapsed)
    why = np.select([ordered, fell], ["ordered", "score_fell"], "lapsed")[closing]
    cooled = (c.alert_closed_ms[rows] == 0) | (
        now_ms - c.alert_closed_ms[rows] >= config.alert_cooldown_ms
    )
    opening = np.flatnonzero(~open_ & fit & cooled & (p >= config.alert_enter))
    late = overdue(state, rows[opening], x[opening], config.alert_overdue_ratio)
    opening = opening[late]

    closed, opened = rows[closing], rows[opening]
    c.at_risk[closed] = False
    c.alert_closed_ms[closed] = now_ms
    c.at_risk[opened] = True
    c.episode[opened] += 1
    c.alert_opened_ms[opened] = now_ms
    c.alert_orders[opened] = c.orders[opened]
    for kept, score in (
        (c.alert_p, c.p_churn),
        (c.alert_champion, c.p_champion),
        (c.alert_learner, c.p_learner),
        (c.alert_spend, c.expected_spend),
    ):
        kept[opened] = score[opened]

    changed = np.concatenate([closed, opened])
    at = np.concatenate([closing, opening])
    held = held_everywhere(c.user_hash[changed], book.definitions)
    actions: list[str] = []
    if len(at):
        actions = book.actions(UserQuantities(state, changed, x[at], now_ms, book.rules))
    is_open = np.arange(len(changed)) >= len(closed)
    reasons: list[list[str]] = [[] for _ in closed]
    if len(opened):
        reasons += [list(r) for r in scorer.reasons(x[opening], learner)]
    return _describe(
        state, changed, is_open, list(why), reasons, actions, held, now_ms, produced_ms,
        config, scorer, learner.version if learner else 0,
    )  # fmt: skip


def _describe(
    state: ShardState,
    rows: NDArray[np.int64],
    is_open: NDArray[np.bool_],
    why: list[str],
    reasons: list[list[str]],
    actions: list[str],
    held: NDArray[np.bool_],
    now_ms: int,
    produced_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    learner_version: int,
) -> tuple[TableRows, list[AlertMessage]]:
    c = state.columns
    k = len(rows)
    users = [str(u) for u in state.users[rows]]
    episodes = c.episode[rows].tolist()
    life = life_of(state.meta.seq)
    # Episodes count from 1 in every life of the shard, and for everybody of the same name.
    ids = [
        stable_id(u, RULE, e, *((life,) if life else ()), *erased_namesakes(state, u))
        for u, e in zip(users, episodes, strict=True)
    ]
    arms = [
        "holdout" if out or stable_share("arm", u) < config.holdout_share else "treat"
        for u, out in zip(users, held.tolist(), strict=True)
    ]
    tiers = [VALUE_TIERS[t] for t in c.value_tier[rows]]
    priority = c.alert_p[rows] * np.nan_to_num(c.alert_spend[rows])
    states = np.where(is_open, "open", "closed").tolist()
    table: TableRows = {
        "alert_id": ids,
        "user_id": users,
        "shard": np.full(k, state.meta.shard, np.uint16),
        "rule": [RULE] * k,
        "episode": c.episode[rows].astype(np.uint32),
        "state": states,
        "version": np.where(is_open, 1, 2).astype(np.uint8),
        "raised_at": c.alert_opened_ms[rows],
        "closed_at": np.where(is_open, 0, now_ms),
        "closed_why": why + [""] * (k - len(why)),
        "p_churn": c.alert_p[rows],
        "p_champion": c.alert_champion[rows],
        "p_learner": c.alert_learner[rows],
        "expected_spend": c.alert_spend[rows],
        "priority": priority,
        "horizon_days": np.full(k, scorer.horizon_days, np.uint16),
        "reasons": reasons,
        "action": actions,
        "arm": arms,
        "value_tier": tiers,
        "lifecycle": [LIFECYCLE[code] for code in c.lifecycle[rows]],
        "champion_version": [scorer.champion_version] * k,
        "learner_version": np.full(k, learner_version, np.uint32),
        "event_produced_at": np.full(k, produced_ms, np.int64),
        "life": np.full(k, life, np.uint32),
    }
    messages = [
        AlertMessage(
            alert_id=ids[i],
            user_id=users[i],
            state=states[i],
            raised_at=iso_utc(int(table["raised_at"][i])),
            p_churn=float(table["p_churn"][i]),
            expected_spend=float(table["expected_spend"][i]),
            priority=float(priority[i]),
            horizon_days=scorer.horizon_days,
            reasons=reasons[i],
            action=actions[i],
            arm=arms[i],
        )
        for i in range(k)
    ]
    return table, messages
