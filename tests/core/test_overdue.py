"""An alert waits until the customer is overdue by their own rhythm, whatever the model says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.words import words
from schemas.features import FEATURE_NAMES, GAP_ORDERS
from schemas.messages import LearnerSnapshot
from streams.core.alerts import overdue
from streams.core.features import features
from tests.core.driving import (
    HOUR_MS,
    T0,
    Driver,
    FakeScores,
    SilenceScorer,
    bounded,
    click,
    config,
    feature,
    order,
)
from tests.core.oracle import DAY_MS

CYCLE_DAYS = 30


@dataclass(frozen=True)
class ShortHorizonScorer(SilenceScorer):
    """What a model of 28 days learns of subscribers who pay every 30: whoever has just paid won't
    order within 28 days, and whoever is late neither."""

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> FakeScores:
        silence = feature(x, "days_since_order")
        lost = (silence < CYCLE_DAYS - self.horizon_days) | (silence > CYCLE_DAYS + 1)
        p = np.where(lost, 0.97, 0.1).astype(np.float32)
        return FakeScores(p, p, p, feature(x, "revenue_90d") + np.float32(0))


def live(
    days: dict[str, list[float]], until: float, scorer: SilenceScorer, **changes: float
) -> Driver:
    """A shard that lives from day 0 to `until`: orders as they come, and everybody swept twice a
    day. `days`: user -> days of orders."""
    driver = Driver(config(alert_overdue_ratio=1.25, **changes), scorer)
    due = sorted((day, user) for user, whose in days.items() for day in whose)
    for half in range(int(2 * until) + 1):
        now = half / 2
        while due and due[0][0] <= now:
            day, user = due.pop(0)
            at_ms = T0 + round(day * DAY_MS)
            driver.feed([click(user, at_ms - 1)], [order(user, at_ms)], clock_ms=at_ms)
        driver.sweep(T0 + int(now * DAY_MS))
    return driver


def opened(driver: Driver, user: str) -> list[float]:
    """The days on which alerts of a user were raised."""
    return [
        (row["raised_at"] - T0) / DAY_MS
        for row in driver.rows("alerts")
        if row["user_id"] == user and row["state"] == "open"
    ]


def every(days: float, first: float, until: float) -> list[float]:
    return [float(day) for day in np.arange(first, until, days)]


@dataclass(frozen=True)
class DarkScorer(SilenceScorer):
    """Everybody is always as good as lost, as with a horizon of a day."""

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> FakeScores:
        p = np.full(len(x), 0.97, np.float32)
        return FakeScores(p, p, p, feature(x, "revenue_90d") + np.float32(0))


@pytest.mark.parametrize("scorer", [ShortHorizonScorer(), DarkScorer()])
def test_a_subscriber_is_not_alerted_at_each_payment_and_is_once_they_stay_away(
    scorer: SilenceScorer,
) -> None:
    stays = {f"stays-{i}": every(CYCLE_DAYS, 1.3 * i, 240) for i in range(20)}
    leaves = {"leaves": every(CYCLE_DAYS, 3, 130)}
    driver = live(stays | leaves, 240, scorer)
    early = [
        (user, day, len([d for d in whose if d <= day]))
        for user, whose in stays.items()
        for day in opened(driver, user)
    ]
    assert not early
    last = leaves["leaves"][-1]
    (raised,) = opened(driver, "leaves")
    assert last + 1.25 * CYCLE_DAYS <= raised <= last + 1.25 * CYCLE_DAYS + 0.5


def test_calendar_months_weekends_and_a_second_payment_of_the_day_are_one_rhythm() -> None:
    months = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31]).astype(float)
    slips = months + np.array([0, 2, 0, 1, 0, 2, 0, 1])
    driver = live(
        {
            "months": list(months),
            "weekends": list(slips),
            "twice a day": [*months, *(months + 1 / 24)],
            "and once between": [*months, *(months[1:] + 3)],
            "two subscriptions": [*months, *(months + 10)],
        },
        216,
        ShortHorizonScorer(),
    )
    # before the first pause there is no rhythm
    known_ms = T0 + 31 * DAY_MS
    assert not [row["user_id"] for row in driver.rows("alerts") if row["raised_at"] >= known_ms]


def test_who_has_no_gap_yet_is_treated_by_the_score_alone() -> None:
    driver = live({"new": [0.0]}, 1, ShortHorizonScorer(), min_orders=1)
    assert opened(driver, "new") == [0.0]


def test_a_holiday_does_not_put_alerts_off() -> None:
    """One pause of 60 days among weekly orders is an exception, not what is usual."""
    days = [*every(7, 0, 80), *every(7, 140, 200)]
    driver = live({"u": days}, 260, SilenceScorer(), alert_enter=0.3, alert_leave=0.2)
    assert opened(driver, "u")[-1] == days[-1] + 18  # p is 0.3 then: the score alone decides


def test_an_open_alert_does_not_flap() -> None:
    driver = live({"u": every(10, 0, 60)}, 50 + 84, SilenceScorer(), alert_cooldown_ms=0)
    assert [row["state"] for row in driver.rows("alerts")] == ["open"]


@pytest.mark.parametrize("ratio", [1.0, 1.25, 2.0])
def test_the_ratio_says_how_far_beyond(ratio: float) -> None:
    driver = Driver(config(alert_overdue_ratio=ratio, alert_enter=0.01, alert_leave=0.001))
    driver.feed([], [order("u", T0 - i * 10 * DAY_MS) for i in reversed(range(5))], clock_ms=T0)
    for hours in range(0, 24 * 21, 6):
        driver.sweep(T0 + hours * HOUR_MS)
    (row,) = driver.rows("alerts")
    late_ms = row["raised_at"] - T0 - ratio * 10 * DAY_MS
    assert 0 <= late_ms <= 6 * HOUR_MS


ORDERS = st.lists(st.integers(0, 24 * 200), min_size=1, max_size=GAP_ORDERS + 8)
"""The hours of a customer's orders."""


@settings(bounded, max_examples=60)
@given(st.lists(ORDERS, min_size=1, max_size=5), st.integers(0, 24 * 100), st.floats(1.0, 3.0))
def test_who_is_overdue_is_by_a_plain_recount(
    shop: list[list[int]], hours: int, ratio: float
) -> None:
    driver = Driver(config(lateness_ms=400 * DAY_MS))
    now_ms = T0 + (24 * 200 + hours) * HOUR_MS
    events = [order(f"u{i}", T0 + h * HOUR_MS) for i, whose in enumerate(shop) for h in whose]
    driver.feed([], sorted(events, key=lambda event: event["ts"]), clock_ms=now_ms)
    rows = np.array([driver.state.rows_by_user[f"u{i}"] for i in range(len(shop))])
    x = features(driver.state, rows, now_ms)
    found = overdue(driver.state, rows, x, ratio)
    for i, whose in enumerate(shop):
        kept = sorted(whose)[-GAP_ORDERS:]
        silence = np.float32((now_ms - T0) / DAY_MS - kept[-1] / 24)
        pauses = np.sort(np.diff(np.unique([h // 24 for h in kept])))
        usual = np.median(pauses) if len(pauses) else 0
        mean = x[i, FEATURE_NAMES.index("gap_mean_days")]
        assert found[i] == (silence >= ratio * usual and not silence <= mean), whose
        if found[i]:
            said = words(FEATURE_NAMES.index("days_since_order"), x[i], x[i], "USD")
            assert "usually" not in said or not said.startswith("last order") or silence < 1
            assert "usually every" not in said or said.startswith("no order for")
