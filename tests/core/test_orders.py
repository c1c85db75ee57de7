"""An order counts once, by what it is worth in the end, in whatever order its events arrive."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES, GAP_ORDERS
from streams.core.features import features
from streams.core.state.known_orders import ORDER
from streams.core.state.u64map import U64Map
from tests.core.driving import HOUR_MS, T0, Driver, SilenceScorer, bounded, config, drawn, order
from tests.core.oracle import DAY_MS, Admission, Wire, recount
from tests.core.state.test_state import reload
from tests.core.test_erasure import erase, order_for

COUNTED = [
    name for name in FEATURE_NAMES if "activity" not in name and not name.startswith("days_since_")
] + ["days_since_order", "days_since_first_order"]


def event(oid: str, ts: int, amount: float = 100.0, type: str = "placed", **more: Any) -> Wire:
    return order(more.pop("user", "u"), ts, amount, type, order_id=oid, **more)


def features_of(driver: Driver, user: str = "u") -> dict[str, float]:
    row = np.array([driver.state.rows_by_user[user]])
    x = features(driver.state, row, driver.state.meta.clock_ms)[0]
    return dict(zip(FEATURE_NAMES, x.tolist(), strict=True))


def orders_of(driver: Driver, user: str = "u") -> tuple[int, int, list[int], int]:
    """(orders, cents, order times newest first, first order)"""
    ring = [int(t) for t in driver.column("recent_orders_ms", user) if t]
    values = [int(driver.column(n, user)) for n in ("orders", "revenue_cents", "first_order_ms")]
    return values[0], values[1], ring, values[2]


def test_an_order_delivered_three_times_is_one_order() -> None:
    driver = Driver()
    counts = driver.feed([], [event("1001", T0, 50.0) for _ in range(3)]).counts
    assert (counts.scored, counts.duplicates) == (1, 2)
    assert orders_of(driver) == (1, 5_000, [T0], T0)
    # an export that is replayed over days that live traffic covers
    counts = driver.feed([], [event("1001", T0, 50.0), event("1002", T0 + 1, 7.0)]).counts
    assert (counts.scored, counts.duplicates) == (1, 1)
    assert driver.column("orders", "u") == 2
    # another customer may have the same number
    assert driver.feed([], [event("1001", T0, 50.0, user="v")]).counts.scored == 1
    assert driver.column("orders", "v") == 1


@pytest.mark.parametrize("together", [False, True])
def test_who_cancelled_all_new_orders_looks_like_who_never_placed_them(together: bool) -> None:
    driver = Driver()
    for days in (60, 40, 20):
        ts = T0 - days * DAY_MS
        driver.feed([], [event(f"{u}{days}", ts, user=u) for u in ("base", "cancel")])
    new = [event(f"c{k}", T0 - 2_000 + k, user="cancel") for k in range(3)]
    undone = [event(f"c{k}", T0 - 1_000 + k, type="cancelled", user="cancel") for k in range(3)]
    for part in [[*new, *undone]] if together else [new, undone]:
        driver.feed([], part)
    driver.feed(clock_ms=T0)
    base, cancel = (features_of(driver, user) for user in ("base", "cancel"))
    behaviour = ("cancel", "refund", "activity")
    same = [name for name in base if not any(part in name for part in behaviour)]
    np.testing.assert_array_equal([base[n] for n in same], [cancel[n] for n in same])
    assert cancel["cancellations_1h"] == 3
    assert cancel["refunds_1h"] == 300
    assert driver.column("expected_spend", "base") == driver.column("expected_spend", "cancel")


def test_who_cancelled_all_has_not_ordered_and_who_returned_all_is_worth_nothing() -> None:
    driver = Driver()
    driver.feed([], [event(f"{u}{k}", T0 + k, 9.5, user=u) for u in "cr" for k in range(3)])
    for k in range(3):
        driver.feed([], [event(f"c{k}", T0 + 9 + k, 9.5, "cancelled", user="c")])
        driver.feed([], [event(f"r{k}", T0 + 9 + k, 9.5, "returned", user="r")])
    assert orders_of(driver, "c") == (0, 0, [], 0)
    assert orders_of(driver, "r") == (3, 0, [T0 + 2, T0 + 1, T0], T0)
    cancelled, returned = features_of(driver, "c"), features_of(driver, "r")
    assert np.isnan(cancelled["days_since_order"])
    assert cancelled["orders_decayed_7d"] == cancelled["revenue_decayed_90d"] == 0
    assert returned["revenue_decayed_90d"] == returned["revenue_90d"] == 0
    assert returned["orders_90d"] == 3
    assert driver.rows("score_history")[-1]["last_order_at"] in (0, T0 + 2)


def test_the_amounts_of_an_order_are_those_of_its_newest_version() -> None:
    driver = Driver()
    lines = [{"item_id": "i", "amount": 5.0}] * 2
    driver.feed([], [event("a", T0 + HOUR_MS, 80.0, coupon="C", lines=lines, discount=3.0)])
    driver.feed([], [event("a", T0, 100.0)])  # an older version, but it tells when it was placed
    assert orders_of(driver) == (1, 8_000, [T0], T0)
    x = features_of(driver)
    assert (x["order_lines_7d"], x["coupon_orders_7d"], x["revenue_7d"]) == (2, 1, 80)
    driver.feed([], [event("a", T0 + HOUR_MS, 60.0)])  # of the same time: the one that came last
    x = features_of(driver)
    assert (x["order_lines_7d"], x["coupon_orders_7d"], x["discount_share_7d"]) == (0, 0, 0)
    assert orders_of(driver) == (1, 6_000, [T0], T0)
    driver.feed([], [event("a", T0 + DAY_MS, 70.0, "returned")])
    assert driver.column("revenue_cents", "u") == 0
    driver.feed([], [event("a", T0 + DAY_MS, 90.0)])
    assert driver.column("revenue_cents", "u") == 2_000


def random_events(rng: random.Random) -> list[Wire]:
    """All events of some orders of one customer, within two months."""
    events = [event("first", T0)]
    for n in range(rng.randrange(12)):
        placed = T0 + rng.randrange(40 * DAY_MS)
        if rng.random() < 0.9:
            for k in range(rng.choice([1, 1, 1, 2, 3])):  # versions, at most one of a time
                later = placed + k * rng.randrange(1, DAY_MS)
                lines = [{"item_id": "i", "amount": 1.0}] * rng.randrange(3)
                made = event(f"{n}", later, rng.randrange(10_000) / 100, lines=lines)
                events += [made] + [made | {"event_id": f"{n}-{k}-again"}] * (rng.random() < 0.2)
        if rng.random() < 0.3:
            events.append(event(f"{n}", placed + rng.randrange(20 * DAY_MS), 5.0, "cancelled"))
        for _ in range(rng.choice([0, 0, 1, 2])):
            back, amount = placed + rng.randrange(20 * DAY_MS), rng.randrange(8_000) / 100
            events.append(event(f"{n}", back, amount, "returned"))
    return events


def expected(events: list[Wire]) -> tuple[int, int, list[int], int]:
    """As `orders_of`, from the definition."""
    times, total = [], 0
    for oid in {e["order_id"] for e in events}:
        mine = [e for e in events if e["order_id"] == oid]
        versions = [e for e in mine if e["type"] == "placed"]
        if versions and not any(e["type"] == "cancelled" for e in mine):
            times.append(min(e["ts"] for e in versions))
            back = sum(round(e["amount"] * 100) for e in mine if e["type"] == "returned")
            amount = round(max(versions, key=lambda e: e["ts"])["amount"] * 100)
            total += max(0, amount - back)
    times.sort(reverse=True)
    return len(times), total, times, times[-1] if times else 0


@drawn(20, 60, seed=st.integers(0, 2**32))
def test_the_order_of_arrival_and_checkpoints_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    events = random_events(rng)
    found = []
    for _ in range(3):
        driver = Driver(config(lateness_ms=70 * DAY_MS))
        admission = Admission(70 * DAY_MS)
        rng.shuffle(events)
        left = list(events)
        while left:
            size = rng.randrange(1, 6)
            admission.batch([], left[:size], driver.state.meta.clock_ms)
            driver.feed([], left[:size], at_ms=T0 + 70 * DAY_MS)
            left = left[size:]
            if rng.random() < 0.3:
                driver.state = reload(driver.state)
        driver.feed(clock_ms=T0 + 70 * DAY_MS)
        assert orders_of(driver) == expected(events)
        standing = admission.standings["u"]
        want = recount(admission.of("u"), T0 + 70 * DAY_MS, {"USD": 1.0}, standing)
        x = features_of(driver)
        np.testing.assert_allclose(
            [x[n] for n in FEATURE_NAMES], [want[n] for n in FEATURE_NAMES], rtol=1e-5, atol=1e-6
        )
        found.append([x[name] for name in COUNTED])
    np.testing.assert_allclose(found[1:], found[:1] * 2, rtol=1e-5, atol=1e-6)


@drawn(10, 30, seed=st.integers(0, 2**32))
def test_of_many_orders_the_newest_are_known_without_a_gap(seed: int) -> None:
    """Also while some of them are cancelled, and others come late."""
    rng = random.Random(seed)
    driver = Driver(config(lateness_ms=70 * DAY_MS))
    live: dict[str, int] = {}
    cancelled = 0
    for step in range(150):
        if live and rng.random() < 0.25:
            oid = rng.choice(sorted(live, key=live.__getitem__)[-30:])
            driver.feed([], [event(oid, T0 + 50 * DAY_MS, 1.0, "cancelled")])
            del live[oid]
            cancelled += 1
        else:
            live[f"{step}"] = T0 + step * HOUR_MS - rng.choice([0, 0, 20 * HOUR_MS])
            driver.feed([], [event(f"{step}", live[f"{step}"], 1.0)])
        count, cents, ring, first = orders_of(driver)
        times = sorted(live.values(), reverse=True)
        assert (count, cents) == (len(live), 100 * len(live))
        assert ring == times[: len(ring)]
        assert len(ring) >= min(GAP_ORDERS, len(live)) - cancelled
        if len(ring) == len(live):
            assert first == (times[-1] if times else 0)


def test_what_is_said_of_a_forgotten_order_goes_by_the_lifetime_totals() -> None:
    driver = Driver()
    driver.feed([], [event("old", T0, 50.0), event("older", T0 - DAY_MS, 30.0)])
    now = T0 + 100 * DAY_MS
    driver.feed([], [event("new", now, 20.0)])
    assert driver.feed([], [event("old", now + 1, 10.0, "returned")]).counts.scored == 1
    assert driver.column("revenue_cents", "u") == 9_000
    driver.feed([], [event("old", now + 1, 50.0, "cancelled")])
    assert orders_of(driver) == (2, 5_000, [now, T0 - DAY_MS], T0 - DAY_MS)
    assert features_of(driver)["revenue_90d"] == 20
    # a second word of it is a repeat
    counts = driver.feed([], [event("old", now + 2, 50.0, "cancelled")]).counts
    assert (counts.duplicates, driver.column("orders", "u")) == (1, 2)
    driver.feed([], [event("older", now + 2, 900.0, "cancelled")])
    assert orders_of(driver) == (1, 0, [now], now)  # never below 0
    driver.feed([], [event("never seen", now + 2, 900.0, "cancelled")])
    assert orders_of(driver)[0] == 1  # nobody remembers it, but nothing old is left either


def test_a_cancellation_before_its_order_takes_nothing_from_other_orders_for_good() -> None:
    driver = Driver()
    driver.feed([], [event("old", T0, 50.0)])
    now = T0 + 100 * DAY_MS
    driver.feed([], [event("new", now, 20.0, "cancelled"), event("next", now, 8.0, "returned")])
    driver.feed([], [event("new", now - 5, 20.0), event("next", now - 5, 8.0)])
    assert orders_of(driver) == (2, 5_000, [now - 5, T0], T0)


def test_a_parked_customer_can_still_cancel() -> None:
    driver = Driver()
    driver.feed([], [event("a", T0, 50.0), event("a", T0 + DAY_MS, 5.0, "returned")])
    for days in (99, 101, 103):
        driver.sweep(T0 + days * DAY_MS)
    assert len(driver.state.parked) == 1
    assert driver.column("revenue_cents", "u") == 4_500
    driver.feed([], [event("a", T0 + 104 * DAY_MS, 45.0, "cancelled")])
    assert orders_of(driver) == (0, 0, [], 0)
    assert features_of(driver)["orders_decayed_90d"] == 0


def test_an_erased_customer_s_orders_are_overwritten_and_may_be_placed_again() -> None:
    driver = Driver()
    driver.feed([], [event("a", T0, 12_345.0), event("b", T0, 1.0, user="v")])
    erase(driver, order_for("u", T0 + 1))
    words = driver.state.known_orders.words
    assert 1_234_500 not in words
    assert 100 in words
    driver.feed([], [event("a", T0 + 9, 7.0)])
    assert orders_of(driver) == (1, 700, [T0 + 9], T0 + 9)
    driver.feed([], [event("b", T0 + 9, 1.0, "cancelled", user="v")])
    assert driver.column("orders", "v") == 0


def test_the_answer_to_a_question_is_net() -> None:
    driver = Driver(config(min_orders=1), SilenceScorer(horizon_days=28))
    users = [f"u{i}" for i in range(60)]
    driver.feed([], [event("first", T0, user=u) for u in users])
    days = 1
    while not (driver.state.columns.asked_ms[: driver.state.n] > 0).sum() > 5:
        driver.sweep(T0 + days * DAY_MS)
        days += 1
    now = T0 + days * DAY_MS
    asked = [u for u in users if 0 < driver.column("asked_ms", u) <= now]
    keep, undo, back = asked[:3]
    driver.feed([], [event("second", now, 40.0, user=u) for u in (keep, undo, back)])
    driver.feed([], [event("second", now + 1, 40.0, "cancelled", user=undo)])
    driver.feed([], [event("second", now + 1, 15.0, "returned", user=back)])
    driver.feed([], [event("first", now + 1, 100.0, "returned", user=keep)])  # not of the horizon
    driver.sweep(now + 60 * DAY_MS)
    answers = {r["user_id"]: r for r in driver.rows("matured_predictions")}
    assert [(answers[u]["churned"], answers[u]["spend"]) for u in (keep, undo, back)] == [
        (0, 40.0), (1, 0.0), (0, 25.0),
    ]  # fmt: skip


def test_an_alert_closes_with_the_next_order_also_after_one_was_cancelled() -> None:
    driver = Driver()
    driver.feed([], [event(f"{k}", T0 + k) for k in range(3)])
    now = T0 + 30 * DAY_MS
    driver.sweep(now)
    assert driver.column("at_risk", "u")
    driver.feed([], [event("0", now + 1, 100.0, "cancelled")])
    assert driver.column("at_risk", "u")
    driver.feed([], [event("new", now + 2)])
    assert driver.rows("alerts")[-1]["closed_why"] == "ordered"


@settings(bounded, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_records_stay_with_their_entries(seed: int) -> None:
    """While entries are dropped a few at a time, and through a checkpoint."""
    rng = random.Random(seed)
    table, want = U64Map(ORDER), dict[int, int]()
    keys = iter(range(1, 10**6))
    for _ in range(rng.randrange(1, 9)):
        new = np.array([next(keys) for _ in range(rng.choice([1, 40, 900]))], np.uint64)
        day = rng.randrange(100)
        at, _ = table.find_or_add(new, np.full(len(new), day, np.int32))
        table.before_change(at)
        table.words[at] = 0
        table.records["cents"][at] = new.astype(np.int64) * 7
        want |= dict.fromkeys(new.tolist(), day)
        if rng.random() < 0.5:
            oldest = rng.randrange(100)
            table.begin_drop(oldest)
            while table.progress:
                table.drop_some(rng.choice([3, 500]))
            want = {key: day for key, day in want.items() if day >= oldest}
        if rng.random() < 0.5:
            again = U64Map(ORDER)
            again.load(table.keys, table.values, table.progress, table.words.ravel().copy())
            table = again
        assert table.keys.tolist() == list(want)
        assert table.records["cents"].tolist() == [key * 7 for key in want]
    table.find_or_add(np.array([10**6], np.uint64), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="reshape"):
        U64Map(ORDER).load(table.keys, table.values, [], table.words.ravel()[:-1])
