"""Clocks that are wrong: producers' that are fast, and state that trusted one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.driving import T0, Driver, bounded, click, config, order
from tests.core.oracle import DAY_MS

ALLOWED_MS = 300_000


def wall_driver() -> Driver:
    return Driver(config(max_future_ms=ALLOWED_MS))


def test_one_event_of_a_fast_clock_is_a_dead_letter_and_makes_nobody_late() -> None:
    driver = wall_driver()
    driver.feed([], [order(f"a{i}", T0) for i in range(10)], clock_ms=T0)
    fast = order("fast", T0 + 400 * DAY_MS)
    outputs = driver.feed([], [fast], clock_ms=T0)  # its record has the same clock
    assert [letter.reason for letter in outputs.dead_letters] == ["future_timestamp"]
    assert outputs.clock_leads_ms == (0, 400 * DAY_MS)
    after = driver.feed([click("a1", T0 + 5)], [order("a1", T0 + 5)], clock_ms=T0 + 10)
    assert (after.counts.scored, after.counts.late) == (2, 0)
    assert after.clock_leads_ms == (0, 0)
    assert after.watermark_lead_ms == 0


def test_the_lead_that_is_reported_is_the_largest_of_each_source() -> None:
    leads_ms = (ALLOWED_MS + 1, 9 * ALLOWED_MS, 2 * ALLOWED_MS)
    clicks = [click("u", T0 + lead) for lead in leads_ms]
    outputs = wall_driver().feed(clicks, [order("u", T0 + ALLOWED_MS)], clock_ms=T0)
    assert outputs.clock_leads_ms == (9 * ALLOWED_MS, 0)


def test_a_poisoned_watermark_heals_with_the_next_step_and_says_by_how_much() -> None:
    driver = wall_driver()
    driver.feed([], [order("u", T0)], clock_ms=T0)
    driver.state.meta.watermark_ms = T0 + 400 * DAY_MS  # of a build that trusted producers
    outputs = driver.feed([click("u", T0)], [order("u", T0 + 1)], clock_ms=T0 + 10)
    assert outputs.watermark_lead_ms == 400 * DAY_MS - 10 - ALLOWED_MS
    assert (outputs.counts.scored, outputs.counts.late) == (2, 0)
    assert driver.state.meta.watermark_ms == T0 + 10 + ALLOWED_MS
    assert driver.feed([click("u", T0)], clock_ms=T0 + 11).watermark_lead_ms == 0


def test_events_that_were_late_by_a_poisoned_watermark_count_once_they_are_replayed() -> None:
    poisoned, clean = wall_driver(), wall_driver()
    events = [order(f"u{i}", T0 + i) for i in range(5)]
    for driver in (poisoned, clean):
        driver.feed([], [order("u0", T0 - DAY_MS)], clock_ms=T0)
    poisoned.state.meta.watermark_ms = T0 + 400 * DAY_MS
    lost = poisoned.feed([], events)  # as the former build saw them: no clock to compare with
    assert lost.counts.late == len(events)
    for driver in (poisoned, clean):
        driver.feed([], events, clock_ms=T0 + 60_000)
    for user in (f"u{i}" for i in range(5)):
        assert poisoned.column("orders", user) == clean.column("orders", user)
        assert poisoned.column("revenue_cents", user) == clean.column("revenue_cents", user)


def test_the_event_clock_trusts_the_records_times_as_before() -> None:
    driver = wall_driver()
    driver.feed([], [order("u", T0)])
    outputs = driver.feed([], [order("u", T0 + 400 * DAY_MS)])
    assert (outputs.counts.scored, outputs.clock_leads_ms) == (1, (0, 0))
    assert driver.state.meta.watermark_ms == T0 + 400 * DAY_MS


@bounded
@given(
    st.lists(
        st.tuples(st.integers(-3 * DAY_MS, 3 * DAY_MS), st.booleans()), min_size=1, max_size=30
    ),
    st.integers(1, 7),
)
def test_whatever_producers_clocks_say_no_watermark_is_beyond_the_worker_s(
    events: list[tuple[int, bool]], per_step: int
) -> None:
    """And each event is refused exactly if it is further ahead than is allowed."""
    driver = wall_driver()
    clock_ms = T0
    for first in range(0, len(events), per_step):
        clock_ms += 1_000
        some = events[first : first + per_step]
        clicks = [click("u", clock_ms + ahead) for ahead, is_click in some if is_click]
        orders = [order("u", clock_ms + ahead) for ahead, is_click in some if not is_click]
        outputs = driver.feed(clicks, orders, clock_ms=clock_ms)
        assert driver.state.meta.watermark_ms <= clock_ms + ALLOWED_MS
        refused = sum(ahead > ALLOWED_MS for ahead, _ in some)
        assert [d.reason for d in outputs.dead_letters].count("future_timestamp") == refused
        assert outputs.counts.late == 0  # nothing is a week old
        assert max(outputs.clock_leads_ms) == max(
            (ahead for ahead, _ in some if ahead > ALLOWED_MS), default=0
        )


@pytest.mark.parametrize("clock_ms", [0, T0])
def test_a_watermark_that_is_plausible_stays(clock_ms: int) -> None:
    driver = wall_driver()
    driver.feed([click("u", T0)], clock_ms=clock_ms)
    before = driver.state.meta.watermark_ms
    assert driver.feed([], [], clock_ms=clock_ms, sweep_rows=1).watermark_lead_ms == 0
    assert driver.state.meta.watermark_ms == before == T0
