"""Rows of `examples` say what the examples on Kafka say, with the features that were served."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from schemas.features import FEATURE_NAMES, GAP_ORDERS, LISTED_FEATURE_NAMES
from tests.core.driving import T0, Driver, SilenceScorer, click, config, order
from tests.core.oracle import DAY_MS

HORIZON_DAYS = 14


def bits(x: Any) -> bytes:
    return np.ascontiguousarray(x, np.float32).tobytes()


def run(seed: int, rate: float, days: int = 60, **rules: Any) -> tuple[Driver, dict[str, Any]]:
    """Twelve customers with so many orders a day, swept daily: the driver, and all order times."""
    rng = np.random.default_rng(seed)
    driver = Driver(config(min_orders=1, sample_share=1.0, **rules), SilenceScorer(HORIZON_DAYS))
    placed = defaultdict(list)
    for day in range(days):
        start_ms, events, views = T0 + day * DAY_MS, [], []
        for user in (f"u{i}" for i in range(12)):
            for ms in np.sort(rng.integers(1, DAY_MS - 1, rng.poisson(rate))).tolist():
                events.append(order(user, start_ms + ms, float(rng.integers(1, 90))))
                placed[user].append(start_ms + ms)
            views += [click(user, start_ms + 1) for _ in range(rng.poisson(0.5))]
        driver.feed(views, sorted(events, key=lambda e: e["ts"]), clock_ms=start_ms + DAY_MS - 1)
        driver.sweep(start_ms + DAY_MS)
    return driver, placed


@pytest.mark.parametrize("rate", [0.03, 0.4, 3.0])
def test_a_row_is_its_example_and_knows_the_first_order_or_says_that_it_does_not(
    rate: float,
) -> None:
    driver, placed = run(3, rate)
    rows = [row for row in driver.rows("examples") if row["lifetime_orders"]]
    examples = [e for o in driver.outputs for e in o.examples]
    assert len(rows) == len(examples) > 10
    unknown = 0
    for row, e in zip(rows, examples, strict=True):
        assert (row["asked_at"], row["matured_at"]) == (e.asked_at_ms, e.matured_at_ms)
        assert (row["shard"], row["ordinal"]) == (e.shard, e.ordinal)
        assert (row["horizon_days"], bool(row["churned"])) == (HORIZON_DAYS, e.churned)
        assert row["spend"] == np.float32(e.spend)
        assert (row["p_churn"], row["spend_predicted"]) == (
            np.float32(e.p_churn), np.float32(e.spend_predicted)
        )  # fmt: skip
        assert row["features"].tobytes() == e.x
        assert row["feature_names"] == LISTED_FEATURE_NAMES
        times = placed[row["user_id"]]
        within = [ms for ms in times if e.asked_at_ms <= ms < e.matured_at_ms]
        since = [ms for ms in times if e.asked_at_ms <= ms <= e.matured_at_ms]
        assert e.churned == (not within)
        if within and len(since) >= GAP_ORDERS:
            unknown += row["first_order_at"] == 0
            assert row["first_order_at"] in (0, within[0])
        else:
            assert row["first_order_at"] == (within[0] if within else 0)
    assert (unknown > 0) == (rate > 1)


def test_the_features_are_those_that_the_score_was_made_of() -> None:
    """The sample that `tideline skew` recomputes has the same bits, for every example."""
    driver, _ = run(5, 0.2)
    served = {(r["user_id"], r["scored_at"]): r["features"] for r in driver.rows("score_samples")}
    rows = [row for row in driver.rows("examples") if row["lifetime_orders"]]
    assert rows
    for row in rows:
        assert bits(row["features"]) == bits(served[row["user_id"], row["asked_at"]])
    clicks = FEATURE_NAMES.index("view_7d")
    assert any(row["features"][clicks] > 0 for row in rows)


def test_none_are_kept_where_that_is_off_and_nothing_else_changes() -> None:
    kept, none = run(4, 0.3)[0], run(4, 0.3, keep_examples=False)[0]
    assert kept.rows("examples")
    assert not none.rows("examples")
    for one, other in zip(kept.outputs, none.outputs, strict=True):
        assert one.examples == other.examples
        assert {*one.tables} - {*other.tables} <= {"examples"}


def test_a_cancelled_order_is_not_the_first() -> None:
    driver = Driver(config(min_orders=1), SilenceScorer(HORIZON_DAYS))
    driver.feed([], [order("u", T0 + 1)])
    day = 0
    while not driver.state.questions:
        day += 1
        driver.sweep(T0 + day * DAY_MS)
    asked = T0 + day * DAY_MS
    first = order("u", asked + 5)
    driver.feed([], [first, order("u", asked + 9 * DAY_MS)], at_ms=asked + 9 * DAY_MS)
    gone = {**first, "event_id": "gone", "type": "cancelled", "ts": asked + 10 * DAY_MS}
    driver.feed([], [gone])
    driver.sweep(asked + HORIZON_DAYS * DAY_MS)
    (row,) = driver.rows("examples")
    assert (row["churned"], row["first_order_at"]) == (0, asked + 9 * DAY_MS)
