"""Fetched records: overlaps are dropped, and what is missing is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.plan import Plan
from streams.shard.inbox import Inbox


def run(*offsets: int) -> Records:
    return Records.of(
        np.array(offsets, np.int64),
        np.array([1000 + o for o in offsets], np.int64),
        [b"k%d" % o for o in offsets],
        [b"v%d" % o for o in offsets],
    )


def span(start: int, stop: int) -> Records:
    return run(*range(start, stop))


def plan(*stop: int) -> Plan:
    return Plan(1, (0, 0), (stop[0], stop[1]), 0, 0)


def offsets(inbox: Inbox, source: int = CLICKSTREAM) -> list[int]:
    found: list[int] = inbox.pending([None, None])[source].offsets.tolist()
    return found


def test_batches_that_follow_each_other_wait_in_order() -> None:
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, span(5, 8))
    inbox.offer(CLICKSTREAM, span(8, 10))
    inbox.offer(ORDERS, span(0, 2))
    assert offsets(inbox) == [5, 6, 7, 8, 9]
    assert (len(inbox), inbox.waiting(CLICKSTREAM), inbox.waiting(ORDERS)) == (7, 5, 2)


@pytest.mark.parametrize("again", [(5, 8), (0, 6), (5, 6), (0, 0)])
def test_what_is_known_is_dropped(again: tuple[int, int]) -> None:
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, span(5, 8))
    inbox.offer(CLICKSTREAM, span(*again))
    assert offsets(inbox) == [5, 6, 7]


def test_an_overlap_is_cut_to_its_new_part() -> None:
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, span(3, 8))
    inbox.offer(CLICKSTREAM, span(6, 10))
    assert offsets(inbox) == [5, 6, 7, 8, 9]


def test_a_hole_before_a_batch_is_known_exactly() -> None:
    inbox = Inbox((5, 0))
    assert inbox.missing_before(CLICKSTREAM, span(9, 12)) == (5, 9)
    assert inbox.missing_before(CLICKSTREAM, span(5, 12)) is None
    assert inbox.missing_before(CLICKSTREAM, span(3, 12)) is None
    assert inbox.missing_before(CLICKSTREAM, span(0, 0)) is None
    assert inbox.missing_before(ORDERS, span(2, 3)) == (0, 2)
    inbox.offer(CLICKSTREAM, span(5, 9))
    assert inbox.missing_before(CLICKSTREAM, span(9, 12)) is None
    inbox.offer(CLICKSTREAM, span(9, 12))
    assert offsets(inbox) == list(range(5, 12))


def test_a_hole_that_the_log_has_as_well_is_real() -> None:
    """Transaction markers and compacted records take up offsets that never arrive."""
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, run())  # what the log had in between
    inbox.offer(CLICKSTREAM, span(7, 12))
    assert offsets(inbox) == [7, 8, 9, 10, 11]


def test_holes_inside_a_batch_are_the_brokers_and_pass() -> None:
    inbox = Inbox((0, 0))
    inbox.offer(CLICKSTREAM, run(0, 1, 4, 9))
    assert offsets(inbox) == [0, 1, 4, 9]
    assert inbox.missing_before(CLICKSTREAM, span(10, 12)) is None


@pytest.mark.parametrize("stop", range(13))
def test_take_cuts_anywhere_and_leaves_the_rest(stop: int) -> None:
    inbox = Inbox((0, 0))
    for part in (span(0, 3), span(3, 4), run(6, 7, 8), span(9, 12)):
        inbox.offer(CLICKSTREAM, part)
    clicks, orders = inbox.take(plan(stop, 0))
    everything = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert clicks.offsets.tolist() == [o for o in everything if o < stop]
    assert list(clicks.values) == [b"v%d" % o for o in everything if o < stop]
    assert offsets(inbox) == [o for o in everything if o >= stop]
    assert len(orders) == 0


@pytest.mark.parametrize(("end", "caught_up"), [(None, False), (8, True), (7, True), (9, False)])
def test_caught_up_means_that_the_log_has_no_more(end: int | None, caught_up: bool) -> None:
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, span(5, 8))
    assert inbox.pending([end, None])[CLICKSTREAM].caught_up is caught_up


def test_nothing_fetched_and_nothing_in_the_log_is_caught_up() -> None:
    clicks, orders = Inbox((0, 3)).pending([0, 4])
    assert clicks.caught_up
    assert not orders.caught_up
    assert len(clicks.offsets) == 0
