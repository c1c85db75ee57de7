"""Label questions: "will this customer order within the horizon?", asked, and answered by time.

Each user has at most one open question. The day on which it is asked is set by the user's hash, one
day in every horizon, so that the questions are an unbiased sample of user-days, and one that does
not depend on the score or on what the user does. It matures at exactly asked + H, whatever
happened before: learning "ordered" early and "churned" late would teach that everyone orders.
H is the horizon of the champion that was asked, also if another champion has followed it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, PACKED_FEATURE_NAMES
from schemas.lives import first_of, life_of
from schemas.messages import Example
from streams.core.alerts import enough_data
from streams.core.config import CoreConfig, Scorer
from streams.core.examples import EXAMPLE_TABLE, example_rows, first_orders_ms
from streams.core.features import DAY_MS
from streams.core.hashing import mix
from streams.core.scoring import is_young
from streams.core.state.open_questions import OpenQuestions
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["VISITORS_ASKED", "ask", "look_ahead", "mature", "worth_asking"]

VISITORS_ASKED: Final = 4
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")
_VISITOR_SALT: Final = np.uint64(0x76697369)  # "visi": the day of asking is set by the same hash


def look_ahead(state: ShardState, horizon_days: int) -> None:
    """Ask about this horizon from now on. Periods counted by another one say nothing about it, so
    every user starts as one who was just seen: in the middle of a period, waiting for the next."""
    if state.meta.horizon_days != horizon_days:
        state.meta.horizon_days, state.meta.horizon_since = horizon_days, state.meta.seq
        state.will_change(np.arange(state.n))
        state.columns.question_period[: state.n] = -1


def worth_asking(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, config: CoreConfig, scorer: Scorer
) -> NDArray[np.bool_]:
    """Whom of the users in `rows` (int64 [k]) to ask about, bool [k].

    Customers, if an alert could be acted on. Who has ordered less often, and visitors, also if
    there is no score: a model of theirs is made from these questions, so they are asked if answers
    are kept. Visitors are many, and their answers mostly alike, so one in VISITORS_ASKED is asked,
    by the hash of their id.
    """
    min_orders = max(1, scorer.min_orders)
    fit = enough_data(state, rows, now_ms, config, min_orders)
    if not config.keep_examples or is_young(state, now_ms, config):
        return fit
    c = state.columns
    visitor = c.orders[rows] <= 0
    ordered = now_ms - c.recent_orders_ms[rows, 0] <= config.active_within_ms
    came = now_ms - c.last_activity_ms[rows] <= config.active_within_ms
    drawn = mix(c.user_hash[rows], np.full(len(rows), _VISITOR_SALT)) % np.uint64(VISITORS_ASKED)
    few = ~visitor & (c.orders[rows] < min_orders) & ordered
    found: NDArray[np.bool_] = fit | few | (visitor & came & (drawn == 0))
    return found


def ask(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    eligible: NDArray[np.bool_],
    now_ms: int,
    champion_version: str,
    learner_version: int,
) -> None:
    """Ask those of the swept users in `rows` whose day it is. x: float32 [k, F]; eligible: [k]."""
    c = state.columns
    horizon_days = max(1, state.meta.horizon_days)
    phase = (c.user_hash[rows] % np.uint64(horizon_days)).astype(np.int64)
    period = ((now_ms // DAY_MS + phase) // horizon_days).astype(np.int32)
    # A user first seen in the middle of a period waits for the next one: asking at once would
    # make the sample one of first days.
    due = (c.question_period[rows] >= 0) & (period > c.question_period[rows])
    # Who is swept earlier in the day than last time still has the last question open: their turn
    # comes with the next sweep, not a whole horizon later.
    free = c.asked_ms[rows] == 0
    c.question_period[rows[free | ~due]] = period[free | ~due]
    chosen = np.flatnonzero(due & eligible & free)
    if not len(chosen):
        return
    at = rows[chosen]
    c.asked_ms[at] = now_ms
    c.question_orders[at] = 0
    c.question_cents[at] = 0
    scores = np.stack(
        [c.p_churn[at], c.p_champion[at], c.p_learner[at], c.expected_spend[at]], axis=1
    )
    c.due_ms[at] = now_ms + horizon_days * DAY_MS
    champions = state.meta.champions
    if champion_version not in champions:
        champions.append(champion_version)
    k, champion = len(at), champions.index(champion_version)
    state.questions.append(
        horizon_days,
        OpenQuestions(
            asked_ms=np.full(k, now_ms, np.int64),
            champion=np.full(k, champion, np.int32),
            learner=np.full(k, learner_version, np.int32),
            rows=at.astype(np.int32),
            scores=scores,
            x=x[chosen],
        ),
    )


def mature(
    state: ShardState, now_ms: int, config: CoreConfig, scorer: Scorer
) -> tuple[dict[str, TableRows], list[Example]]:
    """Answer every question whose horizon has passed: rows by table, and the examples for Kafka.

    The learner, and who judges predictions by `matured_predictions`, get those about customers. The
    others' are only kept, under the number before the first of the life.
    """
    parts: dict[str, list[TableRows]] = {}
    examples: list[Example] = []
    for horizon_days, questions in state.questions.take_due(now_ms):
        state.will_change(questions.rows.astype(np.int64))
        orders = questions.x[:, _ORDERS]
        customers = (orders >= max(1, scorer.min_orders)) & ~np.isnan(questions.scores[:, 0])
        for numbered, where in (True, customers), (False, ~customers):
            some = questions.at(np.flatnonzero(where))
            at = some.rows.astype(np.int64)
            found = _examples(state, horizon_days, some, numbered=numbered)
            predictions = _prediction_rows(found, [str(u) for u in state.users[at]])
            if config.keep_examples and len(some):
                first_ms = first_orders_ms(state, at, some.asked_ms, horizon_days)
                parts.setdefault(EXAMPLE_TABLE, []).append(
                    example_rows(predictions, first_ms, some.x)
                )
            if numbered and len(some):
                parts.setdefault("matured_predictions", []).append(predictions)
                examples += found
            state.columns.asked_ms[at] = 0
    return {table: _joined(rows) for table, rows in parts.items()}, examples


def _examples(
    state: ShardState, horizon_days: int, questions: OpenQuestions, *, numbered: bool
) -> list[Example]:
    """Questions of one horizon, answered and, if they are to be, numbered."""
    c, at = state.columns, questions.rows.astype(np.int64)
    churned = (c.question_orders[at] == 0).tolist()
    spend = (c.question_cents[at] / 100.0).tolist()
    times, learners = questions.asked_ms.tolist(), questions.learner.tolist()
    champions = [state.meta.champions[i] for i in questions.champion.tolist()]
    first, step = state.meta.examples + 1, 1
    if numbered:
        state.meta.examples += len(questions)
    else:
        first, step = first_of(life_of(state.meta.seq)) - 1, 0
    return [
        Example(
            shard=state.meta.shard,
            ordinal=first + step * i,
            asked_at_ms=times[i],
            matured_at_ms=times[i] + horizon_days * DAY_MS,
            horizon_days=horizon_days,
            x=questions.x[i].tobytes(),
            p_champion=p_champion,
            p_learner=p_learner,
            p_churn=p_churn,
            spend_predicted=expected,
            churned=churned[i],
            spend=spend[i],
            champion_version=champions[i],
            learner_version=learners[i],
            features=PACKED_FEATURE_NAMES,
        )
        for i, (p_churn, p_champion, p_learner, expected) in enumerate(questions.scores.tolist())
    ]


def _prediction_rows(examples: list[Example], users: list[str]) -> TableRows:
    return {
        "shard": np.array([e.shard for e in examples], np.uint16),
        "ordinal": np.array([e.ordinal for e in examples], np.uint64),
        "user_id": users,
        "asked_at": np.array([e.asked_at_ms for e in examples], np.int64),
        "matured_at": np.array([e.matured_at_ms for e in examples], np.int64),
        "horizon_days": np.array([e.horizon_days for e in examples], np.uint16),
        "p_churn": np.array([e.p_churn for e in examples], np.float32),
        "p_champion": np.array([e.p_champion for e in examples], np.float32),
        "p_learner": np.array([e.p_learner for e in examples], np.float32),
        "churned": np.array([e.churned for e in examples], np.uint8),
        "spend_predicted": np.array([e.spend_predicted for e in examples], np.float32),
        "spend": np.array([e.spend for e in examples], np.float32),
        "champion_version": [e.champion_version for e in examples],
        "learner_version": np.array([e.learner_version for e in examples], np.uint32),
    }


def _joined(parts: list[TableRows]) -> TableRows:
    """The rows of all horizons: more than one while a champion of another one is new."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(column, np.ndarray)
        else [value for part in parts for value in part[name]]
        for name, column in parts[0].items()
    }
