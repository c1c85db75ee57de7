"""Who has too little history, alone or as a shop, gets "not enough data" instead of a number."""

from __future__ import annotations

import numpy as np

from streams.core.state.shard_state import VALUE_BINS
from tests.core.driving import T0, Driver, SilenceScorer, click, config, order
from tests.core.oracle import DAY_MS

SCORES = ("p_churn", "p_champion", "p_learner", "expected_spend")


def driver(min_orders: int = 2, shop_min_days: float = 0) -> Driver:
    rules = config(
        min_orders=1, shop_min_ms=int(shop_min_days * DAY_MS), sample_share=1.0, alert_enter=0.01,
        alert_leave=0.001,
    )  # fmt: skip
    return Driver(rules, SilenceScorer(min_orders=min_orders))


def numbers(here: Driver, user: str) -> list[float]:
    return [float(here.column(name, user)) for name in SCORES]


def known(here: Driver, user: str) -> bool:
    """Whether the user has numbers: all of them, or none."""
    missing = [bool(np.isnan(value)) for value in numbers(here, user)]
    assert len(set(missing)) == 1
    return not missing[0]


def test_a_user_needs_the_orders_that_the_champion_was_trained_on() -> None:
    here = driver(min_orders=3)
    here.feed([click("u", T0)], [order("u", T0)])
    for day in (1, 2, 40):
        here.sweep(T0 + day * DAY_MS)
        assert not known(here, "u")
    here.feed([], [order("u", T0 + 41 * DAY_MS)], clock_ms=T0 + 41 * DAY_MS)
    assert not known(here, "u")
    rows = here.rows("score_history")
    assert rows
    assert all(np.isnan(row[name]) for row in rows for name in SCORES)
    assert not here.rows("alerts")
    assert not here.rows("score_samples")
    assert np.isnan(here.state.questions.by_horizon[28].everything().scores).all()
    assert here.column("value_tier", "u") == 0
    here.feed([], [order("u", T0 + 42 * DAY_MS)], clock_ms=T0 + 42 * DAY_MS)
    assert known(here, "u")
    assert here.column("value_tier", "u") > 0
    (moved,) = [r for r in here.rows("segment_changes") if r["dimension"] == "value_tier"]
    assert (moved["from_segment"], moved["why"]) == ("none", "enough data for a value")
    assert [row["user_id"] for row in here.rows("score_samples")] == ["u"]


def test_a_shop_needs_days_of_history_before_anybody_is_scored() -> None:
    here = driver(min_orders=1, shop_min_days=28)
    here.feed([], [order("a", T0)], clock_ms=T0)
    here.feed([], [order("b", T0 + 20 * DAY_MS)], clock_ms=T0 + 20 * DAY_MS)
    here.sweep(T0 + 28 * DAY_MS - 1)
    assert not known(here, "a")
    assert not known(here, "b")
    assert not here.rows("alerts")
    here.sweep(T0 + 28 * DAY_MS)
    assert known(here, "a")
    assert known(here, "b")  # the shop's age counts, not the customer's
    assert here.rows("alerts")


def test_history_that_is_loaded_later_counts_for_the_shops_age() -> None:
    here = driver(min_orders=1, shop_min_days=28)
    here.config = config(
        min_orders=1, shop_min_ms=28 * DAY_MS, lateness_ms=90 * DAY_MS, alert_enter=0.9
    )
    now = T0 + 100 * DAY_MS
    here.feed([], [order("a", now)], clock_ms=now)
    assert not known(here, "a")
    here.feed([], [order("b", now - 29 * DAY_MS)], clock_ms=now)
    assert known(here, "b")
    here.sweep(now)
    assert known(here, "a")


def test_a_champion_that_needs_more_takes_numbers_back() -> None:
    here = driver(min_orders=1)
    here.feed([], [order("u", T0), order("v", T0), order("v", T0 + 1)], clock_ms=T0 + 1)
    assert known(here, "u")
    written = len(here.rows("score_history"))
    here.scorer = SilenceScorer(champion_version="fake-2", min_orders=2)
    here.sweep(T0 + DAY_MS // 2)
    assert not known(here, "u")
    assert known(here, "v")
    (row,) = [r for r in here.rows("score_history")[written:] if r["user_id"] == "u"]
    assert np.isnan(row["p_churn"])
    assert here.column("value_tier", "u") == 0
    changes = [r for r in here.rows("segment_changes") if r["user_id"] == "u"]
    assert changes[-1]["why"] == "not enough data for a value"
    bins = here.state.columns.value_bin[: here.state.n]
    counted = np.bincount(bins[bins >= 0], minlength=VALUE_BINS)
    np.testing.assert_array_equal(here.state.value_histogram, counted)
    assert counted.sum() == 1


def test_an_alert_ends_when_its_score_is_taken_back() -> None:
    here = driver(min_orders=1)
    here.feed([], [order("u", T0)], clock_ms=T0)
    here.sweep(T0 + 3 * DAY_MS)
    assert here.column("at_risk", "u")
    here.scorer = SilenceScorer(champion_version="fake-2", min_orders=2)
    here.sweep(T0 + 4 * DAY_MS)
    assert not here.column("at_risk", "u")
    assert [row["state"] for row in here.rows("alerts")] == ["open", "closed"]
