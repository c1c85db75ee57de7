"""The baselines' scores for the rows of a cut, from the history as it was known then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.baselines.baselines import Baselines, Purchases, gap_ratio, rfm
from streams.core.features import DAY_MS
from streams.evaluation.history import History
from streams.evaluation.protocol import VISIT_DAYS

__all__ = ["baseline_scores", "history_summary"]


def baseline_scores(
    baselines: Baselines,
    history: History,
    cut_ms: int,
    users: NDArray[np.int64],
    horizon_days: int,
) -> dict[str, NDArray[np.floating]]:
    """For `users` int64 [k] as of a cut: higher means likelier, task by task."""
    who = history_summary(history, cut_ms, users)
    worth = rfm(who)
    quiet = baselines.p_no_purchase(who, horizon_days)
    own = history.spend(cut_ms - 3 * horizon_days * DAY_MS, cut_ms)[users] / 3.0
    scores: dict[str, NDArray[np.floating]] = {}
    for task in ("churn", "partial"):
        scores[f"recency/{task}"] = who.last_age
        scores[f"gap/{task}"] = gap_ratio(who)
        scores[f"rfm/{task}"] = -worth
        scores[f"bgnbd/{task}"] = quiet
    scores["recency/next_visit"] = -who.last_age
    scores["gap/next_visit"] = -gap_ratio(who)
    scores["rfm/next_visit"] = worth
    scores["bgnbd/next_visit"] = 1.0 - baselines.p_no_purchase(who, VISIT_DAYS)
    scores["rfm/value"] = worth
    scores["past_spend/value"] = own
    scores["bgnbd_gg/value"] = baselines.value(who, horizon_days)
    return scores


def history_summary(
    history: History, cut_ms: int, users: NDArray[np.int64] | None = None
) -> Purchases:
    """What the baselines know as of a cut: of `users` (int64 [k]), or of all who had bought."""
    before = history.before(cut_ms, users)
    n = len(history.users)
    day = before.ts_ms // DAY_MS
    days = 1 + int(day.max(initial=0))
    purchase_days = np.bincount(np.unique(before.user * days + day) // days, minlength=n)
    last = np.zeros(n, np.int64)
    last[before.user] = before.ts_ms  # in time order: the last one stays
    first = np.zeros(n, np.int64)
    first[before.user[::-1]] = before.ts_ms[::-1]
    revenue = np.bincount(before.user, before.amount, minlength=n).astype(np.float64)
    if users is None:
        users = np.flatnonzero(purchase_days)
    days_of = purchase_days[users].astype(np.float64)
    return Purchases(
        days=days_of,
        first_age=(cut_ms - first[users]) / DAY_MS,
        last_age=(cut_ms - last[users]) / DAY_MS,
        revenue=revenue[users],
        repeat_value=revenue[users] / np.maximum(days_of, 1.0),
    )
