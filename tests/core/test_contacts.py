"""Contacts: no events, in the ledger all the same; whom to leave alone; what the rows say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import MAX_CONTACTS, Audience, ContactCap, PolicyRow
from schemas.features import FEATURE_NAMES
from schemas.messages import Erasure
from streams.core.audiences import held_everywhere
from streams.core.erasure import digest, probe_of
from streams.core.events.decode import decode, decode_ours
from streams.core.events.records import CLICKSTREAM, ORDERS
from streams.core.features import features
from streams.core.hashing import hashes, stable_share
from streams.core.partitioning import Partitioner
from streams.core.state.contacts import CONTACTED, add_contacts, contacts_of
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import digest as state_digest
from streams.core.state.split import split
from streams.core.state.u64map import U64Map
from tests.core.driving import (
    HOUR_MS,
    T0,
    Driver,
    bounded,
    click,
    config,
    encode,
    order,
    record,
    to_records,
)
from tests.core.oracle import DAY_MS, Wire

CAP = ContactCap(contacts=2, per_ms=7 * DAY_MS)
LATER = T0 + 40 * DAY_MS
RULES = config().decode
ALERT = "0123456789abcdef0123456789abcdef"


def contacted(user: str, ts: int, **fields: Any) -> Wire:
    return click(user, ts, "contacted", **fields)


def shop(*users: str, **more: Any) -> Driver:
    """Customers in open alerts at LATER."""
    driver = Driver(config(alert_cooldown_ms=0))
    for day in range(2):
        driver.feed([], [order(u, T0 + day * DAY_MS, 50.0) for u in users])
    driver.define(clock_ms=LATER, **more)
    return driver


# -- decoding


def test_what_a_contact_says_is_read_and_it_is_no_dead_letter() -> None:
    wire = contacted("ann", T0, campaign="spring", channel="call", alert_id=ALERT, item_id="x")
    (reject,) = decode(to_records([record(wire)]), CLICKSTREAM, RULES).rejects
    assert reject.contact is not None
    assert (reject.contact.campaign, reject.contact.alert_id) == ("spring", ALERT)


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"ts": T0 + 10 * DAY_MS}, "future_timestamp", "ahead of the record's clock"),
        ({"ts": 1}, "absurd_timestamp", "not between 1990 and 2099"),
        ({"ts": 10**30}, "absurd_timestamp", "not between 1990 and 2099"),
        ({"ts": "now"}, "invalid_field", "ts"),
        ({"user_id": "bob"}, "key_mismatch", "not the event's user_id"),
        ({"v": 2}, "unknown_version", "v is 2"),
        ({"event_id": ""}, "invalid_field", "event_id"),
        ({"alert_id": "ann"}, "invalid_field", "alert_id"),
        ({"campaign": 7}, "invalid_field", "campaign"),
        ({"channel": "x" * 129}, "invalid_field", "channel"),
    ],
)
def test_bad_contact_gets_the_reason_of_an_event(
    fields: dict[str, Any], reason: str, detail: str
) -> None:
    wire = contacted("ann", T0) | fields
    records = to_records([(b"ann", json.dumps(wire).encode(), T0), record(click("ann", T0))])
    events = decode(records, CLICKSTREAM, RULES)
    (reject,) = events.rejects
    assert (reject.reason, reject.position, len(events)) == (reason, 0, 1)
    assert detail in reject.detail


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (b'"campaign":"\xff"', "invalid_json"), (b'"campaign":"\\ud800"', "invalid_field"),
        (b'"x":' + b"[" * 5_000 + b"]" * 5_000, "invalid_field"), (b'"ts":1e400', "invalid_field"),
        (b'"x":"' + b"a" * 300_000 + b'"', "too_large"), (b'"user_id":"\\ud800"', "invalid_field"),
        (b'"campaign":"' + b"a" * 200_000 + b'"', "invalid_field"), (b'"ts":true', "invalid_field"),
    ],
    ids=["bytes", "surrogate", "deep", "huge number", "too large", "user", "long", "bool"],
)  # fmt: skip
def test_hostile_contact_is_refused_and_nothing_else_is(more: bytes, reason: str) -> None:
    value = b'{"event_id":"e","user_id":"ann","type":"contacted","ts":%d,%s}' % (T0, more)
    records = to_records([record(click("ann", T0)), (b"ann", value, T0),
                          record(contacted("ann", T0))])  # fmt: skip
    events = decode(records, CLICKSTREAM, RULES)
    assert len(events) == 1
    by_position = {reject.position: reject.reason for reject in events.rejects}
    assert by_position == {1: reason, 2: "contact"}


def test_contact_is_none_among_orders_and_none_in_another_partition() -> None:
    wire = record(contacted("ann", T0))
    (reject,) = decode(to_records([wire]), ORDERS, RULES).rejects
    assert reject.reason == "invalid_field"
    part = Partitioner("murmur2", 64)
    wrong = int(part.of(to_records([wire]))[0]) ^ 1
    (reject,) = decode_ours(to_records([wire]), CLICKSTREAM, RULES, 0, wrong, part).rejects
    assert reject.reason == "wrong_partition"


# -- a step


def test_contact_changes_no_feature_and_no_score_and_makes_nobody_a_user() -> None:
    one, two = shop("ann"), shop("ann")
    two.feed([contacted("ann", LATER), contacted("stranger", LATER)], clock_ms=LATER + 1)
    one.feed([click("ann", LATER - 60 * DAY_MS)], clock_ms=LATER + 1)  # late: counts for nothing
    assert one.state.known == two.state.known == 1
    rows = np.array([0])
    np.testing.assert_array_equal(
        features(one.state, rows, LATER + DAY_MS), features(two.state, rows, LATER + DAY_MS)
    )
    for name in ("last_activity_ms", "last_seen_ms", "first_seen_ms", "p_churn", "lifecycle"):
        np.testing.assert_array_equal(one.column(name, "ann"), two.column(name, "ann"))
    assert two.state.meta.watermark_ms == one.state.meta.watermark_ms


def test_ledger_has_contacts_as_it_has_events() -> None:
    driver = shop("ann")
    mine = contacted("ann", LATER)
    driver.feed(
        [mine, mine, contacted("stranger", LATER), contacted("ann", T0 - 60 * DAY_MS),
         click("ann", LATER), contacted("ann", LATER, alert_id="no id")],
        at_ms=LATER, clock_ms=LATER + 1,
    )  # fmt: skip
    counts = driver.outputs[-1].counts
    assert (counts.accepted, counts.scored, counts.duplicates) == (6, 3, 1)
    assert (counts.late, counts.dead_letters) == (1, 1)
    assert [letter.reason for letter in driver.outputs[-1].dead_letters] == [
        "invalid_field", "late",
    ]  # fmt: skip
    assert driver.feed([mine], clock_ms=LATER + 2).counts.duplicates == 1
    assert len(driver.rows("contacts")) == 2


def test_a_click_and_a_contact_may_have_the_same_number() -> None:
    driver = shop("ann")
    driver.feed([click("ann", LATER, event_id="7"), contacted("ann", LATER, event_id="7")],
                clock_ms=LATER)  # fmt: skip
    assert driver.outputs[-1].counts.scored == 2


def test_row_has_the_open_alert_and_the_arm() -> None:
    driver = shop("ann", "bob")
    driver.feed(
        [contacted("ann", LATER, campaign="spring", channel="call"),
         contacted("bob", LATER, alert_id=ALERT), contacted("eve", LATER)],
        clock_ms=LATER + 1,
    )  # fmt: skip
    ids = {row["user_id"]: row["alert_id"] for row in driver.rows("alerts")}
    rows = {row["user_id"]: row for row in driver.rows("contacts")}
    assert rows["ann"]["alert_id"] == ids["ann"]
    assert (rows["ann"]["campaign"], rows["ann"]["channel"]) == ("spring", "call")
    assert (rows["bob"]["alert_id"], rows["bob"]["named_alert_id"]) == (ids["bob"], ALERT)
    assert rows["eve"]["alert_id"] == ""
    for user, row in rows.items():
        assert row["arm"] == ("holdout" if stable_share("arm", user) < 0.1 else "treat")


# -- caps


def test_who_had_enough_contacts_gets_no_action_until_the_time_is_over() -> None:
    policy = (PolicyRow("true", "call"),)
    driver = shop("ann", "bob", caps=CAP, policy=policy)
    driver.feed([], [order(u, LATER) for u in ("ann", "bob")])  # their alerts close
    again = LATER + 40 * DAY_MS
    driver.feed(
        [contacted("ann", again - DAY_MS), contacted("bob", again - DAY_MS),
         contacted("ann", again - 2 * DAY_MS)],
        clock_ms=again - HOUR_MS,
    )  # fmt: skip
    driver.sweep(again)
    newest = {r["user_id"]: r["action"] for r in driver.rows("alerts") if r["version"] == 1}
    assert newest == {"ann": "nothing", "bob": "call"}


def test_capped_users_enter_no_feed_before_the_second_at_which_the_time_is_over() -> None:
    audience = Audience("alerted", "alerts", "a/1")
    driver = Driver(config())
    for day in range(2):
        driver.feed([], [order(u, T0 + day * DAY_MS) for u in ("ann", "bob")])
    times = (LATER - 3 * DAY_MS, LATER - 5 * DAY_MS)
    driver.feed([contacted("ann", t) for t in times], clock_ms=LATER - DAY_MS)
    driver.define(clock_ms=LATER, audiences=(audience,), caps=CAP)

    def told() -> list[tuple[str, str]]:
        return [(m.user_id, m.change) for out in driver.outputs for m in out.audiences]

    assert told() == [("bob", "entered")]
    rows = {row["user_id"]: row for row in driver.rows("audience_changes")}
    assert (rows["ann"]["arm"], rows["ann"]["fed"]) == ("treat", 0)  # in the arm, not in the feed
    assert rows["bob"]["fed"] == 1
    (campaign,) = driver.state.meta.campaigns
    assert campaign.arms[0].exposed == 2
    over_ms = times[1] + CAP.per_ms  # of the second newest
    driver.wake(over_ms - 1_000)
    assert told() == [("bob", "entered")]
    driver.wake(over_ms)
    assert told() == [("bob", "entered"), ("ann", "entered")]
    assert driver.rows("audience_changes")[-1]["fed"] == 1
    assert campaign.arms[0].exposed == 2


def test_contacts_put_nobody_out_of_a_feed() -> None:
    driver = shop("ann", audiences=(Audience("alerted", "alerts", "a/1"),), caps=CAP)
    driver.feed([contacted("ann", LATER + n) for n in range(3)], clock_ms=LATER + DAY_MS)
    driver.sweep(LATER + 2 * DAY_MS)
    assert [m.change for out in driver.outputs for m in out.audiences] == ["entered"]


@given(seed=st.integers(0, 2**32))
@settings(bounded, max_examples=60)
def test_newest_contacts_are_known_in_whatever_order_they_came(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owners = hashes([f"u{i}" for i in range(5)])
    who, times_ms = rng.integers(0, 5, 60), rng.permutation(np.arange(T0, T0 + 60))
    kept = U64Map(CONTACTED)
    for part in np.array_split(np.arange(60), rng.integers(1, 12)):
        add_contacts(kept, owners[who[part]], times_ms[part])
    found = contacts_of(kept, np.append(owners, hashes(["nobody"])))
    for i, row in enumerate(found):
        expected = np.sort(times_ms[who == i])[::-1][:MAX_CONTACTS].tolist()
        assert row[: len(expected)].tolist() == expected
        assert not row[len(expected) :].any()


def test_order_of_contacts_in_the_log_makes_no_difference() -> None:
    events = [contacted("ann", LATER + n, event_id=f"e{n}") for n in range(15)]
    states = []
    for order_of in (events, events[::-1]):
        driver = Driver(config())
        driver.feed([], [order("ann", T0, event_id="o", order_id="o")])
        driver.feed(order_of, at_ms=LATER + 20, clock_ms=LATER + 20)
        states.append(state_digest(driver.state))
    assert states[0] == states[1]


# -- erasure and growth


def erasure(user: str) -> Erasure:
    return Erasure(
        "e1", digest(b"salt", user), b"salt", probe_of(b"salt", user), 3, LATER + 5, (0, 0),
        LATER + DAY_MS,
    )  # fmt: skip


@pytest.mark.parametrize("user", ["ann", "stranger"])
def test_erased_person_has_no_contacts(user: str) -> None:
    driver = shop("ann", "bob")
    driver.feed([contacted(u, LATER) for u in (user, "bob")], clock_ms=LATER + 1)
    old = contacted(user, LATER + 1)
    driver.feed([old], erase=(erasure(user),), clock_ms=LATER + 2)
    assert driver.outputs[-1].counts.erased == 1
    times_ms = contacts_of(driver.state.contacts, hashes([user, "bob"]))
    assert (times_ms > 0).sum(axis=1).tolist() == [0, 1]
    assert int(hashes([user])[0]) not in driver.state.contacts.records["owner"].tolist()


def test_each_successor_has_the_contacts_of_its_users_and_of_strangers() -> None:
    one, two = Partitioner("murmur2", 1), Partitioner("murmur2", 2)
    driver = Driver(config(partitioner=one), state=ShardState(0, len(FEATURE_NAMES)))
    users = [f"u{i}" for i in range(20)]
    driver.feed([contacted(u, T0) for u in [*users, "stranger"]], [order(u, T0) for u in users])
    children = [split(driver.state, shard, two, (0, 0)) for shard in range(2)]
    found = [{int(o) for o in child.contacts.records["owner"]} for child in children]
    assert found[0] & found[1] == {int(hashes(["stranger"])[0])}
    assert found[0] | found[1] == {int(h) for h in hashes([*users, "stranger"])}
    assert min(map(len, found)) > 1


def test_old_contacts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.core.apply._FORGET_AT", 1)
    driver = shop("ann", "bob")
    driver.feed([contacted(u, LATER) for u in ("ann", "bob")], clock_ms=LATER)
    driver.feed([contacted("bob", LATER + 90 * DAY_MS)], clock_ms=LATER + 90 * DAY_MS)
    for day in (95, 96):
        driver.sweep(LATER + day * DAY_MS)
        driver.feed(clock_ms=LATER + day * DAY_MS + 1)
    assert driver.state.contacts.records["owner"].tolist() == hashes(["bob"]).tolist()


def test_without_contacts_nothing_is_different() -> None:
    plain, ruled = shop("ann"), shop("ann", caps=CAP)
    for driver in (plain, ruled):
        driver.feed([click("ann", LATER + 1, event_id="c")], clock_ms=LATER + 2)
    tables = [driver.outputs[-1] for driver in (plain, ruled)]
    assert encode(tables[0]) == encode(tables[1])
    assert not held_everywhere(hashes(["ann"]), plain.state.meta.definitions).any()  # type: ignore[arg-type]
