"""The forecast of orders and the drift alarms in what a step writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from schemas.messages import Drift, JournalledSnapshot
from streams.core.state.shard_state import ShardState
from tests.core.driving import T0, Driver, FakeForecast, SilenceScorer, click, order
from tests.core.oracle import DAY_MS

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Counting(SilenceScorer):
    """Notes how many rows it was asked to forecast for, call by call."""

    calls: tuple[list[int], ...] = ([],)

    def forecast(self, x: NDArray[np.float32]) -> FakeForecast:
        self.calls[0].append(len(x))
        return super().forecast(x)


def driver(orders: int = 3) -> Driver:
    made = Driver(scorer=Counting(calls=([],)))
    made.feed([], [order("u", T0 - day * DAY_MS) for day in range(orders - 1, -1, -1)])
    return made


def newest(made: Driver) -> dict[str, Any]:
    return made.rows("score_history")[-1]


def test_a_score_row_says_when_the_next_order_is_due() -> None:
    made = driver()
    row = newest(made)
    assert row["p_buy_7d"] == pytest.approx(0.25)
    assert row["p_buy_30d"] == pytest.approx(1.0)
    assert row["next_order_at"] == T0 + DAY_MS  # the scorer's answer for a silence of 0 days

    made.sweep(T0 + 10 * DAY_MS)
    row = newest(made)
    assert row["p_buy_30d"] == pytest.approx(np.exp(-10 / 30))
    assert row["next_order_at"] == T0 + 21 * DAY_MS


def test_the_value_within_a_year_is_renewed_with_the_forecast() -> None:
    made = driver()
    row = newest(made)
    assert (row["value_365d"], row["value_365d_low"], row["value_365d_high"]) == (120, 60, 240)
    assert row["value_365d_seen_days"] == 180
    made.feed([click("u", T0 + HOUR_MS)])
    assert newest(made)["value_365d"] == 120
    made.feed([], [order("u", T0 + 2 * HOUR_MS, 15.0)])
    assert newest(made)["value_365d"] == 180


def test_a_champion_without_a_long_horizon_leaves_it_unknown_and_the_next_one_fills_it() -> None:
    """At the next sweep, and not when the forecast would have become too old."""
    made = driver()
    made.sweep(T0 + 60 * DAY_MS)
    assert newest(made)["value_365d"] == 120
    made.scorer = Counting(champion_version="older", long_seen_days=0, calls=([],))
    made.sweep(T0 + 80 * DAY_MS)
    assert np.isnan([newest(made)[f"value_365d{end}"] for end in ("", "_low", "_high")]).all()
    assert newest(made)["value_365d_seen_days"] == 0
    made.scorer = Counting(champion_version="newer", calls=([],))
    made.sweep(T0 + 81 * DAY_MS)
    assert newest(made)["value_365d"] == 120


def test_a_visitor_has_no_value_within_a_year_and_costs_no_forecast_for_it() -> None:
    made = Driver(scorer=Counting(min_orders=0, calls=([],)))
    made.feed([click("v", T0)], [])
    made.sweep(T0 + 40 * DAY_MS)
    calls = len(made.scorer.calls[0])
    made.sweep(T0 + 41 * DAY_MS)
    assert np.isnan(newest(made)["value_365d"])
    assert len(made.scorer.calls[0]) == calls


def test_a_date_that_is_unknown_is_none() -> None:
    made = driver()
    made.sweep(T0 + 101 * DAY_MS)
    assert newest(made)["next_order_at"] == 0
    assert newest(made)["p_buy_7d"] > 0.0


def test_who_browses_pays_for_no_forecast() -> None:
    made = driver()
    calls = made.scorer.calls[0]
    assert calls == [1]
    made.feed([click("u", T0 + HOUR_MS) for _ in range(20)])
    assert calls == [1]
    assert newest(made)["next_order_at"] == T0 + DAY_MS  # as of the order
    made.feed([], [order("u", T0 + 2 * HOUR_MS)])
    assert calls == [1, 1]
    made.sweep(T0 + DAY_MS)
    assert calls == [1, 1, 1]


def test_a_forecast_is_never_older_than_an_eighth_of_the_silence_it_was_made_after() -> None:
    """Each day while somebody might come any day, each other week once they have long been away."""
    made = driver()
    calls = made.scorer.calls[0]
    days: list[int] = []
    for day in range(1, 121):
        made.sweep(T0 + day * DAY_MS)
        if len(calls) > 1 + len(days):
            days.append(day)
    assert days[:15] == list(range(1, 16))
    assert days[15:18] == [16, 18, 20]
    gaps = np.diff(days)
    assert (gaps <= np.maximum(1, np.array(days[:-1]) / 8)).all()
    assert gaps[-1] > 10
    made.feed([], [order("u", T0 + 121 * DAY_MS)])
    made.sweep(T0 + 122 * DAY_MS)
    assert len(calls) == 1 + len(days) + 2


def test_without_enough_data_there_is_no_forecast() -> None:
    made = Driver(scorer=Counting(min_orders=2, calls=([],)))
    made.feed([click("v", T0)], [order("u", T0)])
    made.sweep(T0 + DAY_MS)
    for row in made.rows("score_history"):
        assert np.isnan([row["p_buy_7d"], row["p_buy_30d"]]).all()
        assert row["next_order_at"] == 0
    assert made.scorer.calls[0] == []


def test_a_forecast_goes_when_a_champion_asks_for_more_orders() -> None:
    made = driver(orders=2)
    made.scorer = Counting(min_orders=5, champion_version="fake-2", calls=([],))
    made.sweep(T0 + DAY_MS)
    assert np.isnan(newest(made)["p_buy_7d"])
    assert newest(made)["next_order_at"] == 0


def snapshot(version: int, *drifts: int) -> JournalledSnapshot:
    """A learner snapshot with changes noticed at these versions."""
    noticed = [
        Drift(
            drift_id=f"d{v}", version=v, detected_at_ms=T0 + v, since_ms=T0, kind="loss",
            stream="champion log loss", direction="up", mean_before=0.3, mean_since=0.6,
            labels_since=40, reason="It rose.", champion_version="fake-1",
        )
        for v in drifts
    ]  # fmt: skip
    zeros = [0.0] * len(FEATURE_NAMES)
    return JournalledSnapshot(
        version=version, champion_version="fake-1", features=list(FEATURE_NAMES), labels=version,
        blend_weight=0.0, intercept=0.0, logit_weight=1.0, weights=zeros, mean=zeros,
        scale=[1.0] * len(FEATURE_NAMES), drifts=noticed,
    )  # fmt: skip


def test_each_change_is_written_once_by_the_first_shard() -> None:
    first, other = Driver(state=ShardState(0, len(FEATURE_NAMES))), Driver()
    for made in (first, other):
        made.feed(clock_ms=T0, learner=snapshot(10, 4, 9))
        made.feed(clock_ms=T0 + 1)
        made.feed(clock_ms=T0 + 2, learner=snapshot(20, 4, 9, 15))
        made.feed(clock_ms=T0 + 3, learner=snapshot(30, 4, 9, 15))
    rows = first.rows("model_drift")
    assert [r["drift_id"] for r in rows] == ["d4", "d9", "d15"]
    assert rows[-1]["detected_at"] == T0 + 15
    assert rows[-1]["reason"] == "It rose."
    assert other.rows("model_drift") == []
