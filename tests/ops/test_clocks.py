"""What the doctor says about clocks."""

from __future__ import annotations

import pytest

from streams.ops.clocks import Fast, Worker, producers, workers

DAY_SECONDS = 86_400


def test_no_event_from_the_future_is_in_order() -> None:
    assert [v.state for v in producers([], 300)] == ["ok"]


@pytest.mark.parametrize(
    ("ahead_seconds", "words"),
    [
        (400 * DAY_SECONDS, "a producer's clock is 34,560,000 s fast"),
        (0, "events are over 300 s ahead of their own records"),
    ],
)
def test_a_fast_producer_is_named_with_place_and_customer(ahead_seconds: int, words: str) -> None:
    (found,) = producers([Fast("orders", 3, 12, 77, "ff3dabaa8cfe", ahead_seconds)], 300)
    assert found.state == "warn"
    assert found.detail.startswith(f"orders/3: {words}; 12 events")
    assert "offset 77 of customer ff3dabaa8cfe" in found.detail
    assert "NTP" in found.remedy


def test_workers_clocks_may_be_as_far_off_as_events() -> None:
    assert list(workers([], 300)) == []
    assert [v.state for v in workers([Worker(0, -1), Worker(1, 299)], 300)] == ["ok"]
    ahead, behind = workers([Worker(0, 0), Worker(1, 301), Worker(2, -4_000)], 300)
    assert (ahead.state, behind.state) == ("fail", "warn")
    assert ahead.detail == "shard 1: its clock is 301 s ahead of ClickHouse's"
    assert behind.detail == "shard 2: its clock is 4,000 s behind ClickHouse's"
