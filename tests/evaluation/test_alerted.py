"""Alerts on a history whose customers' fates are known."""

from __future__ import annotations

import numpy as np
import pytest

from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.evaluation.alerted import Alerted, judge_alerts
from streams.evaluation.history import History, Undone

HORIZON_DAYS = 20
LAST_DAY = 200


def history(orders: dict[str, list[int]], cancelled: tuple[str, int] | None = None) -> History:
    """Customers with orders on days; one order may have been cancelled a day later."""
    users = list(orders)
    flat = sorted((day, users.index(user)) for user, days in orders.items() for day in days)
    ts_ms = np.array([day * DAY_MS for day, _ in flat], np.int64)
    user = np.array([whose for _, whose in flat], np.int64)
    undone = Undone.nothing()
    if cancelled is not None:
        at = flat.index((cancelled[1], users.index(cancelled[0])))
        undone = Undone(np.array([at]), ts_ms[[at]] + DAY_MS, np.array([np.inf]))
    return History(users, user, ts_ms, np.ones(len(flat)), Records.empty(), undone)


def judged(known: History, alerts: list[tuple[str, int]], from_day: int = 0) -> Alerted:
    user = np.array([known.users.index(name) for name, _ in alerts], np.int64)
    at_ms = np.array([day * DAY_MS for _, day in alerts], np.int64)
    return judge_alerts(
        known, user, at_ms, horizon_days=HORIZON_DAYS, from_ms=from_day * DAY_MS, min_orders=2
    )


REGULAR = {"regular": list(range(0, LAST_DAY + 1, 5))}
"""Orders to the end: the history's last day is theirs."""


def test_alert_is_right_if_no_order_came_within_the_horizon() -> None:
    known = history({"gone": [0, 10, 20], "back": [0, 10, 20, 49], **REGULAR})
    found = judged(known, [("gone", 31), ("back", 28), ("back", 30)])
    assert found.at_ms.tolist() == [28 * DAY_MS, 30 * DAY_MS, 31 * DAY_MS]
    assert found.right.tolist() == [True, False, True]  # back after 21, and after 19 days
    assert judged(known, [("back", 29)]).right.tolist() == [True]
    assert found.customers == 2


def test_alert_is_vain_if_the_customer_was_back_as_always() -> None:
    known = history({"slow": [0, 40, 80, 120], "late": [0, 40, 80, 131], **REGULAR})
    found = judged(known, [("slow", 110), ("late", 110)])
    assert found.vain == 1  # after 40 days as always; 51 are more than 40 and a quarter


def test_lead_is_the_time_until_two_horizons_of_silence_are_over() -> None:
    known = history({"gone": [0, 10, 30], "missed": [0, 10, 30], "new": [30], **REGULAR})
    found = judged(known, [("gone", 64), ("gone", 69)], from_day=20)
    assert found.left == 2  # with one order nobody has a score
    assert found.lead_days.tolist() == [6.0]  # day 70 less 64: the first alert counts
    assert found.as_dict()["reached_share"] == 0.5


def test_who_usually_pauses_for_longer_left_after_twice_that() -> None:
    known = history({"slow": [0, 50, 100], "as always": [0, 50, 100, 151], **REGULAR})
    found = judged(known, [("slow", 150)], from_day=90)
    assert found.left == 1
    assert found.lead_days.tolist() == [50.0]  # day 200 less 150


@pytest.mark.parametrize("day", [29, 70, 71])
def test_alert_outside_the_silence_reaches_nobody(day: int) -> None:
    known = history({"gone": [0, 30], **REGULAR})
    found = judged(known, [("gone", day)], from_day=20)
    assert found.left == 1
    assert len(found.lead_days) == 0


def test_only_what_is_over_by_the_end_is_judged() -> None:
    known = history({"open": [0, 100, 165], **REGULAR})
    found = judged(known, [("open", 181)], from_day=120)
    assert len(found.at_ms) == 0
    assert found.left == 0
    assert found.as_dict() == {
        "alerts": 0, "customers": 0, "alerts_per_customer": None, "precision": None,
        "vain_share": None, "left": 0, "reached": 0, "reached_share": None, "lead_days": {},
        "foreseen": 0, "foreseen_share": None, "before_last_purchase_days": {},
    }  # fmt: skip


def test_cancelled_order_is_no_return() -> None:
    orders = {"gone": [0, 10, 30, 45], **REGULAR}
    alerts = [("gone", 44)]
    assert judged(history(orders), alerts).right.tolist() == [False]
    assert judged(history(orders, ("gone", 45)), alerts).right.tolist() == [True]


def test_shares_are_as_in_the_table() -> None:
    known = history({"gone": [0, 10, 30], "back": [0, 10, 30, 82], **REGULAR})
    found = judged(known, [("gone", 40), ("back", 40), ("back", 70)], from_day=20).as_dict()
    assert (found["alerts"], found["customers"]) == (3, 2)
    assert found["alerts_per_customer"] == 1.5
    assert found["precision"] == round(2 / 3, 4)
    assert (found["left"], found["reached"]) == (3, 2)  # "back" left twice
    assert found["lead_days"] == {"p10": 30.0, "p50": 30.0, "p90": 30.0}


def test_lead_before_the_last_purchase_is_signed_and_looks_back_two_horizons() -> None:
    known = history({"gone": [0, 20, 100], "after": [0, 30], **REGULAR})
    found = judged(known, [("gone", 59), ("gone", 70), ("after", 50)])
    assert found.left == 3  # "gone" after day 20, and for good after day 100
    assert sorted(found.before_last_days.tolist()) == [-39.0, -20.0, 30.0]
    told = found.as_dict()
    assert (told["foreseen"], told["foreseen_share"]) == (1, round(1 / 3, 4))
    assert told["before_last_purchase_days"]["p50"] == -20.0


def test_alert_once_the_fact_is_there_foresaw_nothing() -> None:
    known = history({"gone": [0, 10, 30], **REGULAR})
    found = judged(known, [("gone", 71)])
    assert found.left == 1
    assert len(found.before_last_days) == 0
