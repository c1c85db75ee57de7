"""What would have been alerted on a history, and what became of those customers.

An alert is right if its customer placed no order within the horizon after it. It is vain if the
customer was back as always: within a quarter more than their usual gap. A customer left if two
horizons and twice their usual gap passed without an order; that is a fact only at the end of that
time. An alert during it reached them, and its lead is how long it was ahead of the fact.

An alert up to two horizons before the last purchase of a customer who left had foreseen it: its
lead before the last purchase is how many days earlier it came. That customer came back once more,
so this alert may count as wrong as well. The lead of an alert after the last purchase is negative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.config import CoreConfig
from streams.core.features import DAY_MS
from streams.evaluation.history import History
from streams.evaluation.measure import Task
from streams.evaluation.protocol import Protocol
from streams.evaluation.rhythm import usual_gap_days
from streams.evaluation.run import Replayed

__all__ = ["Alerted", "alerts_of", "judge_alerts"]

BACK_AS_ALWAYS: Final = 1.25
"""Times their usual gap; two gaps or more, or nothing is usual."""
GONE: Final = 2
"""Horizons, and times the usual gap."""


@dataclass(frozen=True)
class Alerted:
    """Alerts that were judged, and the customers who left meanwhile.

    `at_ms` int64 [m] and `right` bool [m] are of each alert, in the order of time; `lead_days`
    float64 [reached] of each customer's silence that an alert came into.
    """

    at_ms: NDArray[np.int64]
    right: NDArray[np.bool_]
    vain: int
    customers: int
    left: int
    lead_days: NDArray[np.float64]
    before_last_days: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Of each customer's silence with an alert since two horizons before the last purchase: by how
    much the first of these was ahead of that purchase; negative after it. float64 [k]."""

    def as_dict(self) -> dict[str, Any]:
        """As in `--json`; shares are null where there is nothing to share."""
        alerts, reached = len(self.at_ms), len(self.lead_days)
        foreseen = int((self.before_last_days > 0).sum())
        return {
            "alerts": alerts,
            "customers": self.customers,
            "alerts_per_customer": _share(alerts, self.customers),
            "precision": _share(int(self.right.sum()), alerts),
            "vain_share": _share(self.vain, alerts),
            "left": self.left,
            "reached": reached,
            "reached_share": _share(reached, self.left),
            "lead_days": _quantiles(self.lead_days),
            "foreseen": foreseen,
            "foreseen_share": _share(foreseen, self.left),
            "before_last_purchase_days": _quantiles(self.before_last_days),
        }


def _quantiles(days: NDArray[np.float64]) -> dict[str, float]:
    shares = {"p10": 0.1, "p50": 0.5, "p90": 0.9} if len(days) else {}
    return {name: round(float(np.quantile(days, share)), 1) for name, share in shares.items()}


def _share(part: int, of: int) -> float | None:
    return round(part / of, 4) if of else None


def alerts_of(
    replayed: Replayed, history: History, protocol: Protocol, churn: Task, config: CoreConfig
) -> dict[str, Alerted]:
    """`raised`: what the shard alerted in the test; `weekly_threshold`: everybody whose churn score
    is at the threshold at a weekly cut, which is what a list without a memory gives."""
    high = churn.scores["blend"] >= config.alert_enter
    by_method = {
        "raised": replayed.alerted, "weekly_threshold": (churn.user[high], churn.cut_ms[high]),
    }  # fmt: skip
    return {
        method: judge_alerts(
            history, user, at_ms, horizon_days=protocol.horizon_days, from_ms=protocol.test_from,
            min_orders=protocol.min_orders,
        )
        for method, (user, at_ms) in by_method.items()
    }  # fmt: skip


def judge_alerts(
    history: History,
    user: NDArray[np.int64],
    at_ms: NDArray[np.int64],
    *,
    horizon_days: int,
    from_ms: int,
    min_orders: int,
) -> Alerted:
    """Judge the alerts of users (int64 [m], index into `history.users`) at times (ms, int64 [m])
    since `from_ms` whose horizon is over, beside those who left since then after `min_orders`."""
    horizon_ms = horizon_days * DAY_MS
    placed = history.standing()
    by_user = np.lexsort((placed.ts_ms, placed.user))
    orders = _Timeline(placed.user[by_user], placed.ts_ms[by_user])
    in_time = np.lexsort((user, at_ms))
    user, at_ms = user[in_time], at_ms[in_time]
    judged = (at_ms >= from_ms) & (at_ms + horizon_ms <= history.last_ms)
    whom, when = user[judged], at_ms[judged]
    back = orders.next_ms(whom, when)
    last = orders.last_ms(whom, when)
    usual_ms = orders.usual_gap_ms(whom, when)
    since, silent_ms = orders.users, orders.silent_ms
    begun = np.flatnonzero(
        (orders.nth >= min_orders) & (orders.ts_ms >= from_ms) & (silent_ms >= GONE * horizon_ms)
    )
    wait_ms = GONE * np.maximum(horizon_ms, orders.usual_gap_ms(since[begun], orders.ts_ms[begun]))
    fact_ms = orders.ts_ms[begun] + wait_ms
    gone = (silent_ms[begun] >= wait_ms) & (fact_ms <= history.last_ms)
    begun, fact_ms = begun[gone], fact_ms[gone]
    alerts = np.lexsort((at_ms, user))
    raised, last_ms = _Timeline(user[alerts], at_ms[alerts]), orders.ts_ms[begun]
    lead_ms = fact_ms - raised.next_ms(since[begun], last_ms)
    early = raised.next_ms(since[begun], np.maximum(from_ms, last_ms - GONE * horizon_ms))
    before_last_ms = (last_ms - early)[early < fact_ms]
    return Alerted(
        at_ms=when,
        right=back - when >= horizon_ms,
        vain=int((back - last <= BACK_AS_ALWAYS * usual_ms).sum()),
        customers=len(np.unique(whom)),
        left=len(begun),
        lead_days=lead_ms[lead_ms > 0] / DAY_MS,
        before_last_days=before_last_ms / DAY_MS,
    )


_NEVER: Final = 1 << 60


class _Timeline:
    """What happened to users: users int64 [n], ascending, and when, ascending for each of them."""

    def __init__(self, users: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        self.users = users
        self.ts_ms = ts_ms
        self._start = np.searchsorted(users, users)
        self.nth = np.arange(len(users)) - self._start + 1
        """Of each: how many the user has had with it."""
        gap = np.append(np.diff(ts_ms), _NEVER)[: len(ts_ms)]
        same = np.append(users[1:] == users[:-1], False)[: len(ts_ms)]
        self.silent_ms = np.where(same, gap, _NEVER)
        """Of each: how long until the user's next one."""

    def _at(self, user: NDArray[np.int64], ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position of the first at `ms` or later, of each user; that of the next user if none."""
        first = np.searchsorted(self.users, user)
        stop = np.searchsorted(self.users, user, side="right")
        found = [
            a + int(np.searchsorted(self.ts_ms[a:b], t))
            for a, b, t in zip(first.tolist(), stop.tolist(), ms.tolist(), strict=True)
        ]
        return np.array(found, np.int64)

    def next_ms(self, user: NDArray[np.int64], ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first of each user at `ms` or later, int64 [m]; far in the future if none is."""
        at = self._at(user, ms)
        inside = at < np.searchsorted(self.users, user, side="right")
        found = np.full(len(user), _NEVER, np.int64)
        found[inside] = self.ts_ms[at[inside]]
        return found

    def last_ms(self, user: NDArray[np.int64], ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last one of each user before `ms`, int64 [m]; 0 if there is none."""
        at = self._at(user, ms) - 1
        inside = at >= np.searchsorted(self.users, user)
        found = np.zeros(len(user), np.int64)
        found[inside] = self.ts_ms[at[inside]]
        return found

    def usual_gap_ms(
        self, user: NDArray[np.int64], until_ms: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The usual gap of each user as known at a time, in ms, float64 [m]; 0 if there are too few
        gaps to call one usual."""
        found = np.zeros(len(user))
        for i, (whose, ms) in enumerate(zip(user.tolist(), until_ms.tolist(), strict=True)):
            start, stop = np.searchsorted(self.users, [whose, whose + 1])
            known = self.ts_ms[start:stop]
            known = known[known <= ms]
            gap = usual_gap_days(np.zeros(len(known), np.int64), known)
            found[i] = gap[0] * DAY_MS if len(gap) else 0.0
        return found
