"""Users with one order, and visitors: scored if the champion knows them, asked about either way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from streams.core.labels import VISITORS_ASKED
from tests.core.driving import (
    T0,
    Driver,
    FakeScores,
    SilenceScorer,
    click,
    config,
    feature,
    order,
)
from tests.core.oracle import DAY_MS

HORIZON_DAYS = 14


@dataclass(frozen=True)
class EverybodyScorer(SilenceScorer):
    """Knows all bands: visitors leave with half a chance, less what they viewed today."""

    min_orders: int = 2

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        return np.ones(len(orders), np.bool_)

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> FakeScores:
        known = super().score(x, learner)
        visitor = feature(x, "lifetime_orders") == 0
        p = np.float32(0.9) - np.float32(0.3) * np.minimum(feature(x, "view_24h"), 1)
        p = np.where(visitor, p, known.p_churn).astype(np.float32)
        spend = np.where(visitor, np.float32(1), known.spend).astype(np.float32)
        return FakeScores(p, p, p, spend)


def driver(scorer: SilenceScorer | None = None, **rules: object) -> Driver:
    found = config(alert_enter=0.2, alert_leave=0.1, sample_share=1.0, **rules)
    return Driver(found, scorer or EverybodyScorer(HORIZON_DAYS))


def test_everybody_gets_a_number_and_nobody_without_two_orders_an_alert() -> None:
    here = driver()
    orders = [order("one", T0 + 1), order("two", T0 + 1), order("two", T0 + DAY_MS)]
    here.feed([click("visitor", T0)], orders, clock_ms=T0 + DAY_MS)
    for day in range(2, 40, 2):
        here.sweep(T0 + day * DAY_MS)
    for user in ("visitor", "one", "two"):
        assert not np.isnan(here.column("p_churn", user))
    assert {row["user_id"] for row in here.rows("alerts")} == {"two"}
    assert {row["user_id"] for row in here.rows("score_samples")} == {"visitor", "one", "two"}
    written = {row["user_id"]: row for row in here.rows("score_history")}
    assert {user: row["lifetime_orders"] for user, row in written.items()} == {
        "visitor": 0, "one": 1, "two": 2,
    }  # fmt: skip
    assert written["visitor"]["value_tier"] == "none"  # tiers are of customers
    assert written["one"]["value_tier"] != "none"
    for row in written.values():  # the fake's interval
        assert (row["spend_low"], row["spend_high"]) == (
            row["expected_spend"] / 2, row["expected_spend"] * 2
        )  # fmt: skip
    assert here.state.value_histogram.sum() == 2


def test_no_alert_before_the_orders_that_the_champion_asks_for() -> None:
    """Reasons are its own, so a lower setting can't open one."""
    here = driver(min_orders=1)
    here.feed([], [order("one", T0)], clock_ms=T0)
    for day in range(1, 40):
        here.sweep(T0 + day * DAY_MS)
    assert here.column("p_churn", "one") > 0.2
    assert not here.rows("alerts")


@pytest.mark.parametrize("scorer", [SilenceScorer(HORIZON_DAYS, min_orders=2), None])
def test_others_are_asked_about_with_a_score_or_without(scorer: SilenceScorer | None) -> None:
    here = driver(scorer)
    visitors = [f"v{i}" for i in range(80)]
    for day in range(60):
        start = T0 + day * DAY_MS
        clicks = [click(user, start + 1) for user in visitors]
        orders = [order("two", start + 2)]
        if day == 5:
            orders.append(order("one", start + 3, 7.0))
        here.feed(clicks, orders, clock_ms=start + DAY_MS - 1)
        here.sweep(start + DAY_MS)
    rows = here.rows("examples")
    asked = {orders: [r for r in rows if r["lifetime_orders"] == orders] for orders in (0, 1)}
    drawn = {row["user_id"] for row in asked[0]}
    assert 0.5 / VISITORS_ASKED < len(drawn) / len(visitors) < 2 / VISITORS_ASKED
    assert {row["user_id"] for row in asked[1]} == {"one"}
    for row in asked[0] + asked[1]:
        assert np.isnan(row["p_churn"]) == (scorer is not None)
        assert row["ordinal"] == 0  # in no number of the life
        assert row["features"][FEATURE_NAMES.index("lifetime_orders")] == row["lifetime_orders"]
        assert row["churned"] == 1
    # the learner, and who judges predictions, hear of customers only, without a gap
    sent = [e for o in here.outputs for e in o.examples]
    assert [e.ordinal for e in sent] == list(range(1, len(sent) + 1))
    assert {row["user_id"] for row in here.rows("matured_predictions")} == {"two"}


def test_others_are_asked_about_only_where_answers_are_kept() -> None:
    here = driver(keep_examples=False)
    for day in range(40):
        start = T0 + day * DAY_MS
        here.feed([click(f"v{i}", start + 1) for i in range(20)], [order("one", T0)] * (day == 0),
                  clock_ms=start + DAY_MS - 1)  # fmt: skip
        here.sweep(start + DAY_MS)
    assert not here.state.questions


def test_a_visitor_is_written_when_the_chance_moves_and_not_with_every_click() -> None:
    here = driver()
    here.feed([], [order("two", T0 - DAY_MS), order("two", T0)], clock_ms=T0)
    for minute in range(1, 60):
        at = T0 + minute * 60_000
        here.feed([click("visitor", at)], [], clock_ms=at)
    assert len([r for r in here.rows("score_history") if r["user_id"] == "visitor"]) == 1
    here.sweep(T0 + 2 * DAY_MS)  # 24 hours later the views are gone
    rows = [r for r in here.rows("score_history") if r["user_id"] == "visitor"]
    assert [round(float(r["p_churn"]), 2) for r in rows] == [0.6, 0.9]


def test_a_visitors_forecast_is_as_old_as_an_eighth_of_their_absence() -> None:
    here = driver()
    here.feed([click("visitor", T0)], [order("two", T0), order("two", T0 + 1)], clock_ms=T0 + 1)
    kept = []
    for day in range(1, 60):
        here.sweep(T0 + day * DAY_MS)
        kept.append(int(here.column("forecast_kept_minute", "visitor")) * 60_000 - T0)
    assert kept == sorted(kept)
    assert kept[-1] < (60 + 60 / 8) * DAY_MS
