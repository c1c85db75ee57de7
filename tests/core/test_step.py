"""What a step decides: alerts, segments, label questions, score rows, dead letters, the ledger."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import astuple
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, PACKED_FEATURE_NAMES
from schemas.messages import JournalledSnapshot, LearnerSnapshot
from schemas.segments import DIMENSIONS, LIFECYCLE, VALUE_TIERS
from schemas.tables import TABLES
from streams.core.apply import forget
from streams.core.events.records import Records
from streams.core.features import features
from streams.core.plan import Plan
from streams.core.quantities import value_bin
from streams.core.segments import cut_tiers
from streams.core.state.ranks import share_below
from streams.core.state.shard_state import VALUE_BINS
from streams.core.times import iso_utc
from tests.core.driving import (
    HOUR_MS,
    RATES,
    T0,
    Driver,
    FakeScores,
    SilenceScorer,
    click,
    config,
    drawn,
    encode,
    feature,
    order,
    record,
    run_log,
    to_records,
)
from tests.core.oracle import DAY_MS, Admission
from tests.core.streams_of_events import random_batches


def customer(user: str = "u", orders: int = 2, last_ms: int = T0, **changes: Any) -> Driver:
    """A shard with one customer whose newest order was at `last_ms`."""
    driver = Driver(config(**changes))
    times = [last_ms - 10 * DAY_MS * i for i in reversed(range(orders))]
    driver.feed([], [order(user, ts) for ts in times])
    return driver


def states(driver: Driver) -> list[tuple[str, int, str]]:
    """(state, time, why) of each alert row so far."""
    return [
        (r["state"], r["closed_at"] if r["state"] == "closed" else r["raised_at"], r["closed_why"])
        for r in driver.rows("alerts")
    ]


def learner(version: int, shift: float) -> JournalledSnapshot:
    """A snapshot that adds `shift` to every p."""
    return JournalledSnapshot(
        version=version, champion_version="fake-1", features=list(FEATURE_NAMES), labels=1,
        blend_weight=1.0, intercept=shift, logit_weight=1.0, weights=[], mean=[], scale=[],
    )  # fmt: skip


# -- alerts


def test_an_alert_opens_at_the_threshold_and_not_before() -> None:
    driver = customer()
    driver.sweep(T0 + 30 * DAY_MS - 60_000)
    assert not driver.rows("alerts")
    driver.sweep(T0 + 30 * DAY_MS)
    assert states(driver) == [("open", T0 + 30 * DAY_MS, "")]
    (message,) = driver.outputs[-1].alerts
    (row,) = driver.rows("alerts")
    assert message.alert_id == row["alert_id"]
    assert (message.user_id, message.state, message.arm) == ("u", "open", row["arm"])
    assert message.raised_at == "2020-10-14T00:00:00.000Z"
    assert message.p_churn == row["p_churn"] == 0.5
    assert message.priority == row["priority"] == 0.5 * 20
    assert message.reasons == row["reasons"] == ["30 days without an order"]


def test_a_score_that_trembles_raises_one_alert() -> None:
    """p goes 0.5, 0.4, 0.5, 0.4: between leave and enter nothing happens."""
    driver = customer()
    now_ms = T0 + 30 * DAY_MS
    for i in range(6):
        now_ms += HOUR_MS
        views = [click("u", now_ms)] if i % 2 else []
        driver.feed(views, clock_ms=now_ms, sweep_rows=1)
        now_ms += 25 * HOUR_MS if i % 2 else 0
    assert [s for s, _, _ in states(driver)] == ["open"]


def test_an_alert_closes_when_the_score_falls() -> None:
    driver = customer()
    start = T0 + 30 * DAY_MS
    driver.sweep(start)
    driver.feed([click("u", start + 1)], clock_ms=start + 1)  # 0.4: above leave
    assert [s for s, _, _ in states(driver)] == ["open"]
    driver.feed([click("u", start + 2)], clock_ms=start + 2)  # 0.3
    assert states(driver)[1:] == [("closed", start + 2, "score_fell")]


def test_an_alert_closes_when_the_customer_orders() -> None:
    driver = customer()
    start = T0 + 30 * DAY_MS
    driver.sweep(start)
    driver.feed([], [order("u", start + 5)])
    assert states(driver)[1:] == [("closed", start + 5, "ordered")]
    (opened, closed) = driver.rows("alerts")
    assert opened["alert_id"] == closed["alert_id"]
    assert (opened["version"], closed["version"]) == (1, 2)
    same = ("raised_at", "p_churn", "p_champion", "p_learner", "expected_spend", "priority", "arm")
    assert [opened[name] for name in same] == [closed[name] for name in same]
    assert [m.state for o in driver.outputs for m in o.alerts] == ["open", "closed"]


def test_an_alert_closes_when_the_customer_has_lapsed() -> None:
    driver = customer()
    driver.sweep(T0 + 30 * DAY_MS)
    driver.sweep(T0 + 84 * DAY_MS)
    assert len(states(driver)) == 1
    driver.sweep(T0 + 84 * DAY_MS + 1)
    assert states(driver)[1:] == [("closed", T0 + 84 * DAY_MS + 1, "lapsed")]


def test_the_cooldown_separates_episodes() -> None:
    driver = customer()
    start = T0 + 30 * DAY_MS
    driver.sweep(start)
    driver.feed([click("u", start + 1), click("u", start + 1)], clock_ms=start + 1)
    closed = start + 1
    for days in (2, 5, 13.99):
        driver.sweep(closed + int(days * DAY_MS))
    assert len(states(driver)) == 2
    driver.sweep(closed + 14 * DAY_MS)
    assert [s for s, _, _ in states(driver)] == ["open", "closed", "open"]
    first, _, second = driver.rows("alerts")
    assert (first["episode"], second["episode"]) == (1, 2)
    assert first["alert_id"] != second["alert_id"]


@pytest.mark.parametrize("orders", [0, 1])
def test_without_enough_orders_there_is_no_alert(orders: int) -> None:
    driver = customer(orders=1)
    driver.feed([click("visitor", T0)])
    for days in range(1, 100):
        driver.sweep(T0 + days * DAY_MS)
    assert not driver.rows("alerts")
    assert np.isnan(driver.column("p_churn", "visitor"))
    assert driver.column("p_churn", "u") == 1
    assert orders in (driver.column("orders", "visitor"), driver.column("orders", "u"))


def test_a_customer_lapsed_before_the_first_score_gets_no_alert() -> None:
    driver = customer()
    driver.sweep(T0 + 85 * DAY_MS)
    assert not driver.rows("alerts")


@drawn(5, 15, seed=st.integers(0, 2**32))
def test_alert_episodes_are_well_formed_in_any_run(seed: int) -> None:
    """Each id opens once and closes at most once after that; one open alert a user at a time."""
    driver = Driver(config(alert_cooldown_ms=2 * DAY_MS, lateness_ms=30 * DAY_MS))
    rng = random.Random(seed)
    for batch in random_batches(seed, 30, most=6, users=12):
        driver.feed(batch.clicks, batch.orders, clock_ms=batch.now_ms, at_ms=batch.now_ms)
        for days in (9, 18, 27, 36)[: rng.randrange(5)]:
            driver.sweep(batch.now_ms + days * DAY_MS)
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    by_user: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in driver.rows("alerts"):
        by_id[row["alert_id"]].append(row)
        by_user[row["user_id"]].append(row)
    for rows in by_id.values():
        assert [r["state"] for r in rows] == ["open", "closed"][: len(rows)]
        assert len({r["user_id"] for r in rows}) == 1
    for user, rows in by_user.items():
        assert [r["episode"] for r in rows] == [i // 2 + 1 for i in range(len(rows))]
        assert [r["state"] for r in rows] == (["open", "closed"] * len(rows))[: len(rows)]
        closed = [r for r in rows if r["state"] == "closed"]
        for before, after in zip(closed, rows[2::2], strict=False):
            assert after["raised_at"] - before["closed_at"] >= 2 * DAY_MS
        assert driver.column("at_risk", user) == (rows[-1]["state"] == "open")
    messages = [(m.alert_id, m.state) for o in driver.outputs for m in o.alerts]
    assert messages == [(r["alert_id"], r["state"]) for r in driver.rows("alerts")]


def test_the_holdout_has_its_share_and_stays_the_same() -> None:
    driver = Driver(config(holdout_share=0.2))
    users = [f"user-{i}" for i in range(3_000)]
    driver.feed([], [order(u, T0 - i * DAY_MS) for u in users for i in (1, 0)])
    driver.sweep(T0 + 30 * DAY_MS)
    arms = {r["user_id"]: r["arm"] for r in driver.rows("alerts")}
    assert len(arms) == 3_000
    assert abs(Counter(arms.values())["holdout"] - 600) < 5 * (3_000 * 0.2 * 0.8) ** 0.5
    other = Driver(config(holdout_share=0.2))
    other.feed([], [order(u, T0 - i * DAY_MS) for u in reversed(users[:99]) for i in (1, 0)])
    other.sweep(T0 + 40 * DAY_MS)
    assert {r["user_id"]: r["arm"] for r in other.rows("alerts")}.items() <= arms.items()
    for share, arm in ((0.0, "treat"), (1.0, "holdout")):
        extreme = customer(holdout_share=share)
        extreme.sweep(T0 + 30 * DAY_MS)
        assert [r["arm"] for r in extreme.rows("alerts")] == [arm]


def test_on_the_event_clock_silent_users_are_alerted_within_one_sweep() -> None:
    """Others keep the clock going; nobody mentions the silent ones."""
    users = [f"silent-{i}" for i in range(30)]
    last = {u: T0 + i * 3 * HOUR_MS for i, u in enumerate(users)}
    orders = [order(u, ts - back) for u, ts in last.items() for back in (9 * DAY_MS, 0)]
    clicks = [click("busy", T0 + i * 2 * HOUR_MS) for i in range(45 * 12)]
    log = [
        [record(e) for e in clicks],
        [record(e) for e in sorted(orders, key=lambda e: e["ts"])],
    ]
    driver = Driver(config(sweep_interval_ms=6 * HOUR_MS))
    run_log(driver, log, max_records=50)
    raised = {r["user_id"]: r["raised_at"] for r in driver.rows("alerts")}
    assert set(raised) == set(users)
    for user, ts in last.items():
        assert 0 <= raised[user] - (ts + 30 * DAY_MS) < 6 * HOUR_MS


def test_on_the_wall_clock_silent_users_are_alerted_within_one_sweep() -> None:
    users = [f"silent-{i}" for i in range(30)]
    driver = Driver(config(sweep_interval_ms=6 * HOUR_MS))
    last = {u: T0 - i * HOUR_MS for i, u in enumerate(users)}
    driver.feed([], [order(u, ts - b) for u, ts in last.items() for b in (DAY_MS, 0)], clock_ms=T0)
    now_ms = [T0 + 27 * DAY_MS]

    def tick() -> int:
        now_ms[0] += 10 * 60_000
        return now_ms[0]

    with pytest.raises(AssertionError, match="no end"):
        run_log(driver, [[], [(None, None, 0)] * 60], clock="wall", wall_ms=tick,
                fetched=lambda: 0, max_steps=6 * 24 * 4)  # fmt: skip
    raised = {r["user_id"]: r["raised_at"] for r in driver.rows("alerts")}
    assert set(raised) == set(users)
    for user, ts in last.items():
        assert 0 <= raised[user] - (ts + 30 * DAY_MS) <= 6 * HOUR_MS + 20 * 60_000


# -- segments


def lifecycle(driver: Driver, user: str = "u") -> list[tuple[str, str]]:
    return [
        (r["from_segment"], r["to_segment"])
        for r in driver.rows("segment_changes")
        if r["dimension"] == "lifecycle" and r["user_id"] == user
    ]


def test_a_life_through_all_lifecycle_segments_is_one_row_each() -> None:
    driver = Driver(config())
    driver.feed([click("u", T0)])
    assert driver.rows("score_history")[0]["lifecycle"] == "visitor"
    driver.feed([], [order("u", T0 + DAY_MS)])
    driver.feed([], [order("u", T0 + 2 * DAY_MS)])
    driver.sweep(T0 + 33 * DAY_MS)
    driver.sweep(T0 + 34 * DAY_MS)  # nothing new
    driver.sweep(T0 + 92 * DAY_MS - 1)
    driver.sweep(T0 + 92 * DAY_MS)
    driver.feed([], [order("u", T0 + 100 * DAY_MS)])
    assert lifecycle(driver) == [
        ("visitor", "new"), ("new", "active"), ("active", "at_risk"), ("at_risk", "active"),
        ("active", "lapsed"), ("lapsed", "active"),
    ]  # fmt: skip
    times = [
        r["changed_at"] for r in driver.rows("segment_changes") if r["dimension"] == "lifecycle"
    ]
    assert [(t - T0) / DAY_MS for t in times] == pytest.approx([1, 2, 33, 92, 92, 100])


def test_lapsed_is_no_order_for_ninety_days_or_more() -> None:
    driver = customer(orders=1)
    driver.sweep(T0 + 90 * DAY_MS - 1)
    assert lifecycle(driver)[-1][1] == "new"
    driver.sweep(T0 + 90 * DAY_MS)
    assert lifecycle(driver)[-1][1] == "lapsed"


@drawn(5, 15, seed=st.integers(0, 2**32))
def test_segments_in_any_run(seed: int) -> None:
    """Changes chain without gaps, ids are unique, and the histogram equals a recount."""
    driver = Driver(config(lateness_ms=30 * DAY_MS))
    rng = random.Random(seed)
    for batch in random_batches(seed, 25, most=10, users=20):
        driver.feed(batch.clicks, batch.orders, clock_ms=batch.now_ms, at_ms=batch.now_ms)
        if rng.random() < 0.4:
            driver.sweep(batch.now_ms + rng.randrange(DAY_MS))
        c, n = driver.state.columns, driver.state.n
        now_ms = driver.state.meta.clock_ms
        bins = c.value_bin[:n]
        counted = np.bincount(bins[bins >= 0], minlength=VALUE_BINS)
        np.testing.assert_array_equal(driver.state.value_histogram, counted)
        for row in range(n):  # who has no order is in no bin, who has scores is in theirs
            if bins[row] >= 0:
                assert bins[row] == value_bin(c.expected_spend[row : row + 1])[0]
            assert (c.value_tier[row] == 0) == (c.orders[row] == 0)
        driver.sweep(now_ms)
        live = (c.orders[:n] > 0) & (now_ms - c.recent_orders_ms[:n, 0] < 90 * DAY_MS)
        np.testing.assert_array_equal(c.value_bin[:n] >= 0, live)
    rows = driver.rows("segment_changes")
    assert len({r["change_id"] for r in rows}) == len(rows)
    last: dict[tuple[str, str], str] = {}
    for r in rows:
        assert r["from_segment"] != r["to_segment"]
        assert {r["from_segment"], r["to_segment"]} <= set(DIMENSIONS[r["dimension"]])
        key = (r["user_id"], r["dimension"])
        assert r["from_segment"] == last.get(key, DIMENSIONS[r["dimension"]][0])
        last[key] = r["to_segment"]
    for (user, dimension), segment in last.items():
        names, column = (
            (LIFECYCLE, "lifecycle") if dimension == "lifecycle" else (VALUE_TIERS, "value_tier")
        )
        assert names[driver.column(column, user)] == segment


def test_tiers_are_quantiles_of_the_live_customers() -> None:
    driver = Driver(config())
    rng = random.Random(4)
    n = 3_000
    driver.feed([], [order(f"u{i}", T0, rng.lognormvariate(4, 1)) for i in range(n)])
    driver.feed([click("visitor", T0)])
    driver.sweep(T0 + 1)
    driver.sweep(T0 + 2)  # with the cuts that the first sweep ended with
    tiers = Counter(driver.state.columns.value_tier[: driver.state.n].tolist())
    assert tiers[0] == 1
    # at most the share, and at least that less one bin (4.4 % wide, so below 3 % of customers)
    assert n * 0.07 < tiers[3] <= n * 0.10
    assert n * 0.34 < tiers[3] + tiers[2] <= n * 0.40
    spend = driver.state.columns.expected_spend[:n]
    tier = driver.state.columns.value_tier[:n]
    for low, high in pairwise((1, 2, 3)):
        assert spend[tier == low].max() < spend[tier == high].min()
    driver.sweep(T0 + 95 * DAY_MS)
    assert driver.state.value_histogram.sum() == 0
    cut_tiers(driver.state)  # nobody left: the cuts stay
    assert driver.state.meta.tier_total == n


@pytest.mark.parametrize("counts", [{0: 10}, {511: 3}, {5: 1}, {5: 6, 6: 4}, {1: 9, 2: 1}])
def test_no_tier_is_ever_larger_than_its_share(counts: dict[int, int]) -> None:
    driver = Driver(config())
    for at, count in counts.items():
        driver.state.value_histogram[at] = count
    cut_tiers(driver.state)
    total = sum(counts.values())
    bins = np.arange(VALUE_BINS)
    below = share_below(driver.state.values_in_force, bins)
    for share in (0.4, 0.1):
        lowest = int(bins[below >= 1 - share].min(initial=VALUE_BINS))
        assert sum(c for at, c in counts.items() if at >= lowest) <= share * total
        # and the tier reaches as low as it can
        assert sum(c for at, c in counts.items() if at >= lowest - 1) > share * total or not lowest


def test_nobody_changes_tier_because_a_neighbour_was_scored() -> None:
    driver = Driver(config())
    driver.feed([], [order(f"u{i}", T0, 10.0 + i) for i in range(100)])
    driver.sweep(T0 + 1)
    driver.sweep(T0 + 2)
    before = len(driver.rows("segment_changes"))
    driver.feed([], [order("rich", T0 + 3, 10_000.0)])
    changes = driver.rows("segment_changes")[before:]
    assert {r["user_id"] for r in changes} == {"rich"}
    assert {r["dimension"] for r in changes} == {"value_tier", "lifecycle"}


# -- questions


@drawn(4, 12, seed=st.integers(0, 2**32), horizon=st.sampled_from([1, 3, 7]))
def test_labels_equal_a_recount(seed: int, horizon: int) -> None:
    """One open question a user; answered at exactly asked + H from the orders in between."""
    rng = random.Random(seed)
    log: list[list[Any]] = [[], []]
    orders: list[dict[str, Any]] = []
    now_ms = T0
    for _ in range(250):
        now_ms += rng.choice([0, HOUR_MS, 7 * HOUR_MS])
        ts = now_ms // DAY_MS * DAY_MS if rng.random() < 0.3 else now_ms  # date-only orders
        event = order(f"u{rng.randrange(8)}", ts, rng.randrange(1_000) / 100)
        orders.append(event)
        log[0].append(record(click("busy", now_ms)))
    orders.sort(key=lambda e: e["ts"])
    log[1] = [record(e) for e in orders]
    driver = Driver(config(min_orders=1, active_within_ms=9 * DAY_MS), SilenceScorer(horizon))
    run_log(driver, log, max_records=rng.choice([5, 50, 500]))
    examples = [e for o in driver.outputs for e in o.examples]
    users = [r["user_id"] for r in driver.rows("matured_predictions")]
    assert [e.ordinal for e in examples] == list(range(1, len(examples) + 1))
    assert [e.shard for e in examples] == [3] * len(examples)
    busy: dict[str, int] = defaultdict(int)
    for user, e in zip(users, examples, strict=True):
        assert e.matured_at_ms == e.asked_at_ms + horizon * DAY_MS
        assert e.asked_at_ms >= busy[user], "two questions open"
        busy[user] = e.matured_at_ms
        spent = [
            o["amount"]
            for o in orders
            if o["user_id"] == user and e.asked_at_ms <= o["ts"] < e.matured_at_ms
        ]
        assert e.churned == (not spent)
        assert e.spend == pytest.approx(sum(spent))
        known = [o for o in orders if o["user_id"] == user and o["ts"] < e.asked_at_ms]
        x = np.frombuffer(e.x, np.float32)
        assert len(x) == len(FEATURE_NAMES)
        assert x[FEATURE_NAMES.index("lifetime_orders")] == len(known)
        assert e.p_churn == driver_p(x)
        assert (e.champion_version, e.features) == ("fake-1", PACKED_FEATURE_NAMES)
    assert len(examples) > 3


def driver_p(x: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    return float(SilenceScorer().score(x[None, :], None).p_churn[0])


def test_examples_mature_at_their_time_whatever_happened_before() -> None:
    driver = customer(min_orders=1)
    day = 0
    while not driver.state.questions:
        day += 1
        driver.sweep(T0 + day * DAY_MS)
        assert day <= 56
    asked = int(driver.open_questions()[0].asked_ms[0])
    driver.feed([], [order("u", asked + 1)])
    for days in (1, 14, 27):
        driver.sweep(asked + days * DAY_MS)
    driver.feed(clock_ms=asked + 28 * DAY_MS - 1)
    assert not any(o.examples for o in driver.outputs)
    driver.feed(clock_ms=asked + 28 * DAY_MS)
    (example,) = driver.outputs[-1].examples
    assert (example.churned, example.spend) == (False, 10.0)
    assert driver.column("asked_ms", "u") == 0


@pytest.mark.parametrize(
    ("after_ms", "counts"),
    [(-1, False), (0, True), (28 * DAY_MS - 1, True), (28 * DAY_MS, False), (29 * DAY_MS, False)],
)
def test_the_horizon_begins_with_the_question_and_ends_before_its_time(
    after_ms: int, counts: bool
) -> None:
    """Also when one batch brings both the order and the time at which the answer is due."""
    driver = customer(min_orders=1)
    for day in range(1, 57):
        if not driver.state.questions:
            driver.sweep(T0 + day * DAY_MS)
    asked = int(driver.open_questions()[0].asked_ms[0])
    if after_ms < DAY_MS:
        driver.feed([], [order("u", asked + after_ms, 7.0)], clock_ms=asked)
    orders = [order("u", asked + after_ms, 7.0)] if after_ms >= DAY_MS else []
    driver.feed([], orders, clock_ms=asked + 30 * DAY_MS, at_ms=asked + 30 * DAY_MS)
    (example,) = driver.outputs[-1].examples
    assert (example.churned, example.spend) == (not counts, 7.0 if counts else 0.0)


def ask_daily(driver: Driver, users: int, days: int, now_of: Any) -> list[tuple[int, int]]:
    """(row, day) of every question asked while sweeping once a day."""
    asked = []
    for day in range(1, days):
        driver.sweep(now_of(day))
        for q in driver.open_questions():
            asked += [(row, day) for row in q.rows[q.asked_ms == now_of(day)].tolist()]
    return asked


def test_questions_are_spread_evenly_and_come_once_a_horizon() -> None:
    users, horizon = 2_000, 7
    driver = Driver(config(min_orders=1, active_within_ms=10**12), SilenceScorer(horizon))
    driver.feed([], [order(f"user-{i}", T0) for i in range(users)])
    asked = ask_daily(driver, users, 36, lambda day: T0 + day * DAY_MS)
    by_user: dict[int, list[int]] = defaultdict(list)
    for row, day in asked:
        by_user[row].append(day)
    # Seen first on day 1, so each is asked from its next period on: once in every 7 days.
    assert len(by_user) == users
    for days in by_user.values():
        assert set(np.diff(days)) == {horizon}
        assert len(days) in (4, 5)
    per_day = Counter(day for _, day in asked)
    assert (
        max(abs(per_day[d] - users / horizon) for d in range(8, 36)) < 5 * (users / horizon) ** 0.5
    )


def test_a_sweep_earlier_in_the_day_does_not_lose_the_question_of_a_whole_horizon() -> None:
    """On the wall clock a row's turn moves within the day: it must be asked about all the same."""
    users, horizon = 200, 7
    driver = Driver(config(min_orders=1, active_within_ms=10**12), SilenceScorer(horizon))
    driver.feed([], [order(f"user-{i}", T0) for i in range(users)])
    # each day a minute earlier, as when the shop grows
    asked = ask_daily(driver, users, 64, lambda day: T0 + day * DAY_MS + 80 * 60_000 - day * 60_000)
    counts = Counter(row for row, _ in asked)
    assert min(counts.values()) >= 7


@pytest.mark.parametrize(("first", "then"), [(28, 7), (7, 28), (10, 9)])
def test_a_question_matures_by_the_horizon_it_was_asked_with(first: int, then: int) -> None:
    """Whatever the horizon of the champion that came since; and asking goes on evenly."""
    users, change, days = 120, 20, 110
    driver = Driver(config(min_orders=1, active_within_ms=10**12), SilenceScorer(first))
    driver.feed([], [order(f"user-{i}", T0) for i in range(users)])
    bought: dict[str, list[int]] = defaultdict(list)
    rng = np.random.default_rng(first)
    for day in range(1, days):
        if day == change:
            driver.scorer = SilenceScorer(then, "fake-2")
        driver.sweep(T0 + day * DAY_MS)
        buyers = rng.choice(users, 4, replace=False)
        ts = T0 + day * DAY_MS + 1
        driver.feed([], [order(f"user-{i}", ts) for i in buyers])
        for i in buyers:
            bought[f"user-{i}"].append(ts)

    examples = [e for o in driver.outputs for e in o.examples]
    names = [r["user_id"] for r in driver.rows("matured_predictions")]
    assert [e.ordinal for e in examples] == list(range(1, len(examples) + 1))
    asked_of = Counter(e.champion_version for e in examples)
    assert min(asked_of["fake-1"], asked_of["fake-2"]) > users / 2
    for user, e in zip(names, examples, strict=True):
        horizon = first if e.champion_version == "fake-1" else then
        assert (e.horizon_days, e.matured_at_ms - e.asked_at_ms) == (horizon, horizon * DAY_MS)
        orders = sum(e.asked_at_ms <= ts < e.matured_at_ms for ts in bought[user])
        assert (e.churned, e.spend) == (orders == 0, 10.0 * orders)
    matured = [e.matured_at_ms for e in examples]
    assert matured == sorted(matured)
    # No burst after the change: a day asks about one horizon's share of the users.
    per_day = Counter(e.asked_at_ms for e in examples if e.champion_version == "fake-2")
    assert max(per_day.values()) < users / then + 5 * (users / then) ** 0.5


def test_a_user_with_too_little_data_gets_no_question() -> None:
    driver = customer(orders=1)
    driver.feed([click("visitor", T0)])
    for day in range(1, 80):
        driver.sweep(T0 + day * DAY_MS)
    assert not any(o.examples for o in driver.outputs)
    assert not driver.state.questions


# -- score rows


def score_times(driver: Driver, user: str = "u") -> list[int]:
    return [r["scored_at"] for r in driver.rows("score_history") if r["user_id"] == user]


def test_a_score_is_written_when_it_changed_and_once_a_day() -> None:
    driver = customer()
    assert score_times(driver) == [T0]
    driver.sweep(T0 + 23 * HOUR_MS)  # p up by 0.016
    assert score_times(driver) == [T0]
    driver.sweep(T0 + 24 * HOUR_MS)  # a day
    driver.sweep(T0 + 25 * HOUR_MS)
    assert score_times(driver) == [T0, T0 + DAY_MS]
    driver.feed(clock_ms=T0 + 26 * HOUR_MS, sweep_rows=1, learner=learner(4, 0.018))
    assert len(score_times(driver)) == 2
    driver.feed(clock_ms=T0 + 26 * HOUR_MS, sweep_rows=1, learner=learner(5, 0.1))
    rows = driver.rows("score_history")
    assert len(rows) == 3
    assert (rows[-1]["learner_version"], rows[-1]["seq"]) == (5, driver.state.meta.seq)
    assert rows[-1]["p_churn"] == pytest.approx(26 / 24 / 60 + 0.1)
    assert rows[-1]["p_champion"] == pytest.approx(26 / 24 / 60)


def test_a_change_of_segment_writes_a_score_row() -> None:
    driver = customer(orders=1)
    driver.feed([], [order("u", T0 + 1, 0.0)])  # p and spend as before, but no longer new
    assert score_times(driver) == [T0, T0 + 1]
    assert driver.rows("score_history")[-1]["lifecycle"] == "active"


def test_an_order_writes_a_score_row_so_that_its_order_columns_are_fresh() -> None:
    driver = customer()
    driver.feed([], [order("u", T0 + 1, 0.0)])  # neither p nor spend nor segment changes
    assert score_times(driver) == [T0, T0 + 1]
    newest = driver.rows("score_history")[-1]
    assert newest["lifetime_orders"] == driver.column("orders", "u")
    assert newest["last_order_at"] == T0 + 1


def test_a_learner_stays_in_use_until_the_next() -> None:
    driver = customer()
    driver.feed(clock_ms=T0 + 1, sweep_rows=1, learner=learner(1, 0.25))
    driver.feed(clock_ms=T0 + DAY_MS + 1, sweep_rows=1)
    assert [r["learner_version"] for r in driver.rows("score_history")] == [0, 1, 1]
    assert driver.column("p_champion", "u") + 0.25 == pytest.approx(driver.column("p_churn", "u"))


class SometimesNothing(SilenceScorer):
    """Has no number for who has been silent for 5 to 10 days."""

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> FakeScores:
        scores = super().score(x, learner)
        days = feature(x, "days_since_order")
        none = (days > 5) & (days < 10)
        return FakeScores(*(np.where(none, np.float32(np.nan), s) for s in astuple(scores)))


def test_a_customer_without_a_number_keeps_the_score_they_had() -> None:
    driver = customer(sample_share=1.0)
    driver.scorer = SometimesNothing()
    driver.feed([], [order("v", T0), order("v", T0 + 6 * DAY_MS)], clock_ms=T0 + 6 * DAY_MS)
    before = [driver.column(name, "u") for name in ("p_churn", "p_champion", "expected_spend")]
    outputs = driver.sweep(T0 + 7 * DAY_MS)  # u: 7 days, v: 1 day
    assert outputs.refused == 1
    assert [driver.column(n, "u") for n in ("p_churn", "p_champion", "expected_spend")] == before
    assert driver.column("p_churn", "v") == pytest.approx(1 / 60, abs=1e-3)
    # They can't be recomputed, so they are no sample of what was scored.
    assert list(outputs.tables["score_samples"]["user_id"]) == ["v"]
    assert driver.sweep(T0 + 11 * DAY_MS).refused == 0
    assert driver.column("p_churn", "u") == pytest.approx(11 / 60, abs=1e-3)


def test_a_customer_who_never_had_a_number_reads_as_not_enough_data() -> None:
    driver = Driver(config())
    driver.scorer = SometimesNothing()
    outputs = driver.feed([], [order("u", T0)], clock_ms=T0 + 7 * DAY_MS)
    assert outputs.refused == 1
    assert np.isnan(driver.column("p_churn", "u"))
    assert states(driver) == []


# -- out


def test_every_table_has_the_columns_of_its_contract() -> None:
    driver = customer(min_orders=1)
    for day in range(1, 70):
        driver.sweep(T0 + day * DAY_MS)
    driver.feed([click("u", T0 - 8 * DAY_MS)], [order("v", T0)])  # one late
    seen = {name for o in driver.outputs for name in o.tables}
    # of drift: test_forecast.py; of canaries: test_canaries.py; of campaigns: test_audiences.py;
    # of contacts and budgets: test_contacts.py, test_budget.py; of definitions: test_totals.py
    others = {
        "alert_budget", "audience_changes", "campaign_sums", "canaries", "console_actions",
        "consumer_lag", "contacts", "definitions_taken", "model_drift", "trainer_log",
    }  # fmt: skip
    assert seen == set(TABLES) - others
    for out in driver.outputs:
        for name, table in out.tables.items():
            assert set(table) == set(TABLES[name].columns)
            lengths = {len(column) for column in table.values()}
            assert len(lengths) == 1
            assert lengths != {0}
            for column, kind in TABLES[name].columns.items():
                values = table[column]
                if isinstance(values, np.ndarray) and values.dtype != object:
                    want = {"UInt8": "u1", "UInt16": "u2", "UInt32": "u4", "UInt64": "u8",
                            "Float32": "f4", "Float64": "f8",
                            "Array(Float32)": "f4"}.get(kind, "i8")  # fmt: skip
                    assert values.dtype == np.dtype(want), (name, column)
                elif kind.startswith("Array"):
                    assert all(isinstance(v, list) for v in values)
                else:
                    assert all(type(v) is str for v in values), (name, column)


def test_dead_letters_say_where_from_and_why() -> None:
    driver = Driver(config())
    driver.feed([click("u", T0)])
    long = b'{"text": "' + b"x" * 10_000
    out = driver.feed_rows(
        [(b"u", long, T0 + 7), record(click("u", T0 + 1)), record(click("u", T0 - 8 * DAY_MS))],
        [(None, b"x", T0 + 8), (b"k", None, T0 + 9)],
    )
    letters = [(d.topic, d.partition, d.offset, d.reason) for d in out.dead_letters]
    assert letters == [
        ("clicks", 3, 1, "invalid_json"), ("clicks", 3, 3, "late"),
        ("orders", 3, 0, "null_key"), ("orders", 3, 1, "null_value"),
    ]  # fmt: skip
    assert out.dead_letters[0].payload_bytes == len(long)
    assert out.dead_letters[0].payload == long[:4_096]
    assert [d.recorded_at_ms - T0 for d in out.dead_letters] == [7, -8 * DAY_MS, 8, 9]
    counts = out.counts
    assert (counts.accepted, counts.scored, counts.late, counts.dead_letters) == (5, 1, 1, 3)
    (row,) = [r for r in driver.rows("batches") if r["seq"] == 2]
    assert [row[k] for k in ("accepted", "scored", "duplicates", "late", "dead_letters")] == [
        5, 1, 0, 1, 3,
    ]  # fmt: skip
    assert (row["clickstream_from"], row["clickstream_to"]) == (1, 4)
    assert (row["orders_from"], row["orders_to"]) == (0, 2)


def test_a_plan_that_does_not_follow_is_refused() -> None:
    def plan(seq: int, start: tuple[int, int], stop: tuple[int, int]) -> Plan:
        return Plan(seq, start, stop, 0, 0)

    two, none = to_records([record(click("u", T0))] * 2, 5), Records.empty()
    for bad, records in (
        (plan(2, (5, 0), (7, 0)), (two, none)),
        (plan(0, (5, 0), (7, 0)), (two, none)),
        (plan(1, (4, 0), (7, 0)), (two, none)),
        (plan(1, (5, 0), (8, 0)), (two, none)),
        (plan(1, (5, 0), (6, 0)), (two, none)),
        (plan(1, (5, 0), (7, 0)), (none, none)),  # its records are gone
        (plan(1, (5, 0), (5, 0)), (two, none)),
        (plan(1, (5, 0), (7, 1)), (two, none)),
    ):
        driver = Driver(config())
        driver.state.meta.offsets = [5, 0]
        before = msgspec.msgpack.encode(driver.state.meta)
        with pytest.raises(ValueError, match="step"):
            driver.run(bad, records)
        assert msgspec.msgpack.encode(driver.state.meta) == before
        assert driver.state.n == 0
    driver.run(plan(1, (5, 0), (7, 0)), (two, none))


def test_outputs_carry_the_newest_record_time_or_the_clock() -> None:
    """An alert's latency is measured from there."""
    driver = customer()
    fed = driver.feed([click("v", T0 + 5)], [order("w", T0 + 7)], at_ms=T0 + 9)
    assert fed.produced_ms == T0 + 9
    assert max(fed.applied_ms) == T0 + 9
    swept = driver.sweep(T0 + 30 * DAY_MS)
    assert swept.produced_ms == T0 + 30 * DAY_MS
    assert swept.applied_ms == (0, 0)
    assert [row["event_produced_at"] for row in driver.rows("alerts")] == [swept.produced_ms]


def test_records_with_gaps_balance() -> None:
    """Transaction markers take up offsets but are not records."""
    driver = Driver(config())
    rows = to_records([record(click("u", T0 + i)) for i in range(3)])
    gappy = Records.of(np.array([2, 3, 9]), rows.timestamps_ms, rows.keys, rows.values)
    counts = driver.run(Plan(1, (0, 0), (10, 0), 0, 0), (gappy, Records.empty())).counts
    assert (counts.accepted, counts.scored) == (3, 3)
    assert driver.state.meta.offsets == [10, 0]


def test_the_clock_never_goes_back() -> None:
    driver = Driver(config())
    driver.feed([click("u", T0)])
    driver.feed([click("u", T0 - HOUR_MS)])
    driver.feed(clock_ms=T0 - 1)
    assert driver.state.meta.clock_ms == T0
    assert [r["clock"] for r in driver.rows("batches")] == [T0] * 3


def test_only_bad_records_leave_a_step_without_users() -> None:
    driver = Driver(config())
    out = driver.feed_rows([(b"u", b"x", T0)], [(None, None, T0)])
    assert driver.state.n == 0
    assert set(out.tables) == {"dead_letters", "batches"}
    assert driver.state.meta.clock_ms == 0


def test_forgetting_old_ids_pairs_and_orders_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same run with maps that are emptied as soon as they may be."""
    runs = []
    for threshold in (1 << 16, 1):
        monkeypatch.setattr("streams.core.apply._FORGET_AT", threshold)
        driver, admission = Driver(config()), Admission(7 * DAY_MS, RATES)
        for batch in random_batches(83, 60, late_share=0.05):
            admission.batch(batch.clicks, batch.orders)
            driver.feed(batch.clicks, batch.orders, at_ms=batch.now_ms, sweep_rows=100)
        runs.append(driver)
    assert len(runs[1].state.pairs) < len(runs[0].state.pairs)
    assert len(runs[1].state.seen_ids) < len(runs[0].state.seen_ids)
    assert len(runs[1].state.known_orders) < len(runs[0].state.known_orders)
    assert [encode(o) for o in runs[0].outputs] == [encode(o) for o in runs[1].outputs]
    forget(runs[1].state, 0)


def test_what_may_still_come_again_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is remembered until its event would be late; a pair until no window covers it."""
    monkeypatch.setattr("streams.core.apply._FORGET_AT", 1)
    for age_ms, expected in ((7 * DAY_MS, "duplicates"), (7 * DAY_MS + 1, "late")):
        driver = Driver(config())
        old = click("u", T0 + HOUR_MS, item_id="i")
        driver.feed([old, *(click("u", T0 + HOUR_MS - i * DAY_MS) for i in range(60))])
        driver.feed([click("u", old["ts"] + age_ms)], sweep_rows=1)
        driver.feed()  # forgetting goes on with the steps after the sweep
        assert len(driver.state.seen_ids) < 60
        assert getattr(driver.feed([old]).counts, expected) == 1
    driver = Driver(config())
    driver.feed([click("u", T0, item_id=f"i{i}") for i in range(40)])
    end = T0 + 90 * DAY_MS
    driver.sweep(end - 1)
    driver.feed([click("u", end - 1, item_id="i0")])
    assert x_of(driver, "distinct_items_90d", end - 1) == 40
    driver.sweep(end + 5 * DAY_MS)
    driver.sweep(end + 5 * DAY_MS)
    driver.feed()
    assert len(driver.state.pairs) < 40
    assert x_of(driver, "distinct_items_90d", end + 5 * DAY_MS) == 1


def x_of(driver: Driver, name: str, now_ms: int) -> float:
    x = features(driver.state, np.array([0]), now_ms)
    return float(x[0, FEATURE_NAMES.index(name)])


def test_times_as_text_keep_their_milliseconds() -> None:
    for ms in (0, 1, 999, T0 + 123, 4_102_444_799_999, *range(T0, T0 + 2_000, 3)):
        assert iso_utc(ms).endswith(f".{ms % 1000:03d}Z")
