"""Churn alerts: when one opens, when it closes, and what it says.

Open: enough data, p_churn >= enter, none open, the cooldown since the last one is over, and the
customer is overdue: silent for longer than is usual for them, whatever the model's horizon is.
Close: the customer ordered; or p_churn < leave; or there is no longer enough data (so long silent
that the alert is history: the customer has lapsed). Between leave and enter nothing happens, so a
score that trembles around a threshold raises one alert.

The owners' definitions may say more: other thresholds, a budget a day (`streams.core.budget`),
quiet hours, after which what was to open opens, and whom to leave alone. Who is suppressed gets no
alert, and one that is open closes. Who was contacted often enough gets alerts without an action;
with a budget none, since that would be a waste of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from schemas.lives import life_of
from schemas.messages import AlertMessage, LearnerSnapshot
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.audiences import held_everywhere
from streams.core.budget import begin_day, choose
from streams.core.config import CoreConfig, Scorer
from streams.core.contacts import left_alone_until_ms
from streams.core.erasure import erased_namesakes
from streams.core.features import DAY_MS
from streams.core.hashing import hashes, stable_id, stable_share
from streams.core.local_time import day_ends_ms, quiet_until_ms
from streams.core.memberships import NO_TIME
from streams.core.quantities import UserQuantities
from streams.core.rulebook import NO_ACTION, Rulebook
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows
from streams.core.times import iso_utc

__all__ = ["RULE", "Alerting", "alert_cases", "enough_data", "overdue", "update_alerts"]

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


@dataclass(frozen=True)
class Alerting:
    """What a step did about alerts."""

    table: TableRows
    """Rows of `alerts`."""
    messages: list[AlertMessage]
    """For Kafka, closings before openings."""
    due_ms: NDArray[np.int64]
    """When to look at each of the k users again, int64 [k]; the largest number: never."""
    silenced: NDArray[np.bool_]
    """Who of the k users was suppressed when the step began, bool [k]."""
    budget: TableRows | None = None
    """The `alert_budget` row of a day that has ended."""
    over_budget: int = 0
    """Users who were worth an alert and found no room, for the first time today."""
    postponed: int = 0
    """Users whose alert waits for the end of quiet hours."""


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
) -> Alerting:
    """Open and close alerts of the users in `rows` (int64 [k]; features x, float32 [k, F])."""
    c = state.columns
    budget_row = begin_day(state, book.definitions.alerts, now_ms)
    silenced = _suppressed(state, rows, x, now_ms, book)
    closing, why, opening = _candidates(state, rows, x, silenced, now_ms, config, scorer, book)
    chosen = _chosen(state, rows, opening, now_ms, book)
    opening = opening[chosen.opens]

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
    actions = _actions(state, changed, x[at], now_ms, book) if len(at) else []
    is_open = np.arange(len(changed)) >= len(closed)
    reasons: list[list[str]] = [[] for _ in closed]
    if len(opened):
        reasons += [list(r) for r in scorer.reasons(x[opening], learner)]
    table, messages = _describe(
        state, changed, is_open, list(why), reasons, actions, held, now_ms, produced_ms,
        config, scorer, learner.version if learner else 0,
    )  # fmt: skip
    return Alerting(
        table, messages, chosen.due_ms, silenced, budget_row, chosen.over_budget, chosen.postponed
    )


def _candidates(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    silenced: NDArray[np.bool_],
    now_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    book: Rulebook,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Places (int64) of those of the k users whose alert closes, why, and of those for whom one may
    open."""
    c, rules = state.columns, book.definitions.alerts
    enter = config.alert_enter if rules.enter is None else rules.enter
    leave = min(config.alert_leave, enter) if rules.leave is None else rules.leave
    cooldown_ms = config.alert_cooldown_ms if rules.cooldown_ms is None else rules.cooldown_ms
    p = c.p_churn[rows]
    fit = enough_data(state, rows, now_ms, config, max(1, scorer.min_orders))
    open_ = c.at_risk[rows]
    ordered = open_ & (c.orders[rows] > c.alert_orders[rows])
    fell = open_ & ~ordered & (p < leave)
    lapsed = open_ & ~ordered & ~fell & ~fit
    closing = np.flatnonzero(ordered | fell | lapsed | (open_ & silenced))
    why = np.select(
        [ordered[closing], fell[closing], lapsed[closing]],
        ["ordered", "score_fell", "lapsed"],
        "suppressed",
    )
    cooled = (c.alert_closed_ms[rows] == 0) | (now_ms - c.alert_closed_ms[rows] >= cooldown_ms)
    opening = np.flatnonzero(~open_ & fit & cooled & ~silenced & (p >= enter))
    late = overdue(state, rows[opening], x[opening], config.alert_overdue_ratio)
    return closing, why, opening[late]


def _suppressed(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    book: Rulebook,
) -> NDArray[np.bool_]:
    """Who of the users in `rows` (int64 [k]) is to be left alone, by the segments they were in when
    the step began; bool [k]."""
    outcome = None
    if book.definitions.suppress:
        outcome = book.suppressed(
            book.rules.begin(UserQuantities(state, rows, x, now_ms, book.rules))
        )
    return np.zeros(len(rows), np.bool_) if outcome is None else outcome.true


@dataclass(frozen=True)
class _Chosen:
    """What becomes of those for whom an alert may open, m of them."""

    opens: NDArray[np.bool_]
    """bool [m]."""
    due_ms: NDArray[np.int64]
    """int64 [k], of all users that the step looks at."""
    over_budget: int
    postponed: int


def _chosen(
    state: ShardState,
    rows: NDArray[np.int64],
    opening: NDArray[np.int64],
    now_ms: int,
    book: Rulebook,
) -> _Chosen:
    """Whose alert opens, of those at the places `opening` (int64 [m]) of `rows` (int64 [k]), and
    when the others are looked at again."""
    c, rules = state.columns, book.definitions.alerts
    due_ms = np.full(len(rows), NO_TIME, np.int64)
    people = rows[opening]
    allowed = np.ones(len(opening), np.bool_)
    if rules.per_day:  # an alert without an action would be a waste of the budget
        allowed = left_alone_until_ms(state, people, book.definitions.caps, now_ms) == 0
    value = np.nan_to_num(c.p_churn[people].astype(np.float64) * c.expected_spend[people])
    quiet_ms = quiet_until_ms(rules, now_ms)
    found = choose(state, people[allowed], value[allowed], quiet=quiet_ms > 0)
    opens = allowed.copy()
    opens[allowed] = found.room & (quiet_ms == 0)
    waits = opening[allowed][found.worth & ~opens[allowed]]
    due_ms[waits] = quiet_ms or day_ends_ms(rules, now_ms)
    return _Chosen(opens, due_ms, found.over, len(waits) if quiet_ms else 0)


def _actions(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    book: Rulebook,
) -> list[str]:
    """What to do about each of the users in `rows` (int64 [k]); nothing, if they have had enough
    contacts."""
    actions = book.actions(UserQuantities(state, rows, x, now_ms, book.rules))
    alone_ms = left_alone_until_ms(state, rows, book.definitions.caps, now_ms)
    return [NO_ACTION if ms else action for action, ms in zip(actions, alone_ms, strict=True)]


def alert_cases(
    state: ShardState, users: Sequence[str], config: CoreConfig, book: Rulebook
) -> list[tuple[str, str]]:
    """The id of each user's open alert, "" without one, and the arm that alerts have them in."""
    if not users:
        return []
    held = held_everywhere(hashes(users), book.definitions)
    found = []
    for user, out in zip(users, held.tolist(), strict=True):
        row = state.rows_by_user.get(user)
        open_ = row is not None and bool(state.columns.at_risk[row])
        episode = int(state.columns.episode[row]) if open_ else 0
        found.append((_alert_id(state, user, episode) if open_ else "", _arm(user, out, config)))
    return found


def _alert_id(state: ShardState, user: str, episode: int) -> str:
    """Episodes count from 1 in every life of the shard, and for everybody of the same name."""
    life = life_of(state.meta.seq)
    return stable_id(
        user, RULE, episode, *((life,) if life else ()), *erased_namesakes(state, user)
    )


def _arm(user: str, held: bool, config: CoreConfig) -> str:
    return "holdout" if held or stable_share("arm", user) < config.holdout_share else "treat"


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
    ids = [_alert_id(state, u, e) for u, e in zip(users, episodes, strict=True)]
    arms = [_arm(u, out, config) for u, out in zip(users, held.tolist(), strict=True)]
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
