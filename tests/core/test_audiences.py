"""Audiences: who may be contacted, who is held out, and what is counted of both."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from schemas.definitions import Audience, Definitions, SegmentDefinition
from schemas.features import FEATURE_NAMES
from streams.core.audiences import arms_of
from streams.core.hashing import hashes
from streams.core.state.slots import ARMS
from streams.core.state.snapshot import exported, load
from tests.core.driving import T0, Driver, click, config, drawn, encode, order
from tests.core.oracle import DAY_MS

USERS = [f"u{i:03}" for i in range(200)]
BUYERS = SegmentDefinition("buyers", "orders > 0")
BROWSERS = SegmentDefinition("browsers", "view_24h > 0")
HORIZON_MS = 5 * DAY_MS


def audience(name: str, segment: str = "buyers", **more: Any) -> Audience:
    values: dict[str, Any] = {"salt": f"{name}/1", "horizon_ms": HORIZON_MS} | more
    return Audience(name, segment, **values)


def arm(user: str, each: Audience, definitions: Definitions | None = None) -> str:
    given_ = definitions or Definitions(1, "v1")
    (code,) = arms_of(hashes([user]), each.salt, each.holdout_share, given_)
    return ARMS[code]


def fed(driver: Driver) -> dict[str, set[str]]:
    """Whom each feed has, by its messages alone."""
    inside: dict[str, set[str]] = defaultdict(set)
    for outputs in driver.outputs:
        for message in outputs.audiences:
            people = inside[message.audience]
            assert (message.user_id in people) == (message.change == "left")
            (people.add if message.change == "entered" else people.remove)(message.user_id)
    return inside


def shop(*audiences: Audience, users: list[str] = USERS, **more: Any) -> Driver:
    driver = Driver(config())
    driver.feed([], [order(user, T0, 50.0) for user in users])
    driver.define(BUYERS, BROWSERS, clock_ms=T0 + 1_000, audiences=audiences, **more)
    return driver


def test_a_share_of_the_members_is_held_out_and_recorded() -> None:
    spring = audience("spring", holdout_share=0.2)
    driver = shop(spring)
    held = {user for user in USERS if arm(user, spring) == "holdout"}
    assert 20 < len(held) < 60
    assert fed(driver)["spring"] == set(USERS) - held
    rows = driver.rows("audience_changes")
    assert {row["user_id"] for row in rows if row["arm"] == "holdout"} == held
    assert {row["change"] for row in rows} == {"entered"}
    ids = [row["change_id"] for row in rows]
    assert len(set(ids)) == len(USERS)
    assert {m.change_id for out in driver.outputs for m in out.audiences} <= set(ids)


def test_another_salt_holds_out_others() -> None:
    spring, summer = (audience(n, holdout_share=0.2) for n in ("spring", "summer"))
    one, two = ({u for u in USERS if arm(u, each) == "holdout"} for each in (spring, summer))
    assert one != two
    assert len(one & two) < 20


def test_of_a_priority_list_a_person_is_in_the_first_only_also_if_held_out() -> None:
    first = audience("first", "browsers", holdout_share=0.3, priority=1, priority_list="mail")
    second = audience("second", priority=2, priority_list="mail")
    other = audience("other")
    driver = shop(first, second, other)
    browsing = USERS[:100]
    driver.feed([click(user, T0 + 2_000) for user in browsing])
    held = {user for user in browsing if arm(user, first) == "holdout"}
    assert held
    assert fed(driver)["first"] == set(browsing) - held
    assert fed(driver)["second"] == set(USERS) - set(browsing)  # the held out are in no mail at all
    assert fed(driver)["other"] == set(USERS)
    driver.sweep(T0 + 2 * DAY_MS)  # the views have left the window
    assert fed(driver)["first"] == set()
    assert fed(driver)["second"] == set(USERS)


def test_the_global_holdout_is_in_no_feed_and_in_no_arm_that_is_contacted() -> None:
    spring, alerts = audience("spring"), audience("alerts", "alerts")
    driver = shop(spring, alerts, global_holdout_share=0.1, global_salt="g/1")
    driver.feed([], [order(user, T0 + DAY_MS) for user in USERS])  # alerts ask for two
    driver.sweep(T0 + 50 * DAY_MS)
    assert driver.rows("alerts")
    definitions = driver.state.meta.definitions
    held = {user for user in USERS if arm(user, spring, definitions) == "global_holdout"}
    assert 5 < len(held) < 40
    assert not held & (fed(driver)["spring"] | fed(driver)["alerts"])
    opened = {row["user_id"]: row["arm"] for row in driver.rows("alerts")}
    assert {opened[user] for user in held if user in opened} == {"holdout"}


def test_whom_a_new_global_holdout_takes_leaves_every_feed() -> None:
    spring = audience("spring")
    driver = shop(spring)
    driver.define(
        BUYERS, BROWSERS, clock_ms=T0 + 2_000, audiences=(spring,),
        global_holdout_share=0.1, global_salt="g/1",
    )  # fmt: skip
    definitions = driver.state.meta.definitions
    held = {user for user in USERS if arm(user, spring, definitions) == "global_holdout"}
    assert held
    assert fed(driver)["spring"] == set(USERS) - held


def test_a_holdout_share_does_not_change_under_its_salt() -> None:
    driver = shop(audience("spring", holdout_share=0.1))
    driver.define(
        BUYERS, BROWSERS, clock_ms=T0 + 2_000, audiences=(audience("spring", holdout_share=0.5),)
    )
    (slot,) = driver.state.meta.audience_slots
    assert slot is not None
    assert slot.audience.holdout_share == 0.1
    assert len(driver.rows("audience_changes")) == len(USERS)


def test_an_audience_that_ends_empties_its_feed_and_a_new_salt_begins_another() -> None:
    driver = shop(audience("spring", holdout_share=0.2))
    renewed = audience("spring", holdout_share=0.2, salt="spring/2")
    sent = len(driver.outputs)
    driver.define(BUYERS, BROWSERS, clock_ms=T0 + 2_000, audiences=(renewed,))
    both = {u for u in USERS if arm(u, renewed) == arm(u, audience("spring", holdout_share=0.2))}
    told = {m.user_id for out in driver.outputs[sent:] for m in out.audiences}
    assert told == set(USERS) - both  # the others' feed goes on
    assert fed(driver)["spring"] == {user for user in USERS if arm(user, renewed) == "treat"}
    driver.define(BUYERS, BROWSERS, clock_ms=T0 + 3_000)
    assert fed(driver)["spring"] == set()
    assert driver.state.meta.audience_slots == []
    assert [each.salt for each in driver.state.meta.campaigns] == ["spring/1", "spring/2"]


# -- what followed


def test_sums_are_those_of_a_recount() -> None:
    spring = audience("spring", holdout_share=0.3)
    driver = shop(spring)  # everybody enters at T0 + 1 s, with 50.00 behind them
    spent: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(3)
    for user in USERS[:120]:
        for _ in range(int(rng.integers(1, 4))):
            spent[user].append(round(float(rng.uniform(1, 900)), 2))
    for user, amounts in spent.items():
        driver.feed([], [order(user, T0 + DAY_MS, amount) for amount in amounts])
    assert not any(s.answered for c in driver.state.meta.campaigns for s in c.arms)
    driver.wake(T0 + 1_000 + HORIZON_MS)
    driver.feed([], [order(user, T0 + 2_000 + HORIZON_MS) for user in USERS])  # too late to count
    (campaign,) = driver.state.meta.campaigns
    for name, sums in zip(ARMS, campaign.arms, strict=True):
        people = [user for user in USERS if arm(user, spring) == name]
        y = [round(100 * sum(spent[user])) for user in people]
        assert sums.exposed == sums.answered == len(people)
        assert sums.buyers == sum(bool(spent[user]) for user in people)
        assert sums.orders == sum(len(spent[user]) for user in people)
        assert sums.y_cents == sum(y)
        assert sums.x_cents == 5_000 * len(people)
        assert int(sums.y_squared) == sum(v * v for v in y)
        assert int(sums.x_times_y) == 5_000 * sum(y)
    newest = driver.rows("campaign_sums")[-3:]
    assert [row["answered"] for row in newest] == [s.answered for s in campaign.arms]
    assert newest[0]["y_cents"] == campaign.arms[0].y_cents
    assert int(driver.state.columns.exposures[: driver.state.n].sum()) == 0


def test_who_comes_back_within_the_horizon_is_counted_once() -> None:
    driver = shop(audience("spring", "browsers"), users=["u"])
    for hour in (1, 30, 60):  # in, out after a day, in again
        driver.feed([click("u", T0 + hour * 3_600_000)])
        driver.sweep(T0 + (hour + 26) * 3_600_000)
    entered = [r for r in driver.rows("audience_changes") if r["change"] == "entered"]
    assert len(entered) == 3
    (campaign,) = driver.state.meta.campaigns
    assert campaign.arms[0].exposed == 1
    driver.wake(T0 + 3_600_000 + HORIZON_MS)
    assert campaign.arms[0].answered == 1
    driver.feed([click("u", T0 + 3_600_000 + HORIZON_MS + 1)])
    assert campaign.arms[0].exposed == 2


def test_what_is_over_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.core.apply._FORGET_AT", 1)
    driver = Driver(config())
    driver.feed([], [order(user, T0, 50.0) for user in USERS])
    waiting = SegmentDefinition("waiting", "orders > 0", hold_ms=5_000)
    both = (audience("spring", "waiting"), audience("later", "waiting", horizon_ms=30 * DAY_MS))
    driver.define(BUYERS, waiting, clock_ms=T0 + 1_000, audiences=both)
    driver.wake(T0 + 6_000)
    assert (len(driver.state.holds), len(driver.state.exposures)) == (len(USERS), 2 * len(USERS))
    driver.wake(T0 + 6_000 + HORIZON_MS)
    for minute in range(1, 4):  # a sweep begins to drop, and the steps behind it go on
        driver.sweep(T0 + 6_000 + HORIZON_MS + minute * 60_000)
    assert (len(driver.state.holds), len(driver.state.exposures)) == (0, len(USERS))
    driver.wake(T0 + 6_000 + 30 * DAY_MS)
    assert [c.arms[0].answered for c in driver.state.meta.campaigns] == [len(USERS)] * 2


def test_squares_do_not_overflow() -> None:
    driver = shop(audience("spring"), users=["rich"])
    for i in range(9):
        driver.feed([], [order("rich", T0 + 2_000 + i, 999_999_999.0)])
    driver.wake(T0 + 1_000 + HORIZON_MS)
    (campaign,) = driver.state.meta.campaigns
    assert int(campaign.arms[0].y_squared) == (9 * 99_999_999_900) ** 2 > 2**64
    assert encode(driver.outputs[-1])
    again = load(*exported(driver.state), len(FEATURE_NAMES))  # a checkpoint holds them
    assert again.meta.campaigns == driver.state.meta.campaigns


def test_an_erased_person_is_not_answered() -> None:
    driver = shop(audience("spring"), users=["u", "v"])
    row = int(driver.state.rows_by_user.get("u") or 0)
    driver.state.drop_user(row)
    driver.wake(T0 + 1_000 + HORIZON_MS)
    (campaign,) = driver.state.meta.campaigns
    assert (campaign.arms[0].exposed, campaign.arms[0].answered) == (2, 1)


# -- nobody who is held out is in a feed, ever


@drawn(10, 30, seed=st.integers(0, 2**32))
def test_a_held_out_person_is_never_in_a_feed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    driver, now_ms, users = Driver(config()), T0, [f"u{i}" for i in range(30)]
    for number in range(1, 25):
        now_ms += int(rng.choice([1_000, 3_600_000, DAY_MS]))
        new = some(rng, number) if rng.random() < 0.3 else None
        who = [users[i] for i in rng.integers(0, len(users), 5).tolist()]
        driver.feed(
            [click(user, now_ms) for user in who],
            [order(user, now_ms) for user in who[:2]],
            clock_ms=now_ms, sweep_rows=int(rng.choice([0, 200])), wake_rows=50, definitions=new,
        )  # fmt: skip
        if new is not None:
            driver.sweep(now_ms)
        held_out_of(driver)


def held_out_of(driver: Driver) -> None:
    """What is in force holds for everybody in a feed now, and for each who entered."""
    meta = driver.state.meta
    definitions = meta.definitions
    feeds = fed(driver)
    if definitions is None:
        assert not feeds
        return
    for slot in meta.audience_slots:
        if slot is None or slot.ended:
            continue
        for user in feeds[slot.audience.name]:
            assert arm(user, slot.audience, definitions) == "treat"
    for message in driver.outputs[-1].audiences:
        if message.change == "entered":
            audience_of = next(
                s.audience
                for s in meta.audience_slots
                if s is not None and not s.ended and s.audience.name == message.audience
            )
            assert arm(message.user_id, audience_of, definitions) == "treat"


def some(rng: np.random.Generator, number: int) -> Definitions:
    audiences = [
        audience(
            f"a{i}",
            str(rng.choice(["buyers", "browsers", "alerts"])),
            salt=f"a{i}/{rng.integers(2)}",
            holdout_share=float(rng.choice([0.0, 0.3, 0.6])),
            priority=int(rng.integers(3)),
            priority_list=str(rng.choice(["", "mail"])),
        )
        for i in range(int(rng.integers(4)))
    ]
    share = float(rng.choice([0.0, 0.2]))
    salt = f"g/{rng.integers(2)}"
    return Definitions(
        number, f"v{number}", (BUYERS, BROWSERS), audiences=tuple(audiences),
        global_holdout_share=share, global_salt=salt,
    )  # fmt: skip
