from __future__ import annotations

from dataclasses import replace

from tests.shop.facts import Cancelled, Click, Fact, Line, Placed, Returned
from tests.shop.recount import Customer, recount

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
NOW_MS = 20_000 * DAY_MS + 10 * HOUR_MS + 7 * MINUTE_MS
LINES = (Line("cup", 2, 800, "kitchen"), Line("tea", 1, 400))
ORDER = Placed("e1", "ann", NOW_MS - HOUR_MS, "1", 1_200, LINES, 300, "SPRING")


def counted(*facts: Fact, now_ms: int = NOW_MS) -> Customer:
    return recount(facts, lambda user: now_ms)["ann"]


def test_an_order_is_in_every_window_that_covers_its_tile() -> None:
    found = counted(ORDER)
    assert (found.orders, found.revenue_cents) == (1, 1_200)
    assert found.first_order_ms == found.last_order_ms == found.first_seen_ms == ORDER.ts_ms
    assert {w: found.windows.get(("orders", w)) for w in ("1h", "24h", "7d", "90d")} == {
        "1h": None, "24h": 1, "7d": 1, "90d": 1,
    }  # fmt: skip
    of_day = {name: total for (name, window), total in found.windows.items() if window == "24h"}
    assert of_day == {
        "orders": 1, "order_lines": 2, "coupon_orders": 1, "revenue_cents": 1_200,
        "discount_cents": 300, "distinct_items": 2, "distinct_categories": 1,
    }  # fmt: skip


def test_a_window_covers_the_running_tile_and_those_before_it_up_to_its_length() -> None:
    # 10:07 is in the tile of 10:05, so the hour's oldest tile is that of 9:10
    begin_ms = NOW_MS - 57 * MINUTE_MS
    inside, outside = replace(ORDER, ts_ms=begin_ms), replace(ORDER, ts_ms=begin_ms - 1)
    assert counted(inside).windows["orders", "1h"] == 1
    assert ("orders", "1h") not in counted(outside).windows
    oldest_day_ms = (20_000 - 6) * DAY_MS
    assert counted(replace(ORDER, ts_ms=oldest_day_ms)).windows["orders", "7d"] == 1
    assert ("orders", "7d") not in counted(replace(ORDER, ts_ms=oldest_day_ms - 1)).windows


def test_event_ahead_of_the_clock_counts_at_once() -> None:
    assert counted(replace(ORDER, ts_ms=NOW_MS + 10 * MINUTE_MS)).windows["orders", "1h"] == 1


def test_repeated_fact_counts_once() -> None:
    assert counted(ORDER, ORDER) == counted(ORDER)


def test_the_latest_version_of_an_order_counts_at_the_time_of_the_first() -> None:
    more = (*LINES, Line("spoon", 1, 100))
    later = replace(ORDER, event_id="e2", ts_ms=ORDER.ts_ms + 2 * HOUR_MS, cents=1_300, lines=more)
    found = counted(later, ORDER)
    assert (found.orders, found.revenue_cents, found.last_order_ms) == (1, 1_300, ORDER.ts_ms)
    assert found.windows["order_lines", "24h"] == 3
    assert found.last_activity_ms == later.ts_ms


def test_cancelled_order_leaves_only_its_refund_and_touched_items() -> None:
    found = counted(ORDER, Cancelled("e2", "ann", NOW_MS, "1", 1_200))
    assert (found.orders, found.revenue_cents, found.first_order_ms) == (0, 0, 0)
    of_day = {name: total for (name, window), total in found.windows.items() if window == "24h"}
    assert of_day == {
        "cancellations": 1, "refund_cents": 1_200, "distinct_items": 2, "distinct_categories": 1,
    }  # fmt: skip


def test_whether_the_first_order_is_known_depends_on_how_many_there_were() -> None:
    many = [replace(ORDER, order=f"{n}", ts_ms=NOW_MS - n * DAY_MS) for n in range(25)]
    gone = Cancelled("c", "ann", NOW_MS, "24", 1_200)
    assert counted(*many, gone).first_order_is_vague
    assert not counted(*many).first_order_is_vague
    assert not counted(*many[1:], gone).first_order_is_vague


def test_returns_lower_revenue_but_never_below_zero() -> None:
    back = [Returned(f"r{n}", "ann", NOW_MS - n * DAY_MS, "1", 500) for n in range(3)]
    assert counted(ORDER, *back[:2]).revenue_cents == 200
    found = counted(ORDER, *back)
    assert (found.orders, found.revenue_cents) == (1, 0)
    assert found.windows["refund_cents", "7d"] == 1_500
    assert found.windows["refund_cents", "24h"] == 500


def test_items_and_sessions_count_once_at_the_five_minutes_of_their_last_time() -> None:
    times = (NOW_MS - 2 * DAY_MS, NOW_MS - HOUR_MS, NOW_MS - 58 * MINUTE_MS)
    clicks = [Click(f"k{n}", "ann", ts, "view", "s", "cup") for n, ts in enumerate(times)]
    found = counted(*clicks)
    assert found.windows["view", "7d"] == 3
    assert found.windows["distinct_items", "7d"] == found.windows["sessions", "7d"] == 1
    assert found.windows["distinct_items", "24h"] == 1
    # 9:09 is in the tile of 9:05, which the hour does not reach any more
    assert ("distinct_items", "1h") not in found.windows


def test_without_a_session_each_half_hour_is_one() -> None:
    begin_ms = 20_000 * DAY_MS
    times = (0, 29 * MINUTE_MS, 30 * MINUTE_MS)
    clicks = [Click(f"k{n}", "ann", begin_ms + ts, "search") for n, ts in enumerate(times)]
    assert counted(*clicks).windows["sessions", "24h"] == 2


def test_ratings_are_added_up_in_tenths_of_a_star() -> None:
    reviews = [Click(f"k{n}", "ann", NOW_MS, "review", rating_tenths=r) for n, r in enumerate((45, 20))]  # noqa: E501  # fmt: skip
    found = counted(*reviews)
    assert (found.windows["rating_tenths", "1h"], found.windows["ratings", "1h"]) == (65, 2)


def test_every_customer_has_the_clock_of_the_shard() -> None:
    other = replace(ORDER, user="bob")
    clocks = {"ann": NOW_MS, "bob": NOW_MS + 100 * DAY_MS}
    found = recount([ORDER, other], clocks.__getitem__)
    assert found["ann"].windows
    assert not found["bob"].windows
    assert found["bob"].orders == 1
