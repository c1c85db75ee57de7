"""Who gets an alert by the owners' rules: thresholds, a budget a day, quiet hours, suppression."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import AlertRules, Audience, ContactCap, Definitions, SegmentDefinition
from schemas.features import FEATURE_NAMES
from schemas.zones import offset_minutes, utc_offsets
from streams.core.budget import begin_day, choose, learn_first_floor, share_of_day
from streams.core.local_time import day_ends_ms, local_day, quiet_until_ms
from streams.core.partitioning import Partitioner
from streams.core.state.ranks import RANK_BINS, bin_edge, rank_bin
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import comparable, exported, load
from streams.core.state.split import split
from streams.core.texts import Texts
from tests.core.driving import HOUR_MS, T0, Driver, bounded, click, config, drawn, encode, order
from tests.core.oracle import DAY_MS

MINUTE_MS = 60_000
NIGHT = (21 * 60, 8 * 60)
BERLIN = utc_offsets("Europe/Berlin", T0, T0 + 400 * DAY_MS)
SILENT_DAYS = 31  # from then on p is above a half


def shop(rules: AlertRules, users: int = 40, **more: Any) -> Driver:
    """So many customers whose orders are worth 10, 20, 30 and so on, one order a day apart, who
    are silent for a month by now: u0 has the least at stake."""
    driver = Driver(config(alert_cooldown_ms=DAY_MS, lateness_ms=90 * DAY_MS))
    for day in range(2):
        driver.feed([], [order(f"u{i}", T0 + day * DAY_MS, 10.0 * (i + 1)) for i in range(users)])
    driver.define(clock_ms=T0 + SILENT_DAYS * DAY_MS, alerts=rules, **more)
    return driver


def opened(driver: Driver) -> list[dict[str, Any]]:
    return [row for row in driver.rows("alerts") if row["version"] == 1]


def by_day(driver: Driver, rules: AlertRules) -> Counter[int]:
    return Counter(local_day(rules, int(row["raised_at"])) for row in opened(driver))


# -- thresholds


def test_thresholds_and_cooldown_of_the_file_win_over_the_settings() -> None:
    driver = shop(AlertRules(enter=0.6, leave=0.55, cooldown_ms=0), users=1)
    driver.sweep(T0 + 35 * DAY_MS)
    assert not opened(driver)  # p is 34 days / 60
    driver.sweep(T0 + 38 * DAY_MS)
    assert len(opened(driver)) == 1
    now_ms = T0 + 38 * DAY_MS + HOUR_MS
    driver.feed([click("u0", now_ms)])  # a view lowers p by a tenth, below leave
    assert driver.rows("alerts")[-1]["closed_why"] == "score_fell"
    driver.sweep(T0 + 40 * DAY_MS)  # without a cooldown
    assert len(opened(driver)) == 2


def test_leave_of_the_settings_is_never_above_enter_of_the_file() -> None:
    driver = Driver(config())
    for day in range(2):
        driver.feed([], [order("u", T0 + day * DAY_MS)])
    now_ms = T0 + 14 * DAY_MS  # p is 13 days / 60: below `leave` of the settings
    driver.define(clock_ms=now_ms, alerts=AlertRules(enter=0.2))
    driver.sweep(now_ms + 1)
    assert [row["state"] for row in driver.rows("alerts")] == ["open"]


# -- the budget


@given(per_day=st.integers(1, 300), partitions=st.integers(1, 64), day=st.integers(0, 40_000))
@settings(bounded, max_examples=200)
def test_shares_of_all_shards_add_up_on_every_day(per_day: int, partitions: int, day: int) -> None:
    shares = [share_of_day(per_day, partitions, shard, day) for shard in range(partitions)]
    assert sum(shares) == per_day
    assert max(shares) - min(shares) <= 1


def test_few_alerts_reach_every_one_of_many_shards() -> None:
    for shard in range(12):
        assert sum(share_of_day(1, 12, shard, day) for day in range(12)) == 1


def test_nobody_is_alerted_before_a_sweep_has_seen_everybody_then_the_most_valuable_are() -> None:
    driver = shop(AlertRules(per_day=4))
    assert not opened(driver)
    driver.sweep(T0 + SILENT_DAYS * DAY_MS + 1)
    assert {row["user_id"] for row in opened(driver)} == {"u36", "u37", "u38", "u39"}
    assert min(row["priority"] for row in opened(driver)) > 300


def test_users_passed_over_open_as_soon_as_there_is_room() -> None:
    driver = shop(AlertRules(per_day=4))
    for day in range(SILENT_DAYS, SILENT_DAYS + 10):
        for hour in (1, 9, 17):
            driver.sweep(T0 + day * DAY_MS + hour * HOUR_MS)
    order_of = [int(row["user_id"][1:]) for row in opened(driver)]
    assert len(order_of) == 40
    assert max(Counter(by_day(driver, AlertRules())).values()) == 4
    firsts = [sorted(order_of[i : i + 4]) for i in range(0, 40, 4)]
    assert firsts == sorted(firsts, reverse=True)  # the most valuable ones first
    rows = driver.rows("alert_budget")
    assert [row["opened"] for row in rows] == [4] * 9
    assert [row["candidates"] for row in rows] == [40 - 4 * day for day in range(9)]
    assert rows[0]["floor"] > rows[-1]["floor"] > 0
    assert {row["per_day"] for row in rows} == {4}


def test_over_the_budget_is_counted_once_a_day_and_looked_at_when_the_next_begins() -> None:
    driver = shop(AlertRules(per_day=4))
    now_ms = T0 + SILENT_DAYS * DAY_MS + HOUR_MS
    driver.sweep(now_ms)
    rich = [f"rich{i}" for i in range(3)]  # their orders come late, and are worth the most
    orders = [order(u, T0 + day * DAY_MS, 9_000.0) for u in rich for day in (0, 1)]
    assert driver.feed([], orders, clock_ms=now_ms + 1).over_budget == 3
    assert driver.sweep(now_ms + 2).over_budget == 0  # the same three
    assert len(opened(driver)) == 4
    woken = driver.wake(T0 + (SILENT_DAYS + 1) * DAY_MS)
    assert {a.user_id for a in woken.alerts} == set(rich)
    assert driver.rows("alert_budget")[0]["over_budget"] == 3


def rows_with_values(users: int) -> ShardState:
    state = ShardState(0, len(FEATURE_NAMES))
    state.rows_of(Texts.of([f"u{i}" for i in range(users)]))
    return state


def test_the_most_valuable_find_room_if_more_are_above_the_floor() -> None:
    state, rules = rows_with_values(6), AlertRules(per_day=2)
    begin_day(state, rules, T0)
    learn_first_floor(state)
    value = np.array([3.0, 9.0, 1.0, 8.0, 9.5, 2.0])
    found = choose(state, np.arange(6), value, quiet=False)
    assert found.worth.all()
    assert np.flatnonzero(found.room).tolist() == [1, 4]
    assert found.over == 4
    again = choose(state, np.array([0, 2, 3, 5]), value[[0, 2, 3, 5]], quiet=False)
    assert not again.room.any()
    assert again.over == 0


def test_the_floor_is_what_a_day_of_those_who_wait_and_come_is_not_below() -> None:
    state, rules = rows_with_values(20), AlertRules(per_day=4)
    begin_day(state, rules, T0)
    learn_first_floor(state)
    budget = state.meta.budget
    assert budget is not None

    def of(*values: float) -> np.ndarray[Any, Any]:
        return np.bincount(rank_bin(np.array(values)), minlength=RANK_BINS)

    def next_day(day: int, waiting: tuple[float, ...], arrived: tuple[float, ...]) -> float:
        state.candidates.waiting, state.candidates.arrived = of(*waiting), of(*arrived)
        begin_day(state, rules, T0 + day * DAY_MS)
        assert not state.candidates.waiting.any()
        return bin_edge(budget.floor_bin)

    def edge(value: float) -> float:
        return bin_edge(int(rank_bin(np.array([value]))[0]))

    assert next_day(1, (8, 6, 5, 4, 3), ()) == edge(4)
    assert budget.days == 0.0  # who came on the first day is not known
    assert next_day(2, (), (90, 80, 70, 60)) == edge(60)
    assert budget.days == 1.0
    # two thirds of (90, 80, 70, 60) / 2 and of (90, 90, 90, 90, 50) come on a usual day
    assert next_day(3, (10,), (90, 90, 90, 90, 50)) == edge(60)
    assert budget.days == 1.5
    assert next_day(4, (7,), ()) == 0.0  # fewer than 4 wait or come: whoever there is
    assert next_day(5, (7, 7, 7, 7), ()) == edge(7)


def test_of_those_who_come_every_day_the_most_valuable_get_the_alerts() -> None:
    rng, per_day = np.random.default_rng(5), 5
    state, rules = rows_with_values(1_500), AlertRules(per_day=per_day)
    worth, opened_on, alerted = rng.uniform(1, 1_000, 1_500), Counter[int](), list[float]()
    begin_day(state, rules, T0 - DAY_MS)
    learn_first_floor(state)
    for hour in range(24 * 30):
        begin_day(state, rules, T0 + hour * HOUR_MS)
        rows = np.arange(2 * hour, 2 * hour + 2)  # 48 a day; all are seen once
        found = choose(state, rows, worth[rows], quiet=False)
        opened_on[hour // 24] += int(found.room.sum())
        if hour >= 10 * 24:
            alerted += worth[rows[found.room]].tolist()
    assert max(opened_on.values()) <= per_day
    assert len(alerted) > 0.8 * 20 * per_day
    assert np.quantile(alerted, 0.1) > 800  # 5 of 48 a day are above 896


def test_budget_that_is_switched_off_opens_all_and_on_again_keeps_the_days_account() -> None:
    driver = shop(AlertRules(per_day=4))
    now_ms = T0 + SILENT_DAYS * DAY_MS + HOUR_MS
    driver.sweep(now_ms)
    driver.define(clock_ms=now_ms + 1, alerts=AlertRules(per_day=4, enter=0.99))
    driver.define(clock_ms=now_ms + 2, alerts=AlertRules(enter=0.99))
    driver.define(clock_ms=now_ms + 3, alerts=AlertRules(per_day=4))
    driver.sweep(now_ms + 4)
    assert len(opened(driver)) == 4
    driver.define(clock_ms=now_ms + 5)
    assert len(opened(driver)) == 40


def test_higher_budget_opens_more_on_the_same_day_and_a_lower_one_no_more() -> None:
    driver = shop(AlertRules(per_day=4))
    now_ms = T0 + SILENT_DAYS * DAY_MS + HOUR_MS
    driver.sweep(now_ms)
    driver.define(clock_ms=now_ms + 1, alerts=AlertRules(per_day=2))
    driver.sweep(now_ms + 2)
    assert len(opened(driver)) == 4
    driver.define(clock_ms=now_ms + 3, alerts=AlertRules(per_day=400))
    driver.sweep(now_ms + 4)
    assert len(opened(driver)) == 4  # below yesterday's floor
    driver.sweep(now_ms + DAY_MS)
    driver.sweep(now_ms + DAY_MS + 1)
    assert len(opened(driver)) == 40


@pytest.mark.parametrize("opened_before", [True, False])
def test_successors_divide_what_is_left_of_the_day(opened_before: bool) -> None:
    one, four = Partitioner("murmur2", 1), Partitioner("murmur2", 4)
    parent = Driver(config(partitioner=one), state=ShardState(0, len(FEATURE_NAMES)))
    users = [f"u{i}" for i in range(60)]
    for day in range(2):
        parent.feed([], [order(u, T0 + day * DAY_MS, 50.0) for u in users])
    now_ms = T0 + SILENT_DAYS * DAY_MS
    parent.define(clock_ms=now_ms, alerts=AlertRules(per_day=10))
    if opened_before:
        woken = [f"u{i}" for i in range(3)]
        parent.feed([click(u, now_ms + 1, "search") for u in woken])
    before = len(opened(parent))
    assert before == (3 if opened_before else 0)
    total, told = before, 0
    for shard in range(4):
        state = split(parent.state, shard, four, (0, 0))
        child = Driver(config(partitioner=four), state=state)
        child.sweep(now_ms + HOUR_MS)
        child.sweep(now_ms + 2 * HOUR_MS)
        total += len(opened(child))
        child.sweep(now_ms + DAY_MS)
        told += sum(row["opened"] for row in child.rows("alert_budget"))
    assert total == 10
    assert told == 10  # by the rows, too


# -- quiet hours


def test_local_days_and_quiet_hours_follow_the_clocks() -> None:
    rules = AlertRules(quiet=NIGHT, utc_offsets=BERLIN)
    assert [minutes for _, minutes in BERLIN[:3]] == [120, 60, 120]
    for since_ms, minutes in BERLIN[1:]:  # the night in which clocks change
        evening = since_ms - 4 * HOUR_MS
        end_ms = quiet_until_ms(rules, evening)
        assert (end_ms + minutes * MINUTE_MS) % DAY_MS == 8 * HOUR_MS
        assert quiet_until_ms(rules, end_ms) == 0
        assert quiet_until_ms(rules, end_ms - 1) == end_ms
        midnight = day_ends_ms(rules, end_ms)
        assert local_day(rules, midnight) == local_day(rules, midnight - 1) + 1


@given(seed=st.integers(0, 2**32))
@settings(bounded, max_examples=100)
def test_quiet_hours_end_where_it_is_not_quiet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, end = rng.choice(1_440, 2, replace=False).tolist()
    rules = AlertRules(quiet=(start, end), utc_offsets=BERLIN)
    now_ms = T0 + int(rng.integers(400 * DAY_MS))
    if rng.random() < 0.3:  # near a change of clocks
        now_ms = BERLIN[1][0] + int(rng.integers(-4 * HOUR_MS, 4 * HOUR_MS))
    local = (now_ms // MINUTE_MS + offset_minutes(BERLIN, now_ms)) % 1_440
    inside = start <= local < end if start < end else local >= start or local < end
    until_ms = quiet_until_ms(rules, now_ms)
    assert (until_ms > 0) == inside
    for _ in range(3):  # set back, the hours come twice
        if until_ms:
            assert now_ms < until_ms <= now_ms + 26 * HOUR_MS
            until_ms = quiet_until_ms(rules, until_ms)
    assert until_ms == 0


def test_an_alert_of_the_night_opens_in_the_morning_once() -> None:
    driver = shop(AlertRules(quiet=NIGHT), users=3)  # at midnight UTC
    assert not opened(driver)
    assert driver.outputs[-1].postponed == 3
    morning = T0 + SILENT_DAYS * DAY_MS + 8 * HOUR_MS
    driver.wake(morning - 1_000)
    assert not opened(driver)
    driver.wake(morning)
    assert {row["raised_at"] for row in opened(driver)} == {morning}
    driver.wake(morning + 1_000)
    driver.sweep(morning + 2_000)
    assert len(opened(driver)) == 3


def test_who_came_back_in_the_night_gets_none_in_the_morning() -> None:
    driver = shop(AlertRules(quiet=NIGHT), users=2)
    night = T0 + SILENT_DAYS * DAY_MS + HOUR_MS
    driver.feed([], [order("u0", night)])
    driver.wake(night + 7 * HOUR_MS)
    assert [row["user_id"] for row in opened(driver)] == ["u1"]


# -- suppression and zones


COMPLAINED = SegmentDefinition("complained", "support_24h > 0")


def test_who_is_suppressed_has_no_alert_and_one_that_is_open_closes_within_a_second() -> None:
    driver = Driver(config(alert_cooldown_ms=0))
    for day in range(2):
        driver.feed([], [order(u, T0 + day * DAY_MS) for u in ("a", "b")])
    now_ms = T0 + SILENT_DAYS * DAY_MS
    spring = Audience("spring", "alerts", "s/1")
    driver.define(COMPLAINED, clock_ms=now_ms, suppress="segment.complained", audiences=(spring,))
    assert {m.user_id for out in driver.outputs for m in out.audiences} == {"a", "b"}
    driver.feed([click("a", now_ms + 1, "support")])
    assert driver.outputs[-1].audiences[0].change == "left"  # at once
    driver.wake(now_ms + 2_000)
    closed = [row for row in driver.rows("alerts") if row["version"] == 2]
    assert [(row["user_id"], row["closed_why"]) for row in closed] == [("a", "suppressed")]
    driver.sweep(now_ms + HOUR_MS)
    assert len(opened(driver)) == 2
    driver.sweep(now_ms + 2 * DAY_MS)  # out of the segment, after alerts were decided
    driver.wake(now_ms + 2 * DAY_MS + 1_000)
    assert [row["user_id"] for row in opened(driver)].count("a") == 2


# -- whatever comes


def some_rules(rng: np.random.Generator, number: int) -> Definitions:
    quiet = None if rng.random() < 0.5 else (int(rng.integers(720)), int(rng.integers(720, 1_440)))
    rules = AlertRules(
        enter=None if rng.random() < 0.5 else 0.4,
        cooldown_ms=None if rng.random() < 0.5 else DAY_MS,
        per_day=int(rng.choice([0, 1, 3, 8])),
        quiet=quiet,
        utc_offsets=() if rng.random() < 0.5 else BERLIN,
    )
    return Definitions(
        number, f"v{number}", (COMPLAINED,), alerts=rules,
        caps=None if rng.random() < 0.5 else ContactCap(int(rng.integers(1, 4)), 7 * DAY_MS),
        suppress="" if rng.random() < 0.5 else "segment.complained",
        audiences=(Audience("buyers", "complained", "b/1"), Audience("alerted", "alerts", "a/1")),
    )  # fmt: skip


def contacted(user: str, ts: int, **fields: Any) -> dict[str, Any]:
    return click(user, ts, "contacted", **fields)


def random_step(rng: np.random.Generator, i: int, now_ms: int) -> dict[str, Any]:
    users = [f"u{n}" for n in rng.integers(0, 25, rng.integers(0, 6)).tolist()]
    clicks = [click(u, now_ms + n, str(rng.choice(["view", "support"])))
              for n, u in enumerate(users[:2]) if rng.random() < 0.3]  # fmt: skip
    return {
        "clicks": clicks + [contacted(u, now_ms - n) for n, u in enumerate(users[2:4])],
        "orders": [order(u, now_ms, float(rng.integers(1, 900))) for u in users[4:]],
        "clock_ms": now_ms,
        "sweep_rows": int(rng.choice([0, 7, 100])),
        "wake_rows": int(rng.choice([0, 3, 100])),
        "definitions": some_rules(rng, i + 1) if rng.random() < 0.06 else None,
    }


def begin(driver: Driver) -> None:
    for day in range(2):
        orders = [
            order(f"u{i}", T0 + day * DAY_MS, 10.0 * (i + 1), event_id=f"o{day}-{i}",
                  order_id=f"{day}-{i}")
            for i in range(20)
        ]  # fmt: skip
        driver.feed([], orders)


def check_step(driver: Driver, opened_on: Counter[int], most: dict[int, int]) -> None:
    """What must hold for the newest step."""
    definitions, now_ms = driver.state.meta.definitions, driver.state.meta.clock_ms
    if definitions is None:
        return
    rules, outputs = definitions.alerts, driver.outputs[-1]
    new = [alert for alert in outputs.alerts if alert.state == "open"]
    assert not (new and quiet_until_ms(rules, now_ms))
    day = driver.state.meta.budget.day if driver.state.meta.budget is not None else 0
    if rules.per_day:
        most[day] = max(most.get(day, 0), rules.per_day)
        opened_on[day] += len(new)
        assert opened_on[day] <= most[day]
    state, cap = driver.state, definitions.caps
    for alert in new:
        row = state.rows_by_user[alert.user_id]
        if cap is not None:
            times = [t for t in TIMES[alert.user_id] if t > now_ms - cap.per_ms]
            if len(times) >= cap.contacts:
                assert alert.action == "nothing"
                assert not rules.per_day
        assert state.columns.at_risk[row]
    for message in outputs.audiences:
        if message.change == "entered":
            if cap is not None:
                times = [t for t in TIMES[message.user_id] if t > now_ms - cap.per_ms]
                assert len(times) < cap.contacts
            if definitions.suppress:
                row = state.rows_by_user[message.user_id]
                assert not int(state.columns.segments[row]) & 1


TIMES: dict[str, list[int]] = {}


@drawn(6, 20, seed=st.integers(0, 2**32))
def test_budget_quiet_hours_caps_and_suppression_hold_whatever_comes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    driver, now_ms = Driver(config(alert_cooldown_ms=DAY_MS)), T0 + 25 * DAY_MS
    begin(driver)
    TIMES.clear()
    TIMES.update({f"u{i}": [] for i in range(25)})
    opened_on, most = Counter[int](), dict[int, int]()
    for i in range(60):
        now_ms += int(rng.choice([1_000, HOUR_MS, 5 * HOUR_MS, DAY_MS]))
        taken = random_step(rng, i, now_ms)
        if i == 0:
            taken["definitions"] = some_rules(rng, 1)
        for each in taken["clicks"]:
            if each["type"] == "contacted":
                TIMES[each["user_id"]].append(each["ts"])
        driver.feed(taken.pop("clicks"), taken.pop("orders"), **taken)
        check_step(driver, opened_on, most)
        counts = driver.outputs[-1].counts
        assert counts.accepted == (
            counts.scored + counts.duplicates + counts.late + counts.dead_letters + counts.erased
        )


@drawn(3, 10, seed=st.integers(0, 2**32))
def test_a_checkpoint_anywhere_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept, other = (Driver(config(alert_cooldown_ms=DAY_MS)) for _ in range(2))
    for driver in (kept, other):
        begin(driver)
    now_ms, cut = T0 + 25 * DAY_MS, int(rng.integers(0, 40))
    for i in range(40):
        now_ms += int(rng.choice([1_000, HOUR_MS, 5 * HOUR_MS, DAY_MS]))
        taken = random_step(rng, i, now_ms)
        clicks, orders = taken.pop("clicks"), taken.pop("orders")
        outputs = [driver.feed(clicks, orders, **taken) for driver in (kept, other)]
        assert encode(outputs[0]) == encode(outputs[1])
        if i == cut:
            other.state = load(*exported(other.state), len(FEATURE_NAMES))
    one, two = comparable(kept.state), comparable(other.state)
    assert one[0] == two[0]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, two[1][name], err_msg=name)


def test_definitions_without_such_rules_are_read_from_those_of_before() -> None:
    old = {"number": 1, "version": "v1", "policy": [{"when": "true", "action": "call"}]}
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=Definitions)
    assert read.alerts == AlertRules()
    assert (read.caps, read.suppress) == (None, "")
