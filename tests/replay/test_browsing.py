"""Simulated browsing: marked, deterministic, coherent, and no oracle of what comes next."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

from schemas.errors import SettingsError
from streams.replay.browsing import with_browsing
from streams.replay.completejourney import CompleteJourney
from streams.replay.records import CLICKSTREAM, ORDERS, Block

BUYING_MS = 45 * 60_000


@pytest.fixture(scope="module")
def records(month: CompleteJourney) -> Block:
    return list(chain.from_iterable(with_browsing(month)))


def _clicks(records: Block) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in records if r.topic_kind == CLICKSTREAM]


def test_every_event_is_valid_and_says_that_it_is_simulated(records: Block, schemas: Any) -> None:
    for record in records[::20]:
        schemas.check(record)
    for record in records:
        event = json.loads(record.value)
        assert record.timestamp_ms == event["ts"]
        assert event.get("simulated", False) == (record.topic_kind == CLICKSTREAM)
        if event["type"] == "review":
            assert event["rating"] in (1, 2, 3, 4, 5)


def test_the_summary_says_simulated(month: CompleteJourney) -> None:
    assert "simulated" in with_browsing(month).summary()["browsing"]


def test_orders_pass_unchanged_and_all_is_in_time_order(
    month: CompleteJourney, records: Block
) -> None:
    assert [r for r in records if r.topic_kind == ORDERS] == list(chain.from_iterable(month))
    assert all(a.timestamp_ms <= b.timestamp_ms for a, b in pairwise(records))


def test_the_rate_is_close_to_the_requested_one(month: CompleteJourney) -> None:
    for rate in (2.0, 6.0):
        clicks = _clicks(list(chain.from_iterable(with_browsing(month, rate))))
        # A little less: browsing after the last order is cut off.
        assert 0.85 * rate < len(clicks) / month.expected_records < 1.02 * rate


def test_the_same_seed_gives_the_same_browsing_whatever_the_blocks(
    month: CompleteJourney, records: Block
) -> None:
    import dataclasses  # noqa: PLC0415

    other = dataclasses.replace(month, block_orders=77)
    assert list(chain.from_iterable(with_browsing(other))) == records
    assert list(chain.from_iterable(with_browsing(month, seed=1))) != records


def test_an_orders_browsing_does_not_depend_on_the_others(records: Block) -> None:
    from streams.replay import completejourney  # noqa: PLC0415

    few = list(chain.from_iterable(with_browsing(completejourney.orders(days=(0, 30), users=50))))
    keys = {r.key for r in few}
    end_ms = few[-1].timestamp_ms
    mine = [r for r in records if r.key in keys and r.timestamp_ms < end_ms]
    assert sorted(few[:-1]) == sorted(mine)


def test_nothing_is_seen_of_an_order_earlier_than_its_buying_session(records: Block) -> None:
    """Each event is within the buying session before an order, or after one: never a hint of an
    order further away than that."""
    ordered: defaultdict[str, list[int]] = defaultdict(list)
    for r in records:
        if r.topic_kind == ORDERS and r.key is not None:
            ordered[r.key.decode()].append(r.timestamp_ms)
    for click in _clicks(records):
        times = np.array(ordered[click["user_id"]])
        before = times[times <= click["ts"]]
        after = times[times > click["ts"]]
        assert before.size or after[0] - click["ts"] <= BUYING_MS


def test_what_leaves_the_cart_was_put_there(records: Block) -> None:
    sessions: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for click in _clicks(records):
        sessions[click["session_id"]].append(click)
    removed = 0
    for clicks in sessions.values():
        assert len({c["user_id"] for c in clicks}) == 1
        added: list[str] = []
        for click in clicks:
            if click["type"] == "cart_add":
                added.append(click["item_id"])
            if click["type"] == "cart_remove":
                removed += 1
                assert click["item_id"] in added
    assert removed > 20


def test_event_ids_are_unique(records: Block) -> None:
    clicks = _clicks(records)
    assert len({c["event_id"] for c in clicks}) == len(clicks)


def test_no_browsing_at_rate_zero_and_a_negative_rate_is_refused(month: CompleteJourney) -> None:
    assert list(chain.from_iterable(with_browsing(month, 0))) == list(chain.from_iterable(month))
    with pytest.raises(SettingsError, match="-1"):
        with_browsing(month, -1)


def test_visitors_browse_and_never_order(
    month: CompleteJourney, records: Block, schemas: Any
) -> None:
    with_visitors = list(chain.from_iterable(with_browsing(month, visitors=0.05)))
    theirs = [r for r in with_visitors if (r.key or b"").startswith(b"visitor-")]
    # Nothing else changes, and nobody else's events are in their name.
    assert [r for r in with_visitors if r not in set(theirs)] == records
    assert all(a.timestamp_ms <= b.timestamp_ms for a, b in pairwise(with_visitors))
    for record in theirs:
        event = schemas.check(record)
        assert event["simulated"] is True
        assert event["type"] != "review"  # of what they never bought
    visitors = {r.key for r in theirs}
    assert 0.03 < len(visitors) / month.expected_records < 0.07
    assert len(theirs) > 3 * len(visitors)
    ids = [json.loads(r.value)["event_id"] for r in with_visitors]
    assert len(set(ids)) == len(ids)


def test_the_summary_counts_visitors_and_a_share_above_one_is_refused(
    month: CompleteJourney,
) -> None:
    browsing = with_browsing(month, visitors=0.05)
    assert "one per 20 orders" in browsing.summary()["browsing"]
    assert browsing.expected_records == round(month.expected_records * (1 + 6 * 1.05))
    with pytest.raises(SettingsError, match="visitors is 2"):
        with_browsing(month, visitors=2)
