"""Segments of the shop's own: who enters and leaves, when, and what a shard does with new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from schemas.definitions import MAX_SEGMENTS, Case, Definitions, SegmentDefinition
from schemas.features import FEATURE_NAMES
from schemas.messages import Erasure
from schemas.segments import RFM_CELLS
from streams.core.erasure import digest, probe_of
from streams.core.memberships import TIMER_MS
from streams.core.plan import Pending, next_plan
from streams.core.state.slots import SEGMENT_BITS, enough_room
from streams.core.state.snapshot import comparable, exported, load
from tests.core.driving import (
    T0,
    Driver,
    click,
    config,
    drawn,
    encode,
    order,
)
from tests.core.oracle import DAY_MS

HOUR_MS = 3_600_000
NOTHING = (Pending(np.empty(0, np.int64), np.empty(0, np.int64), True),) * 2


def segment(name: str, when: str, leave: str = "", hold_ms: int = 0) -> SegmentDefinition:
    return SegmentDefinition(name, when, leave, hold_ms)


def moves(driver: Driver, name: str) -> list[tuple[str, str, int]]:
    """(user, state, time) of every move in a segment."""
    return [
        (row["user_id"], row["to_segment"], row["changed_at"])
        for row in driver.rows("segment_changes")
        if row["dimension"] == name
    ]


def wall_plan(driver: Driver, wall_ms: int) -> Any:
    """What a shard would do next by a wall clock, if nothing arrives and no sweep is due."""
    meta = driver.state.meta
    meta.sweep_started_ms = wall_ms
    return next_plan(
        meta, NOTHING, clock="wall", wall_ms=wall_ms, sweep_interval_ms=10**12, max_records=10,
        users=driver.state.sweep_places,
    )  # fmt: skip


# -- time


@pytest.mark.parametrize("limit", ["30d", "29d23h59m59s", "1h"])
@pytest.mark.parametrize("sign", [">", ">="])
def test_a_silent_customer_enters_within_two_seconds_of_the_limit(limit: str, sign: str) -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0), order("v", T0 + 500)])
    driver.define(segment("quiet", f"days_since_order {sign} {limit}"), clock_ms=T0 + 1_000)
    length_ms = {"30d": 30 * DAY_MS, "29d23h59m59s": 30 * DAY_MS - 1_000, "1h": HOUR_MS}[limit]
    assert wall_plan(driver, T0 + length_ms - 1) is None
    now_ms = T0 + length_ms
    while len(moves(driver, "quiet")) < 2:
        plan = wall_plan(driver, now_ms)
        if plan is not None:
            assert plan.wake_rows
            driver.wake(now_ms)
        now_ms += 250
        assert now_ms < T0 + length_ms + 4_000
    for user, state, at_ms in moves(driver, "quiet"):
        began_ms = T0 + length_ms + (500 if user == "v" else 0)
        assert state == "in"
        assert began_ms <= at_ms < began_ms + 2 * TIMER_MS
    assert wall_plan(driver, now_ms + 10_000) is None  # and nobody is woken for nothing


def test_a_lapse_needs_no_sweep() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.sweep(T0 + 1)
    driver.wake(T0 + 90 * DAY_MS - 1)
    assert driver.column("lifecycle", "u") == 1
    driver.wake(T0 + 90 * DAY_MS + TIMER_MS)
    assert driver.column("lifecycle", "u") == 4
    assert driver.rows("segment_changes")[-1]["why"] == "no order for 90 days"


def test_tiers_and_stages_are_the_shops_own() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0), order("v", T0, 900.0)])
    lifecycle = (
        Case("visitor", "orders == 0"), Case("lapsed", "order_age >= 10d"), Case("active", "true"),
    )  # fmt: skip
    tiers = (Case("high", "lifetime_revenue >= 500 USD"), Case("none", "true"))
    driver.define(
        clock_ms=T0 + 2, lifecycle=lifecycle, value_tier=tiers, lapsed_after_ms=10 * DAY_MS
    )
    assert [driver.column("value_tier", user) for user in "uv"] == [0, 3]
    driver.wake(T0 + 10 * DAY_MS + TIMER_MS)
    assert [driver.column("lifecycle", user) for user in "uv"] == [4, 4]
    assert driver.rows("segment_changes")[-1]["why"] == "no order for 10 days"


def test_more_due_users_than_a_step_may_wake_are_woken_by_the_next_ones() -> None:
    driver = Driver(config())
    driver.feed([], [order(f"u{i}", T0) for i in range(25)])
    driver.define(segment("quiet", "days_since_order > 2d"), clock_ms=T0 + 1)
    now_ms = T0 + 2 * DAY_MS + TIMER_MS
    for done in (10, 20, 25):
        assert wall_plan(driver, now_ms) is not None
        driver.feed(clock_ms=now_ms, wake_rows=10)
        assert len(moves(driver, "quiet")) == done
    assert wall_plan(driver, now_ms) is None


# -- entering and leaving


def test_hysteresis_keeps_a_member_between_the_limits() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.define(
        segment("leaving", "p_churn > 50%", leave="p_churn < 20%"), clock_ms=T0 + 40 * DAY_MS
    )
    assert [m[:2] for m in moves(driver, "leaving")] == [("u", "in")]
    # a view lowers the fake score by 10 %
    late_ms = T0 + 40 * DAY_MS + 1_000
    driver.feed([click("u", late_ms + i) for i in range(3)])
    assert 0.2 < driver.column("p_churn", "u") < 0.5
    assert len(moves(driver, "leaving")) == 1
    driver.feed([click("u", late_ms + 10 + i) for i in range(3)])
    assert [m[:2] for m in moves(driver, "leaving")] == [("u", "in"), ("u", "out")]


def test_an_unknown_condition_lets_nobody_in_and_members_out() -> None:
    driver = Driver(config())
    driver.feed([click("visitor", T0)], [order("u", T0)])
    driver.define(
        segment("recent", "days_since_order < 5d"),
        segment("others", "not (days_since_order < 5d)"),
        clock_ms=T0 + 1,
    )
    assert {m[0] for m in moves(driver, "recent")} == {"u"}
    assert not moves(driver, "others")  # a visitor is neither


def test_a_condition_must_hold_for_as_long_as_it_says() -> None:
    driver = Driver(config())
    driver.feed([click("u", T0)])
    driver.define(segment("busy", "view_1h >= 2", hold_ms=600_000), clock_ms=T0 + 1)
    driver.feed([click("u", T0 + 1_500)])
    began_ms = T0 + 2_000  # a second's part counts as a whole one
    driver.wake(began_ms + 599_999)
    assert not moves(driver, "busy")
    driver.wake(began_ms + 600_000)
    assert moves(driver, "busy") == [("u", "in", began_ms + 600_000)]
    assert (
        not driver.state.holds.kept.sum()
        or (driver.state.holds.values == np.iinfo(np.int32).min).all()
    )


def test_a_break_begins_the_wait_again() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.define(segment("calm", "view_1h == 0", hold_ms=7_200_000), clock_ms=T0 + 1_000)
    driver.feed([click("u", T0 + HOUR_MS)])  # breaks it, for an hour
    driver.sweep(T0 + 2 * HOUR_MS + 300_000)  # the click's tile has left the window
    driver.wake(T0 + 2 * HOUR_MS + 300_000 + 2 * HOUR_MS - 1)
    assert not moves(driver, "calm")
    driver.wake(T0 + 2 * HOUR_MS + 300_000 + 2 * HOUR_MS)
    assert [m[:2] for m in moves(driver, "calm")] == [("u", "in")]


def test_whoever_comes_back_after_an_erasure_waits_from_the_start() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.define(segment("buyers", "orders > 0", hold_ms=HOUR_MS), clock_ms=T0 + 1_000)
    digest_, salt = digest(b"salt", "u"), b"salt"
    person = Erasure("e1", digest_, salt, probe_of(salt, "u"), 3, T0 + 2_000, (0, 0), T0 + 2_000)
    driver.feed(clock_ms=T0 + 2_000, erase=(person,))
    driver.feed([], [order("u", T0 + 1_800_000)], clock_ms=T0 + 1_800_000)
    driver.wake(T0 + 1_000 + HOUR_MS)
    assert not moves(driver, "buyers")
    driver.wake(T0 + 1_800_000 + HOUR_MS)
    assert [m[:2] for m in moves(driver, "buyers")] == [("u", "in")]


def test_a_segment_may_name_others_in_any_order() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0), order("v", T0, 500.0)])
    driver.define(
        segment("both", "segment.rich and segment.new"),
        segment("rich", "lifetime_revenue > 100 USD"),
        segment("new", "orders == 1"),
        clock_ms=T0 + 1,
    )
    assert {m[0] for m in moves(driver, "both")} == {"v"}
    driver.feed([], [order("v", T0 + 2)])
    assert [m[:2] for m in moves(driver, "both")] == [("v", "in"), ("v", "out")]


# -- new definitions


def test_members_leave_a_segment_that_ends_and_its_bit_is_free_after_a_sweep() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.define(segment("a", "orders > 0"), segment("b", "orders > 0"), clock_ms=T0 + 1)
    driver.define(segment("b", "orders > 0"), segment("c", "orders > 5"), clock_ms=T0 + 2)
    assert [m[:2] for m in moves(driver, "a")] == [("u", "in"), ("u", "out")]
    assert [m[:2] for m in moves(driver, "b")] == [("u", "in")]  # went on, whatever its place
    assert driver.rows("segment_changes")[-1]["why"] == "the segment is not defined any more"
    slots = driver.state.meta.segment_slots
    assert [slot.name if slot else None for slot in slots] == [None, "b", "c"]
    driver.define(segment("d", "orders > 0"), segment("b", "orders > 0"), clock_ms=T0 + 3)
    assert driver.column("segments", "u") == 0b011
    assert [m[:2] for m in moves(driver, "d")] == [("u", "in")]


def test_a_segment_that_comes_back_before_the_sweep_keeps_its_members() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    driver.define(segment("a", "orders > 0"), clock_ms=T0 + 1)
    gone = Definitions(2, "v2", (segment("b", "orders > 0"),))
    driver.feed(clock_ms=T0 + 2, definitions=gone)
    driver.define(segment("a", "orders > 0"), segment("b", "orders > 0"), clock_ms=T0 + 3)
    assert [m[:2] for m in moves(driver, "a")] == [("u", "in")]


def test_another_whole_file_fits_at_once_and_a_third_waits_for_the_sweep() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])

    def file(number: int) -> Definitions:
        names = [f"s{number}_{i}" for i in range(MAX_SEGMENTS)]
        return Definitions(number, f"v{number}", tuple(segment(n, "orders > 0") for n in names))

    for number in (1, 2):
        assert enough_room(driver.state.meta.segment_slots, [], file(number))
        driver.feed(clock_ms=T0 + number, definitions=file(number))
    assert len(driver.state.meta.segment_slots) == SEGMENT_BITS
    assert not enough_room(driver.state.meta.segment_slots, [], file(3))
    meta = driver.state.meta
    plan = next_plan(
        meta, NOTHING, clock="wall", wall_ms=T0 + 3, sweep_interval_ms=DAY_MS, max_records=10,
        users=driver.state.sweep_places, definitions=file(3),
    )  # fmt: skip
    assert plan is not None
    assert plan.definitions is None
    assert plan.sweep_rows  # what they wait for
    driver.sweep(T0 + 4)
    assert enough_room(driver.state.meta.segment_slots, [], file(3))
    assert driver.column("segments", "u") == (2**64 - 2**32)


def test_newer_definitions_get_a_step_of_their_own_and_older_ones_none() -> None:
    driver = Driver(config())
    driver.feed([], [order("u", T0)])
    new = Definitions(1, "v1", (segment("a", "orders > 0"),))

    def planned(definitions: Definitions | None) -> Any:
        return next_plan(
            driver.state.meta, NOTHING, clock="event", wall_ms=0, sweep_interval_ms=DAY_MS,
            max_records=10, users=driver.state.sweep_places, definitions=definitions,
        )  # fmt: skip

    assert planned(None) is None
    plan = planned(new)
    assert plan.definitions == new
    driver.feed(definitions=new)
    assert planned(new) is None
    assert planned(Definitions(0, "v0")) is None
    sweep = next_plan(
        driver.state.meta,
        (Pending(np.array([1]), np.array([T0 + 5]), True), NOTHING[1]),
        clock="event", wall_ms=0, sweep_interval_ms=DAY_MS, max_records=10,
        users=driver.state.sweep_places, definitions=new,
    )  # fmt: skip
    assert sweep is not None
    assert sweep.sweep_rows == 1  # at once, before the next record


# -- ranks


def test_ranks_are_those_among_live_customers_of_the_last_sweep() -> None:
    driver = Driver(config())
    days = range(20)
    driver.feed([], [o for i in days for o in (order(f"u{i:02}", T0 + j) for j in range(i + 1))])
    driver.feed([click("visitor", T0)])
    rule = segment("loyal", "rank(orders) >= 80%")
    driver.define(rule, clock_ms=T0 + 100)
    assert not moves(driver, "loyal")  # nothing has been counted yet
    driver.sweep(T0 + 200)
    found = {m[0] for m in moves(driver, "loyal")}
    assert found == {f"u{i:02}" for i in range(16, 20)}
    driver.sweep(T0 + 300)
    assert {m[0] for m in moves(driver, "loyal")} == found


def test_rfm_cells_are_fifths_of_recency_frequency_and_value() -> None:
    driver = Driver(config())
    people = [f"u{i:02}" for i in range(25)]
    for i, user in enumerate(people):  # the later, the more often, and for less
        times = [T0 + i * HOUR_MS - n * 60_000 for n in range(i + 1)]
        driver.feed([], [order(user, at_ms, 1000.0 / (i + 1) ** 2) for at_ms in times])
    driver.feed([click("visitor", T0)])
    driver.define(segment("best", 'rfm == "R5F5M1"'), clock_ms=T0 + DAY_MS, rfm=True)
    assert not moves(driver, "rfm")  # nothing was counted yet
    driver.sweep(T0 + DAY_MS + 1)
    cells = {user: RFM_CELLS[driver.column("rfm", user)] for user in people}
    assert cells == {
        user: f"R{i // 5 + 1}F{i // 5 + 1}M{5 - i // 5}" for i, user in enumerate(people)
    }
    assert driver.column("rfm", "visitor") == 0
    assert {m[0] for m in moves(driver, "best")} == set(people[20:])
    row = [r for r in driver.rows("segment_changes") if r["dimension"] == "rfm"][-1]
    assert (row["from_segment"], row["why"]) == ("none", "ranks among live customers moved")
    driver.define(clock_ms=T0 + DAY_MS + 2)
    assert not driver.state.columns.rfm[: driver.state.n].any()
    assert {m[1] for m in moves(driver, "rfm")[-25:]} == {"none"}


# -- replay


CONDITIONS = (
    "p_churn > 30%", "days_since_order > 12h", "view_24h >= 2 and orders > 0", "orders == 0",
    "rank(orders) > 50%", "value_tier == \"high\"", "segment.s0", "days_since_view < 6h",
    "alert_open", "time_to_next_order < 3d", 'rfm in ("R5F5M5", "R1F1M1")',
)  # fmt: skip


def some_definitions(rng: np.random.Generator, number: int) -> Definitions:
    segments: list[SegmentDefinition] = []
    for i in rng.permutation(5)[: rng.integers(1, 5)].tolist():
        when = CONDITIONS[rng.integers(len(CONDITIONS))]
        if when == "segment.s0" and (i == 0 or not any(s.name == "s0" for s in segments)):
            when = "orders > 1"
        hold_ms = int(rng.choice([0, 0, HOUR_MS, 30 * HOUR_MS]))
        leave = str(rng.choice(["", "orders > 3"]))
        segments.append(segment(f"s{i}", when, leave, hold_ms))
    return Definitions(number, f"v{number}", tuple(segments), rfm=bool(rng.random() < 0.5))


@drawn(8, 25, seed=st.integers(0, 2**32))
def test_a_checkpoint_anywhere_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(6, 30))
    cut = int(rng.integers(1, steps))
    kept, other = Driver(config()), Driver(config())
    now_ms = T0
    for i in range(steps):
        now_ms += int(rng.choice([0, 1_000, HOUR_MS, DAY_MS, 40 * DAY_MS]))
        users = [f"u{n}" for n in rng.integers(0, 12, rng.integers(0, 6)).tolist()]
        clicks = [click(user, now_ms + n) for n, user in enumerate(users)]
        orders = [order(user, now_ms, float(rng.integers(1, 500))) for user in users[:2]]
        plan: dict[str, Any] = {
            "clock_ms": now_ms,
            "sweep_rows": int(rng.choice([0, 0, 4, 100])),
            "wake_rows": int(rng.choice([0, 3, 100])),
            "definitions": some_definitions(rng, i + 1) if rng.random() < 0.2 else None,
        }
        outputs = [driver.feed(clicks, orders, **plan) for driver in (kept, other)]
        assert encode(outputs[0]) == encode(outputs[1])
        if i == cut:
            other.state = load(*exported(other.state), len(FEATURE_NAMES))
    one, two = comparable(kept.state), comparable(other.state)
    assert one[0] == two[0]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, two[1][name], err_msg=name)


@drawn(8, 25, seed=st.integers(0, 2**32))
def test_memberships_are_what_the_moves_say(seed: int) -> None:
    """Whatever happens: nobody enters twice, and who is in by the moves is in by the state."""
    rng = np.random.default_rng(seed)
    driver, now_ms = Driver(config()), T0
    for i in range(20):
        now_ms += int(rng.choice([1_000, HOUR_MS, DAY_MS]))
        users = [f"u{n}" for n in rng.integers(0, 8, 4).tolist()]
        new = some_definitions(rng, i + 1) if rng.random() < 0.2 else None
        driver.feed(
            [click(user, now_ms) for user in users],
            [order(user, now_ms) for user in users[:1]],
            clock_ms=now_ms,
            sweep_rows=int(rng.choice([0, 100])),
            wake_rows=50,
            definitions=new,
        )
    inside: dict[str, set[str]] = {}
    for row in driver.rows("segment_changes"):
        if row["dimension"] in ("value_tier", "lifecycle", "rfm"):
            continue
        members = inside.setdefault(row["dimension"], set())
        entered = row["to_segment"] == "in"
        assert (row["user_id"] in members) != entered
        (members.add if entered else members.remove)(row["user_id"])
    for bit, slot in enumerate(driver.state.meta.segment_slots):
        if slot is None:
            continue
        users = [f"u{n}" for n in range(8) if driver.state.knows(f"u{n}")]
        by_state = {u for u in users if int(driver.column("segments", u)) >> bit & 1}
        assert by_state == inside.get(slot.name, set())
