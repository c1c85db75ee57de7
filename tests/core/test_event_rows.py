"""Rows of `events`: each event that counted once, and what it said; all else is as without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.features import LISTED_FEATURE_NAMES
from streams.core.event_rows import EVENT_TABLE, EVENT_TYPES
from streams.core.events.events import KIND_OF_CLICK, KIND_OF_ORDER
from streams.core.features import features
from streams.core.hashing import hashes
from streams.core.samples import FEATURES_TABLE
from streams.core.state.snapshot import digest
from streams.core.texts import Texts
from tests.core.driving import T0, Driver, click, config, encode, order, record
from tests.core.oracle import DAY_MS, Wire
from tests.core.streams_of_events import random_batches
from tests.core.test_erasure import erase, order_for


def run(seed: int, late_share: float = 0.1, **rules: int) -> tuple[Driver, list[Wire]]:
    """A random stream with all the trouble there is, and the events in the order they came."""
    driver, sent = Driver(config(**rules)), []
    for batch in random_batches(seed, 40, late_share=late_share):
        driver.feed(batch.clicks, batch.orders, clock_ms=batch.now_ms, at_ms=batch.now_ms)
        sent += [*batch.clicks, *batch.orders]
    return driver, sent


@pytest.mark.parametrize("seed", range(6))
def test_every_event_that_counted_is_there_once(seed: int) -> None:
    driver, sent = run(seed)
    rows = driver.rows(EVENT_TABLE)
    assert len(rows) == sum(out.counts.scored for out in driver.outputs) > 100
    assert len({(r["user_id"], r["ts"], r["event_hash"]) for r in rows}) == len(rows)
    by_hash = {int(hash_of(e)): e for e in sent}
    for row in rows:
        event = by_hash[int(row["event_hash"])]
        assert (row["user_id"], row["ts"], row["type"]) == (
            event["user_id"], event["ts"], event["type"]
        )  # fmt: skip
        assert (row["item_id"], row["category"]) == (
            event.get("item_id", ""), event.get("category", "")
        )  # fmt: skip
        assert row["lines"] == len(event.get("lines", ()))
        assert row["shard"] == 3
        assert row["keep_days"] == 30
    missing = {int(hash_of(e)) for e in sent} - {int(r["event_hash"]) for r in rows}
    assert missing  # the late ones


def hash_of(event: Wire) -> Any:
    (hashed,) = hashes([event["event_id"]])
    return (~hashed if "order_id" in event else hashed) & 0xFFFFFFFF


def test_nothing_else_depends_on_them() -> None:
    on, off = run(7)[0], run(7, keep_events_days=0, keep_features_days=0)[0]
    kept = {EVENT_TABLE, FEATURES_TABLE}
    assert all(map(on.rows, kept))
    assert digest(on.state) == digest(off.state)
    for one, other in zip(on.outputs, off.outputs, strict=True):
        assert not kept & other.tables.keys()
        rest = {name: table for name, table in one.tables.items() if name not in kept}
        assert encode(replace(one, tables=rest)) == encode(other)


def test_a_row_says_what_the_event_said() -> None:
    driver = Driver(config(min_orders=1))
    lines = [{"item_id": "i", "amount": 5.0}, {"item_id": "j", "amount": 7.34}]
    placed = order("u", T0 + 5, 12.34, order_id="A", lines=lines)
    back = order("u", T0 + DAY_MS, 5.0, "returned", order_id="A")
    driver.feed(
        [
            click("u", T0, item_id="café ☕", category="drinks", session_id="s", simulated=True),
            click("u", T0 + 1, "review", rating=4.5, text="my secret", item_id=None),
            click("u", T0 + 2, "search", query="my secret"),
        ],
        [placed, back],
        clock_ms=T0 + DAY_MS,
    )
    view, review, search, first, returned = driver.rows(EVENT_TABLE)
    assert (view["item_id"], view["category"], view["simulated"]) == ("café ☕", "drinks", 1)
    assert view["session_hash"] == hashes(["s"])[0] & 0xFFFFFFFF
    assert (view["order_hash"], view["amount"], view["lines"]) == (0, 0, 0)
    assert (review["rating"], review["item_id"], review["simulated"]) == (np.float32(4.5), "", 0)
    assert review["session_hash"] == search["session_hash"] == T0 // 1_800_000
    assert (first["type"], first["amount"], first["lines"]) == ("placed", 12.34, 2)
    assert (returned["type"], returned["amount"]) == ("returned", 5.0)
    assert first["order_hash"] == returned["order_hash"] == hashes(["A"])[0]
    assert "secret" not in str(driver.rows(EVENT_TABLE))
    for row in (view, returned):
        assert (row["first_order_at"], row["taken_at"]) == (T0 + 5, T0 + DAY_MS)
        assert row["first_event_at"] == T0
        assert (row["lifecycle"], row["value_tier"]) == (
            driver.rows("score_history")[-1]["lifecycle"],
            driver.rows("score_history")[-1]["value_tier"],
        )


def test_visitors_have_no_first_order() -> None:
    driver = Driver(config())
    driver.feed([click("u", T0)])
    (row,) = driver.rows(EVENT_TABLE)
    assert (row["first_order_at"], row["lifecycle"], row["segments"]) == (0, "visitor", "")


def test_what_says_nothing_new_has_no_row() -> None:
    driver = Driver(config())
    view, placed = click("u", T0), order("u", T0, 5.0, order_id="A")
    again = {**placed, "event_id": "another"}
    driver.feed([view, view], [placed, again], at_ms=T0)
    driver.feed([view, click("u", T0 - 8 * DAY_MS)], [placed, again], at_ms=T0)
    driver.feed_rows([(b"u", b"{", T0), record(click("u", T0, "contacted"))], [])
    assert [row["type"] for row in driver.rows(EVENT_TABLE)] == ["view", "placed"]
    amended = {**placed, "event_id": "amended", "amount": 7.0}
    driver.feed([], [amended], at_ms=T0)
    assert [row["amount"] for row in driver.rows(EVENT_TABLE)] == [0, 5.0, 7.0]


def test_of_an_erased_person_nothing_more_is_written() -> None:
    driver = Driver(config())
    driver.feed([click("u0", T0), click("v", T0)], clock_ms=T0)
    erase(driver, order_for("u0", T0 + 10), clock_ms=T0 + 10)
    driver.feed([click("u0", T0 + 5), click("u0", T0 + 20), click("v", T0 + 5)], clock_ms=T0 + 20)
    written = [(row["user_id"], row["ts"] - T0) for row in driver.rows(EVENT_TABLE)]
    assert written == [("u0", 0), ("v", 0), ("u0", 20), ("v", 5)]


def test_types_are_by_the_number_of_their_kind() -> None:
    kinds = KIND_OF_CLICK | KIND_OF_ORDER
    assert [*EVENT_TYPES] == sorted(kinds, key=lambda each: kinds[each])


def test_features_come_with_each_score_row_and_are_those_it_was_made_of() -> None:
    driver = Driver(config(min_orders=1, sample_share=1.0))
    for day in range(1, 9):
        events = [order("u", T0 + day * DAY_MS), order("v", T0 + day * DAY_MS)]
        driver.feed([click("w", T0 + day * DAY_MS)], events, clock_ms=T0 + day * DAY_MS)
    scores, rows = driver.rows("score_history"), driver.rows(FEATURES_TABLE)
    keys = [(row["user_id"], row["seq"], row["scored_at"]) for row in rows]
    assert keys == [(row["user_id"], row["seq"], row["scored_at"]) for row in scores]
    assert {row["user_id"] for row in rows} == {"u", "v", "w"}
    assert {row["feature_names"] for row in rows} == {LISTED_FEATURE_NAMES}
    newest = {row["user_id"]: row["features"] for row in rows}
    for user, x in newest.items():
        (at,) = driver.state.rows_of(Texts.of([user]))
        again = features(driver.state, np.array([at]), T0 + 8 * DAY_MS)[0]
        assert x.tobytes() == again.tobytes()
