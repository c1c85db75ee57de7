"""Erasing a person: gone, and not coming back; for everybody else nothing has happened."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES
from schemas.messages import Erasure, ErasureRequest
from streams.core.erasure import digest, due, named_in, probe_of
from streams.core.events.records import SOURCES, Records
from streams.core.features import features
from streams.core.plan import Plan
from streams.core.state import snapshot
from streams.core.state.open_questions import OpenQuestions
from streams.core.state.shard_state import ShardState
from streams.core.texts import Texts
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
    table_rows,
    to_records,
)
from tests.core.oracle import DAY_MS
from tests.core.streams_of_events import Batch, random_batches

SALT = b"0123456789abcdef"
GONE = "u0"  # the busiest user of `random_batches`
FOREVER_MS = 2**60


def order_for(user: str, cutoff_ms: int, stop: tuple[int, int] = (0, 0), **more: Any) -> Erasure:
    values: dict[str, Any] = {
        "erasure_id": "one",
        "digest": digest(SALT, user),
        "salt": SALT,
        "probe": probe_of(SALT, user),
        "shard": 3,
        "cutoff_ms": cutoff_ms,
        "stop": stop,
        "recorded_before_ms": FOREVER_MS,
    }
    return Erasure(**(values | more))


def erase(driver: Driver, *orders: Erasure, clock_ms: int = 0) -> Any:
    """A step that only erases."""
    meta = driver.state.meta
    here = (meta.offsets[0], meta.offsets[1])
    plan = Plan(meta.seq + 1, here, here, clock_ms, 0, erase=orders)
    return driver.run(plan, (Records.empty(), Records.empty()))


def bytes_of(state: ShardState) -> bytes:
    meta, arrays = snapshot.exported(state)
    return meta + b"".join(array.tobytes() for array in arrays.values())


def reloaded(state: ShardState) -> ShardState:
    meta, arrays = snapshot.exported(state)
    return snapshot.load(meta, {k: v.copy() for k, v in arrays.items()}, len(FEATURE_NAMES))


def asked_of(state: ShardState) -> list[OpenQuestions]:
    return [queue.everything() for queue in state.questions.by_horizon.values()]


class Log:
    """Batches as plans and records, so that a log without a person keeps every offset."""

    def __init__(self, batches: list[Batch], sweeps: bool = True) -> None:
        self.steps: list[tuple[Plan, tuple[Records, Records]]] = []
        offsets = [0, 0]
        for number, batch in enumerate(batches):
            start = (offsets[0], offsets[1])
            parts = [
                to_records([record(e, batch.now_ms) for e in events], offsets[s])
                for s, events in zip(SOURCES, (batch.clicks, batch.orders), strict=True)
            ]
            offsets = [o + len(p) for o, p in zip(offsets, parts, strict=True)]
            plan = Plan(number + 1, start, (offsets[0], offsets[1]), batch.now_ms, 3 * sweeps)
            self.steps.append((plan, (parts[0], parts[1])))

    def play(self, driver: Driver, without: str | None = None) -> Driver:
        for plan, parts in self.steps:
            if without is None:
                driver.run(plan, parts)
            else:
                kept = [lacking(part, without) for part in parts]
                run_with_holes(driver, plan, (kept[0], kept[1]))
        return driver


def lacking(part: Records, user: str) -> Records:
    """The records of everybody else, at their own offsets."""
    kept = [i for i, key in enumerate(part.keys) if key != user.encode()]
    return part[np.array(kept, np.int64)]


def run_with_holes(driver: Driver, plan: Plan, parts: tuple[Records, Records]) -> None:
    """A step whose range may end, or lie altogether, where a person's records had been."""
    stop = [
        int(part.offsets[-1]) + 1 if len(part) else start
        for part, start in zip(parts, plan.start, strict=True)
    ]
    starts = driver.state.meta.offsets
    driver.run(
        msgspec.structs.replace(plan, start=(starts[0], starts[1]), stop=(stop[0], stop[1])), parts
    )
    driver.state.meta.offsets = list(plan.stop)


OF_ALL_RECORDS = {"event_produced_at"}  # the newest record of the batch, of any user


def outputs_of(driver: Driver) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables but the books."""
    found: dict[str, list[dict[str, Any]]] = {}
    for out in driver.outputs:
        for name, table in out.tables.items():
            if name != "batches":
                kept = {k: v for k, v in table.items() if k not in OF_ALL_RECORDS}
                found.setdefault(name, []).extend(
                    {k: plain(v) for k, v in row.items()} for row in table_rows(kept)
                )
    return found


def plain(value: Any) -> Any:
    return value.tobytes() if isinstance(value, np.generic | np.ndarray) else value


@given(seed=st.integers(0, 2**32))
@settings(bounded, max_examples=20)
def test_a_replay_after_the_erasure_equals_a_log_without_the_person(seed: int) -> None:
    """State and rows, bit for bit, for everybody."""
    log = Log(random_batches(seed, batches=8, late_share=0.03))
    ours = Driver()
    ours.state.meta.erased = [order_for(GONE, FOREVER_MS)]
    log.play(ours)
    without = log.play(Driver(), without=GONE)
    ours.state.meta.erased = []
    assert bytes_of(ours.state) == bytes_of(without.state)
    assert outputs_of(ours) == outputs_of(without)
    counts = [out.counts for out in ours.outputs]
    sent = sum(
        key == GONE.encode() for _, parts in log.steps for part in parts for key in part.keys
    )
    assert sum(c.erased for c in counts) == sent
    for c in counts:
        assert c.accepted == c.scored + c.duplicates + c.late + c.dead_letters + c.erased


def of_everybody_else(state: ShardState, now_ms: int) -> dict[str, dict[str, bytes]]:
    """What is kept of each other user, and what a score would read; not what depends on a whole
    shard's quantiles, which the person was a part of: value tiers, how often they changed, and
    when scores were last written. The person has also taken one of the numbers that keys of pairs
    go by."""
    shared = {"value_tier", "segment_changes", "pair_owner"}
    shared |= {"written_at_ms", "written_orders", "written_p", "written_spend"}
    state.counts.advance(now_ms)
    state.money.advance(now_ms)
    found = {}
    for user in sorted(u for u in state.users[: state.n] if u not in ("", GONE)):
        row = state.rows_by_user[user]
        columns = {
            name: getattr(state.columns, name)[row].tobytes()
            for name in state.columns._SPEC
            if name not in shared
        }
        x = features(state, np.array([row]), now_ms)
        open_ = [
            (int(a.asked_ms[at]), a.x[at].tobytes(), a.scores[at].tobytes())
            for a in asked_of(state)
            for at in np.flatnonzero(a.rows == row)
        ]
        found[user] = columns | {"features": x.tobytes(), "open question": repr(open_).encode()}
    return found


@given(seed=st.integers(0, 2**32), at=st.integers(1, 7))
@settings(bounded, max_examples=20)
def test_an_erasure_in_the_middle_changes_nothing_for_everybody_else(seed: int, at: int) -> None:
    """Live: the person takes part, is erased at a step's border, and their later events count."""
    log = Log(random_batches(seed, batches=9), sweeps=True)
    cut = log.steps[at][0].clock_ms
    rules = config(lateness_ms=10_000 * DAY_MS)  # lateness is the shop's, and they were part of it
    ours, without = Driver(rules), Driver(rules)
    for number, (plan, parts) in enumerate(log.steps):
        sweep_all = msgspec.structs.replace(plan, sweep_rows=10_000)
        orders = (order_for(GONE, cut, plan.start),) if number == at else ()
        ours.state.meta.sweep_row = 0
        ours.run(msgspec.structs.replace(sweep_all, erase=orders), parts)
        if number == at:
            assert GONE not in ours.state.users[: ours.state.n].tolist() or any(
                e["ts"] >= cut for e in events_of(parts, GONE)
            )
        later = number >= at
        others = tuple(
            only_since(part, GONE, ours.state.meta.erased[0].cutoff_ms if later else FOREVER_MS)
            for part in parts
        )
        without.state.meta.sweep_row = 0
        run_with_holes(without, sweep_all, (others[0], others[1]))
    now_ms = log.steps[-1][0].clock_ms
    assert of_everybody_else(ours.state, now_ms) == of_everybody_else(without.state, now_ms)
    # and the person, if they came back, is as one who was never here before
    theirs = [GONE in list(s.users[: s.n]) for s in (ours.state, without.state)]
    assert theirs[0] == theirs[1]
    if theirs[0]:
        x = [
            features(s, np.array([s.rows_by_user[GONE]]), now_ms).tobytes()
            for s in (ours.state, without.state)
        ]
        assert x[0] == x[1]


def events_of(parts: tuple[Records, Records], user: str) -> list[Any]:
    return [
        msgspec.json.decode(value or b"")
        for part in parts
        for key, value in zip(part.keys, part.values, strict=True)
        if key == user.encode()
    ]


def only_since(part: Records, user: str, cutoff_ms: int) -> Records:
    """Everybody else's records, and the person's from the cutoff on."""
    kept = [
        i
        for i, key in enumerate(part.keys)
        if key != user.encode() or msgspec.json.decode(part.values[i] or b"")["ts"] >= cutoff_ms
    ]
    return part[np.array(kept, np.int64)]


def busy(user: str = "anna.meier@example.org") -> Driver:
    """A person with all that a state can hold of one, among others."""
    driver = Driver(config(alert_enter=0.01, alert_leave=0.005, alert_cooldown_ms=0))
    for day in range(70):
        now = T0 + day * DAY_MS
        people = ["x", user, "y"] if day % 3 else ["x", "y"]
        clicks = [click(u, now, item_id=f"i{day % 7}", session_id=f"s{day}") for u in people]
        orders = [
            order(u, now + 1, lines=[{"item_id": "i1", "amount": 3.0}])
            for u in people
            if day % 10 == 0 or day in (11, 22, 33)
        ]
        driver.feed(clicks, orders)
        driver.sweep(now + HOUR_MS)
    return driver


def test_nothing_of_the_person_is_left_in_the_state() -> None:
    user = "anna.meier@example.org"
    driver = busy(user)
    row = driver.state.rows_by_user[user]
    assert any((asked.rows == row).any() for asked in asked_of(driver.state))
    assert driver.column("episode", user) > 0
    total = int(driver.state.value_histogram.sum())
    assert user.encode() in bytes_of(driver.state)
    out = erase(driver, order_for(user, driver.state.meta.clock_ms + 1))
    state = driver.state
    assert user.encode() not in bytes_of(state)
    assert driver.state.meta.erased[0].found
    assert user not in state.rows_by_user
    assert state.rows_by_user.forgotten.tolist() == [row]
    assert not any((asked.rows == row).any() for asked in asked_of(state))
    assert int(state.value_histogram.sum()) == total - 1
    fresh = ShardState(3, len(FEATURE_NAMES))
    fresh.columns.fill(slice(0, 1))
    for name in state.columns._SPEC:
        assert (
            getattr(state.columns, name)[row].tobytes() == getattr(fresh.columns, name)[0].tobytes()
        ), name
    for sums in (state.counts, state.money):
        assert not sums.table[row].any()
        for _, _, chunk in sums.chunks():
            assert not (chunk.index // sums.measures == row).any()
    assert set(out.tables) == {"batches", "segment_totals"}  # one customer less


@pytest.mark.parametrize("back", [False, True])
def test_nothing_is_left_of_a_person_who_was_parked(
    back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they came back, while the block that they were in is as it was."""
    monkeypatch.setattr("streams.core.apply._TIDIED_PER_STEP", 0)
    user = "anna.meier@example.org"
    driver = busy(user)
    for day in (100, 160, 190):
        driver.sweep(T0 + day * DAY_MS)
    assert user in driver.state.parked
    assert driver.state.n == 0
    if back:
        driver.state.rows_of(Texts.of([user]))
    ours = driver.state.parked.everyone(0)
    assert (user in ours[0]) != back
    now_ms = driver.state.meta.clock_ms + 1
    erase(driver, order_for(user, now_ms), order_for("nobody", now_ms))
    assert [e.found for e in driver.state.meta.erased] == [True, False]
    assert not driver.state.knows(user)
    assert sorted(driver.state.parked.everyone(0)[0]) == ["x", "y"]
    for block in driver.state.parked._blocks.values():
        assert user.encode() not in block.raw
    assert driver.state.known == 2
    assert reloaded(driver.state).known == 2


def test_the_empty_row_says_nothing_ever_and_survives_a_checkpoint() -> None:
    user = "anna.meier@example.org"
    driver = busy(user)
    erase(driver, order_for(user, driver.state.meta.clock_ms + 1))
    driver.state = reloaded(driver.state)
    seen = len(driver.outputs)
    assert driver.state.n == 3
    for day in range(70, 110):
        driver.sweep(T0 + day * DAY_MS)
        driver.feed([click("new", T0 + day * DAY_MS)])
    users = {
        row["user_id"]
        for out in driver.outputs[seen:]
        for table in out.tables.values()
        if "user_id" in table
        for row in table_rows(table)
    }
    assert users == {"x", "y", "new"}
    assert driver.state.rows_by_user["new"] == 3
    again = reloaded(driver.state)
    assert list(again.rows_by_user) == list(driver.state.rows_by_user) == ["x", "y", "new"]
    assert again.rows_by_user.forgotten.tolist() == driver.state.rows_by_user.forgotten.tolist()


@pytest.mark.parametrize("reload", [False, True])
def test_who_comes_back_counts_from_zero_and_their_past_stays_out(reload: bool) -> None:
    driver = Driver()
    driver.feed([click("p", T0, item_id="i"), click("q", T0)], [order("p", T0 + 1)])
    cutoff = T0 + HOUR_MS
    erase(driver, order_for("p", cutoff, (2, 1)), clock_ms=cutoff)
    if reload:
        driver.state = reloaded(driver.state)
    late_arrival = [click("p", cutoff - 1, item_id="i")]
    out = driver.feed(late_arrival)
    assert (out.counts.scored, out.counts.erased, out.counts.accepted) == (0, 1, 1)
    assert "p" not in driver.state.rows_by_user
    assert driver.state.meta.watermark_ms == T0 + 1
    out = driver.feed([click("p", cutoff, item_id="i"), click("p", cutoff - 5)])
    assert (out.counts.scored, out.counts.erased) == (1, 1)
    if reload:
        driver.state = reloaded(driver.state)
    out = driver.feed([click("p", cutoff - 7)], [order("p", cutoff + 2), order("p", T0 + 9)])
    assert (out.counts.scored, out.counts.erased) == (1, 2)
    assert driver.column("orders", "p") == 1
    assert driver.column("first_seen_ms", "p") == cutoff
    x = features(driver.state, driver.state.rows_of(Texts.of(["p"])), driver.state.meta.clock_ms)[0]
    assert x[FEATURE_NAMES.index("distinct_items_24h")] == 1  # seen before, but not by this self


def test_records_from_before_the_request_stay_out_whatever_their_times_say() -> None:
    """In the backlog, dated ahead of the clock; offsets mean nothing in a topic created again."""
    driver = Driver()
    ahead = [click("p", T0 + 500), click("q", T0 + 500)]
    erase(driver, order_for("p", T0, (2, 0), recorded_before_ms=T0 + DAY_MS), clock_ms=T0)
    out = driver.feed(ahead)
    assert (out.counts.scored, out.counts.erased) == (1, 1)
    driver.state.meta.offsets = [0, 0]
    out = driver.feed([click("p", T0 + 2 * DAY_MS)])
    assert (out.counts.scored, out.counts.erased) == (1, 0)


def test_an_event_dated_ahead_of_the_clock_moves_the_cutoff_behind_it() -> None:
    driver = Driver()
    driver.feed([click("p", T0 + 200_000), click("q", T0)], clock_ms=T0)
    erase(driver, order_for("p", T0 + 1), clock_ms=T0 + 1)
    (done,) = driver.state.meta.erased
    assert done.cutoff_ms == T0 + 200_001
    replay = Driver()
    erase(replay, done)
    out = replay.feed([click("p", T0 + 200_000), click("q", T0)], clock_ms=T0)
    assert (out.counts.scored, out.counts.erased) == (1, 1)


def test_dead_letters_of_the_person_are_not_written_again() -> None:
    driver = Driver()
    erase(driver, order_for("p", T0 + 10))
    broken = [
        (b"p", b"{not json", T0 + 1),
        (b"p", b"{not json", T0 + 11),  # sent after the erasure
        (None, b'{"user_id": "p", "event_id": ', T0 + 2),
        (b"other", b'{"user_id": "p"}', T0 + 3),
        (b"q", b"{not json", T0 + 4),
    ]
    late = record(click("p", T0 - 300 * DAY_MS))
    out = driver.feed_rows([*broken, late], [])
    assert [(d.key, d.offset) for d in out.dead_letters] == [(b"p", 1), (b"q", 4)]
    c = out.counts
    assert (c.accepted, c.dead_letters, c.late, c.erased) == (6, 2, 0, 4)
    assert out.tables["batches"]["erased"].tolist() == [4]


def test_names_in_broken_records_are_read_as_json() -> None:
    assert named_in(None, None) == set()
    assert named_in(b"k\xff", b'{"user_id" : "a\\u00e9", "x": {"user_id":"b"}, "user_id": 7') == {
        "k\ufffd", "a\u00e9", "b",
    }  # fmt: skip


def test_two_at_once_and_twice_and_unknown() -> None:
    driver = Driver()
    driver.feed([click(u, T0) for u in "pqr"])
    now = T0 + 1
    erase(driver, order_for("p", now), order_for("q", now), order_for("nobody", now))
    assert [e.found for e in driver.state.meta.erased] == [True, True, False]
    assert driver.state.rows_by_user.forgotten.tolist() == [0, 1]
    again = order_for("p", now + 5, erasure_id="second")
    erase(driver, again)
    (p,) = [e for e in driver.state.meta.erased if e.digest == again.digest]
    assert (p.erasure_id, p.found, p.cutoff_ms) == ("second", False, now + 5)
    assert len(driver.state.meta.erased) == 3
    assert sorted(u for u in driver.state.users[: driver.state.n] if u) == ["r"]


def test_who_was_erased_by_a_build_with_another_hash_is_found_all_the_same() -> None:
    driver = Driver()
    driver.feed([click(u, T0) for u in "pqr"])
    other_build = order_for("q", T0 + 5, probe=(7 << 32) | 1)
    erase(driver, other_build)
    assert driver.state.meta.erased[0].found
    driver.feed([click("q", T0 + 5)])
    driver.state = reloaded(driver.state)
    out = driver.feed([click("q", T0 + 4), click("q", T0 + 6)])
    assert (out.counts.scored, out.counts.erased) == (1, 1)


def request(user: str, **changes: Any) -> ErasureRequest:
    asked = ErasureRequest(
        "one", digest(SALT, user), SALT, probe_of(SALT, user), T0, [(0, 0)] * 3 + [(5, 6)], "op"
    )
    return msgspec.structs.replace(asked, **changes)


def test_what_is_due() -> None:
    driver = Driver()
    driver.feed([click("p", T0 - 50)])
    meta = driver.state.meta
    (by_event,) = due(meta, [request("p")], [], clock="event", wall_ms=T0 + 9)
    assert (by_event.cutoff_ms, by_event.stop, by_event.shard) == (T0 - 49, (5, 6), 3)
    (by_wall,) = due(meta, [request("p")], [], clock="wall", wall_ms=T0 + 9)
    assert by_wall.cutoff_ms == T0 + 9
    (asked_later,) = due(meta, [request("p")], [], clock="wall", wall_ms=T0 - 9)
    assert asked_later.cutoff_ms == T0
    erase(driver, by_wall)
    assert due(meta, [request("p")], [], clock="wall", wall_ms=T0 + 99) == ()
    # rebuilt from nothing: up to the same point, not up to now
    fresh = Driver().state.meta
    done = meta.erased[0]
    assert due(fresh, [request("p")], [done], clock="wall", wall_ms=T0 + 99) == (done,)
    # rebuilt while a second request is open: never less than what the first one covered
    second = request("p", erasure_id="two", ends=[(0, 0)] * 4)
    (both,) = due(fresh, [second], [done], clock="event", wall_ms=0)
    assert (both.erasure_id, both.cutoff_ms, both.stop) == ("two", done.cutoff_ms, (5, 6))


def test_outputs_and_state_of_a_replayed_erasure_are_the_same_bit_for_bit() -> None:
    rng = random.Random(4)
    log = Log(random_batches(rng.randrange(10**6), batches=10))

    def play(reload_at: int | None) -> Driver:
        driver = Driver()
        for number, (plan, parts) in enumerate(log.steps):
            orders = (order_for(GONE, plan.clock_ms, plan.start),) if number == 4 else ()
            driver.run(msgspec.structs.replace(plan, erase=orders), parts)
            if number == reload_at:
                driver.state = reloaded(driver.state)
        return driver

    clean = play(None)
    for reload_at in range(9):
        other = play(reload_at)
        assert [encode(o) for o in other.outputs] == [encode(o) for o in clean.outputs]
        assert bytes_of(other.state) == bytes_of(clean.state)


def test_a_checkpoint_that_was_begun_before_the_erasure_holds_the_state_before_it() -> None:
    user = "anna.meier@example.org"
    driver = busy(user)
    meta, arrays = snapshot.exported(driver.state)
    frozen, sources = snapshot.freeze(driver.state, everything=True)
    erase(driver, order_for(user, driver.state.meta.clock_ms + 1))
    taken = {name: b"".join(map(s.take, range(s.pages))) for name, s in sources.items()}
    snapshot.thaw(driver.state)
    assert frozen == meta
    before = {name.split("/")[0]: b"" for name in arrays}
    for kind in before:
        ours = sorted(v for k, v in taken.items() if k.split("/")[0] == kind)
        theirs = sorted(a.tobytes() for k, a in arrays.items() if k.split("/")[0] == kind)
        assert ours == theirs, kind
    assert user.encode() not in bytes_of(driver.state)


def test_an_alert_about_who_came_back_has_an_id_of_its_own() -> None:
    """Others drop alerts that they have seen, and episodes begin again at 1."""
    user = "anna.meier@example.org"
    driver = busy(user)
    cutoff = driver.state.meta.clock_ms + 1
    erase(driver, order_for(user, cutoff))
    for day in range(1, 60):
        now = cutoff + day * DAY_MS
        driver.feed([], [order(user, now)] if day < 5 else [], clock_ms=now)
        driver.sweep(now + HOUR_MS)
    rows = [row for row in driver.rows("alerts") if row["user_id"] == user]
    keys = [(row["alert_id"], row["version"]) for row in rows]
    assert [row["episode"] for row in rows if row["raised_at"] > cutoff]
    assert len(keys) == len(set(keys))
