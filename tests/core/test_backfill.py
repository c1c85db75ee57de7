"""A history counts as if its events had come live, whenever it is counted and however often."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES
from streams.core.backfill import FIRST_OFFSET, Backfill
from streams.core.erasure import erase
from streams.core.events.records import CLICKSTREAM, ORDERS
from streams.core.features import features
from streams.core.plan import next_plan
from streams.core.state.shard_state import History
from streams.core.texts import Texts
from tests.core.driving import HOUR_MS, T0, Driver, bounded, click, config, order, pending, record
from tests.core.driving import to_records as records_of
from tests.core.oracle import DAY_MS, Wire
from tests.core.state.test_state import reload
from tests.core.test_erasure import order_for

COUNTED = [name for name in FEATURE_NAMES if "decayed" not in name]
"""Decayed sums are added up in another order, so they differ in the last digits."""
USERS = [f"u{k}" for k in range(5)]


def count(
    driver: Driver,
    events: Sequence[Wire],
    *,
    name: str = "files",
    topics_from_ms: int | None = None,
    newest_ms: int | None = None,
    wall_ms: int = T0 + DAY_MS,
    export: bool = True,
) -> History:
    """Count a history into the driver's state, by time, some at a time."""
    newest = max((e["ts"] for e in events), default=0) if newest_ms is None else newest_ms
    backfill = Backfill(
        driver.state, driver.config, name, newest_ms=newest, topics_from_ms=topics_from_ms,
        wall_ms=wall_ms,
    )  # fmt: skip
    in_order = sorted(events, key=lambda e: e["ts"])
    times = sorted({e["ts"] for e in in_order})
    for start in range(0, len(times), 7):
        part = [e for e in in_order if e["ts"] in times[start : start + 7]]
        for source in (CLICKSTREAM, ORDERS):
            some = [record(e) for e in part if ("order_id" in e) == (source == ORDERS)]
            backfill.add(records_of(some, FIRST_OFFSET), source, export=export)
    return backfill.end()


def known(driver: Driver, user: str) -> dict[str, Any]:
    """What the state says of a user's orders and windows, now."""
    state = driver.state
    row = state.rows_of(Texts.of([user]))
    x = features(state, row, state.meta.clock_ms)[0]
    found = dict(zip(FEATURE_NAMES, x.tolist(), strict=True))
    said: dict[str, Any] = {feature: found[feature] for feature in COUNTED}
    for column in ("orders", "revenue_cents", "first_order_ms", "first_seen_ms"):
        said[column] = int(driver.column(column, user))
    said["decayed"] = driver.column("decayed", user).round(6).tolist()
    return said


def assert_same(got: Driver, expected: Driver) -> None:
    got.feed(clock_ms=T0 + HOUR_MS)
    expected.feed(clock_ms=T0 + HOUR_MS)
    for user in USERS:
        mine, theirs = known(got, user), known(expected, user)
        differing = {k: (mine[k], theirs[k]) for k in mine if not _equal(mine[k], theirs[k])}
        assert not differing, f"{user}: {differing}"


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.array(a, float), np.array(b, float), equal_nan=True))


def a_shop(rng: random.Random, days: int) -> list[Wire]:
    """Clicks and orders of some days before T0, some of these returned or cancelled."""
    events: list[Wire] = []
    for number in range(rng.randint(5, 40)):
        user, ts = rng.choice(USERS), T0 - rng.randrange(HOUR_MS, days * DAY_MS)
        if rng.random() < 0.4:
            kind = rng.choice(["view", "cart_add", "search"])
            item = {"item_id": f"i{rng.randrange(4)}"} if kind != "search" else {}
            events.append(click(user, ts, kind, **item))
            continue
        placed = order(user, ts, rng.randint(1, 90), order_id=f"no-{number}")
        events.append(placed)
        later = ts + rng.randrange(1, 30 * DAY_MS)
        if later < T0 and rng.random() < 0.4:
            kind = rng.choice(["returned", "cancelled"])
            amount = placed["amount"] * (1 if kind == "cancelled" else rng.choice([0.25, 1]))
            events.append(order(user, later, amount, kind, order_id=placed["order_id"]))
    return sorted(events, key=lambda e: e["ts"])


def of_files(events: Sequence[Wire]) -> list[Wire]:
    """The same as a file says it: with ids that the topics do not know."""
    return [{**e, "event_id": f"file-{e['event_id']}"} if "order_id" in e else e for e in events]


def live(driver: Driver, events: Sequence[Wire]) -> None:
    for start in range(0, len(events), 5):
        part = events[start : start + 5]
        driver.feed([e for e in part if "order_id" not in e], [e for e in part if "order_id" in e])


def all_live(events: Sequence[Wire]) -> Driver:
    driver = Driver(config(lateness_ms=1_000 * DAY_MS))
    live(driver, events)
    return driver


@settings(bounded, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([20, 80, 250, 800]), st.sampled_from([0, 3, 40, 89]))
def test_a_history_before_live_traffic_counts_as_if_it_had_come_live(
    seed: int, days: int, overlap_days: int
) -> None:
    rng = random.Random(seed)
    events = a_shop(rng, days)
    start_ms = T0 - overlap_days * DAY_MS
    driver = Driver()
    in_topics = [e for e in events if e["ts"] >= start_ms]
    from_ms = in_topics[0]["ts"] if in_topics else None
    count(driver, of_files(events), topics_from_ms=from_ms, newest_ms=T0)
    assert driver.state.meta.seq == 0
    live(driver, in_topics)
    assert_same(driver, all_live(events))


@settings(bounded, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([20, 80, 250, 800]), st.sampled_from([2, 40, 89]))
def test_a_history_amid_live_traffic_counts_as_if_it_had_come_live(
    seed: int, days: int, live_days: int
) -> None:
    rng = random.Random(seed)
    events = a_shop(rng, days)
    start_ms, stop_ms = T0 - live_days * DAY_MS, T0 - live_days * DAY_MS // 2
    driver = Driver(config(lateness_ms=7 * DAY_MS))
    live(driver, [e for e in events if start_ms <= e["ts"] < stop_ms])
    # what the topics had of clicks, files do not repeat from before they could be told apart
    horizon_ms = driver.state.meta.watermark_ms - 7 * DAY_MS
    files = [e for e in events if "order_id" in e or not start_ms <= e["ts"] < horizon_ms]
    count(driver, [e for e in of_files(files) if e["ts"] < stop_ms], newest_ms=stop_ms)
    driver.state = reload(driver.state)
    live(driver, [e for e in events if e["ts"] >= stop_ms])
    assert_same(driver, all_live(events))


@pytest.mark.parametrize("running", [False, True])
def test_counted_twice_it_counts_once(running: bool) -> None:
    rng = random.Random(5)
    events = [e for _ in range(4) for e in a_shop(rng, 400)]
    numbered = [{**e, "order_id": f"{i // 40}-{e['order_id']}"} if "order_id" in e else e
                for i, e in enumerate(events)]  # fmt: skip
    unique = list({(e.get("order_id"), e["type"], e["ts"]): e for e in numbered}.values())
    driver = Driver()
    if running:
        live(driver, [e for e in sorted(unique, key=lambda e: e["ts"]) if e["ts"] > T0 - DAY_MS])
    first = count(driver, of_files(unique), newest_ms=T0)
    before = {user: known(driver, user) for user in USERS}
    again = count(driver, of_files(unique), name="again", newest_ms=T0)
    assert first.counted > 50
    assert first.covered == 0
    assert again.repeats + again.covered >= len(unique) - 4  # a first order that was cancelled
    for user in USERS:
        now = known(driver, user)
        assert {k for k in now if not _equal(now[k], before[user][k])} == set()


def test_a_refund_in_the_file_and_in_the_topic_is_one_refund() -> None:
    placed = order("u0", T0 - 9 * DAY_MS, 100.0, order_id="A")
    back = order("u0", T0 - 2 * DAY_MS, 30.0, "returned", order_id="A")
    for topic_first in (False, True):
        driver = Driver()
        if topic_first:
            live(driver, [placed, back])
        count(driver, of_files([placed, back]), topics_from_ms=placed["ts"], newest_ms=T0)
        if not topic_first:
            live(driver, [placed, back])
        assert driver.column("revenue_cents", "u0") == 7_000
        driver.feed(clock_ms=T0)
        assert known(driver, "u0")["returns_30d"] == 1
        # a second refund of the order is one more, whoever tells of it
        driver.feed([], [order("u0", T0, 20.0, "returned", order_id="A")])
        assert driver.column("revenue_cents", "u0") == 5_000


def test_a_file_that_says_less_of_an_order_changes_nothing_of_it() -> None:
    full = order("u0", T0 - DAY_MS, 100.0, order_id="A", coupon="SUMMER", discount=5.0,
                 lines=[{"item_id": "i", "amount": 100.0}])  # fmt: skip
    file = order("u0", T0 - DAY_MS, 100.0, order_id="A")
    for topic_first in (False, True):
        driver = Driver()
        if topic_first:
            live(driver, [full])
        count(driver, [file], topics_from_ms=full["ts"], newest_ms=T0)
        if not topic_first:
            live(driver, [full])
        driver.feed(clock_ms=T0)
        said = known(driver, "u0")
        assert (said["coupon_orders_7d"], said["order_lines_7d"]) == (1, 1)
        assert said["discount_share_7d"] > 0


def test_of_two_files_the_later_one_says_what_an_order_is_worth_and_what_came_back() -> None:
    for days in (2, 300):  # older ones are told apart within the history alone
        ts = T0 - days * DAY_MS
        earlier = [
            order("u0", ts, 100.0, order_id="A"),
            order("u0", ts, 10.0, "returned", order_id="A", event_id="r-A"),
        ]
        later = [
            order("u0", ts, 80.0, order_id="A"),
            order("u0", ts, 20.0, "returned", order_id="A", event_id="r-A"),
        ]
        driver = Driver()
        count(driver, [*earlier, *later], newest_ms=T0)
        assert driver.column("revenue_cents", "u0") == 6_000, days
        assert driver.column("orders", "u0") == 1


def test_a_refund_from_before_live_traffic_adds_to_later_ones() -> None:
    placed = order("u0", T0 - 50 * DAY_MS, 100.0, order_id="A")
    back = order("u0", T0 - 40 * DAY_MS, 30.0, "returned", order_id="A")
    driver = Driver()
    live(driver, [click("u1", T0 - 3 * DAY_MS)])
    count(driver, of_files([placed, back]), newest_ms=T0)
    driver.feed([], [order("u0", T0 + 1, 20.0, "returned", order_id="A")])
    assert driver.column("revenue_cents", "u0") == 5_000


@pytest.mark.parametrize("topic_first", [False, True])
def test_a_refund_in_the_topic_is_in_the_exports_total_whose_time_is_the_orders(
    topic_first: bool,
) -> None:
    driver = Driver()
    placed = order("u0", T0 - 10 * DAY_MS, 30.0, order_id="A")
    export = [placed, order("u0", placed["ts"], 10.0, "returned", order_id="A", event_id="r-A")]
    back = order("u0", T0 - DAY_MS, 10.0, "returned", order_id="A")
    topic = [click("u1", T0 - 3 * DAY_MS), back]
    if topic_first:
        live(driver, topic)
    count(driver, of_files(export), topics_from_ms=topic[0]["ts"], newest_ms=T0)
    if not topic_first:
        live(driver, topic)
    driver.feed(clock_ms=T0)
    assert driver.column("revenue_cents", "u0") == 2_000
    assert known(driver, "u0")["returns_30d"] == 1


@pytest.mark.parametrize("topic_first", [False, True])
def test_returns_that_a_file_has_as_events_go_by_their_ids(topic_first: bool) -> None:
    driver = Driver()
    placed = order("u0", T0 - 10 * DAY_MS, 30.0, order_id="A")
    one, two = (order("u0", T0 - k * DAY_MS, 10.0, "returned", order_id="A") for k in (2, 1))
    if topic_first:
        live(driver, [one, two])
    count(driver, [placed, one], topics_from_ms=one["ts"], newest_ms=T0, export=False)
    if not topic_first:
        live(driver, [one, two])
    driver.feed(clock_ms=T0)
    assert driver.column("revenue_cents", "u0") == 1_000
    assert known(driver, "u0")["returns_30d"] == 2


def test_what_was_counted_and_forgotten_is_left_out_and_told() -> None:
    driver = Driver()
    for day in range(200, 0, -10):
        driver.feed([], [order("u0", T0 - day * DAY_MS, 10.0, order_id=f"{day}")])
    driver.state.known_orders.drop_before(T0 // DAY_MS - 98)
    files = [order("u0", T0 - day * DAY_MS, 10.0, order_id=f"{day}") for day in range(400, 0, -10)]
    done = count(driver, files, newest_ms=T0)
    assert driver.column("orders", "u0") == 40
    assert (done.orders, done.covered, done.repeats) == (20, 11, 9)


def test_it_moves_no_watermark_so_that_nothing_is_late_after_it() -> None:
    driver = Driver()
    topic = [order("u1", T0 - day * DAY_MS, order_id=f"t{day}") for day in (60, 20, 1)]
    count(driver, [order("u0", T0 - 1, order_id="f")], topics_from_ms=topic[0]["ts"])
    for event in topic:
        counts = driver.feed([], [event]).counts
        assert (counts.scored, counts.late) == (1, 0)


def test_the_first_sweep_after_it_begins_at_once_and_visits_everybody() -> None:
    driver = Driver(config(sweep_interval_ms=DAY_MS))
    files = [order(f"n{k}", T0 - (k % 900) * DAY_MS, order_id=f"f{k}") for k in range(3_000)]
    count(driver, files, newest_ms=T0)
    assert len(driver.state.parked) > 1_500  # most have been silent for longer than any window
    nothing = pending([], 0, caught_up=True)
    visited = 0
    while (plan := next_plan(
        driver.state.meta, (nothing, nothing), clock="wall", wall_ms=T0 + 1_000,
        sweep_interval_ms=DAY_MS, max_records=1_000, users=driver.state.sweep_places,
    )) is not None:  # fmt: skip
        visited += len(
            driver.run(plan, (records_of([]), records_of([]))).tables["score_history"]["seq"]
        )
    assert visited == driver.state.known == 3_000


def test_an_erased_person_stays_out() -> None:
    driver = Driver()
    erase(driver.state, order_for("u0", cutoff_ms=T0 - DAY_MS))
    before, after = T0 - 2 * DAY_MS, T0 - HOUR_MS
    files = [order(u, ts, order_id=f"{u}{ts}") for u in ("u0", "u1") for ts in (before, after)]
    done = count(driver, files, newest_ms=T0)
    assert (done.erased, done.counted) == (1, 3)
    assert driver.column("orders", "u0") == 1


def test_what_cannot_be_used_is_counted_by_reason() -> None:
    driver = Driver()
    files = [order("u0", T0, currency="XXX"), order("u0", T0), order("u0", T0 + 9 * DAY_MS)]
    done = count(driver, files, newest_ms=T0)
    assert done.dead == {"unknown_currency": 1, "future_timestamp": 1}
    assert driver.state.meta.histories == [done]


def test_a_state_with_a_history_is_the_same_after_it_was_written_and_read() -> None:
    driver = Driver()
    events = a_shop(random.Random(3), 300)
    count(driver, of_files(events), newest_ms=T0)
    other = replace(driver, state=reload(driver.state), outputs=[], log=[])
    assert_same(other, driver)
