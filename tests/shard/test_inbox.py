"""Fetched records: overlaps are dropped, and what is missing is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.plan import Plan
from streams.shard.inbox import Inbox
from streams.shard.intake import holes


def run(*offsets: int) -> Records:
    return Records.of(
        np.array(offsets, np.int64),
        np.array([1000 + o for o in offsets], np.int64),
        [b"k%d" % o for o in offsets],
        [b"v%d" % o for o in offsets],
    )


def offer(inbox: Inbox, source: int, records: Records) -> None:
    """A fetch that ends with its last record."""
    inbox.offer(source, records, int(records.offsets[-1]) + 1 if len(records) else 0)


def span(start: int, stop: int) -> Records:
    return run(*range(start, stop))


def plan(*stop: int) -> Plan:
    return Plan(1, (0, 0), (stop[0], stop[1]), 0, 0)


def offsets(inbox: Inbox, source: int = CLICKSTREAM) -> list[int]:
    found: list[int] = inbox.pending([None, None])[source].offsets.tolist()
    return found


def test_batches_that_follow_each_other_wait_in_order() -> None:
    inbox = Inbox((5, 0))
    offer(inbox, CLICKSTREAM, span(5, 8))
    offer(inbox, CLICKSTREAM, span(8, 10))
    offer(inbox, ORDERS, span(0, 2))
    assert offsets(inbox) == [5, 6, 7, 8, 9]
    assert (len(inbox), inbox.waiting(CLICKSTREAM), inbox.waiting(ORDERS)) == (7, 5, 2)


@pytest.mark.parametrize("again", [(5, 8), (0, 6), (5, 6), (0, 0)])
def test_what_is_known_is_dropped(again: tuple[int, int]) -> None:
    inbox = Inbox((5, 0))
    offer(inbox, CLICKSTREAM, span(5, 8))
    offer(inbox, CLICKSTREAM, span(*again))
    assert offsets(inbox) == [5, 6, 7]


def test_an_overlap_is_cut_to_its_new_part() -> None:
    inbox = Inbox((5, 0))
    offer(inbox, CLICKSTREAM, span(3, 8))
    offer(inbox, CLICKSTREAM, span(6, 10))
    assert offsets(inbox) == [5, 6, 7, 8, 9]


def test_a_hole_before_a_batch_is_known_exactly() -> None:
    inbox = Inbox((5, 0))
    assert inbox.missing_before(CLICKSTREAM, 9) == (5, 9)
    assert inbox.missing_before(CLICKSTREAM, 5) is None
    assert inbox.missing_before(CLICKSTREAM, 3) is None
    assert inbox.missing_before(ORDERS, 2) == (0, 2)
    offer(inbox, CLICKSTREAM, span(5, 9))
    assert inbox.missing_before(CLICKSTREAM, 9) is None
    offer(inbox, CLICKSTREAM, span(9, 12))
    assert offsets(inbox) == list(range(5, 12))


def test_a_hole_that_the_log_has_as_well_is_real() -> None:
    """Transaction markers and compacted records take up offsets that never arrive."""
    inbox = Inbox((5, 0))
    inbox.offer(CLICKSTREAM, run(), 7, [(5, 7)])  # what the log had in between
    offer(inbox, CLICKSTREAM, span(7, 12))
    assert offsets(inbox) == [7, 8, 9, 10, 11]
    assert inbox.pending([None, None])[CLICKSTREAM].skipped_before(12) == 2


def test_markers_behind_the_last_record_are_passed_with_it() -> None:
    inbox = Inbox((0, 0))
    inbox.offer(CLICKSTREAM, span(0, 3), 5, [(3, 5)])
    clicks, _ = inbox.pending([5, 0])
    assert clicks.caught_up
    assert [clicks.behind(n, 0) for n in (0, 2, 3)] == [0, 2, 5]
    assert [clicks.skipped_before(stop) for stop in (2, 3, 5)] == [0, 0, 2]
    taken, _ = inbox.take(plan(5, 0))
    assert taken.offsets.tolist() == [0, 1, 2]
    assert inbox.pending([5, 0])[CLICKSTREAM].skipped == ()


def test_a_fetch_of_markers_alone_moves_on() -> None:
    inbox = Inbox((0, 0))
    inbox.offer(CLICKSTREAM, run(), 2, [(0, 2)])
    assert inbox.missing_before(CLICKSTREAM, 2) is None
    assert inbox.pending([2, 0])[CLICKSTREAM].behind(0, 0) == 2


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), [(3, 9)]), ((3, 4, 5, 6, 7, 8), []), ((3, 8), [(4, 8)]),
        ((5,), [(3, 5), (6, 9)]), ((4, 6), [(3, 4), (5, 6), (7, 9)]),
    ],
)  # fmt: skip
def test_holes_are_the_offsets_without_a_record(
    found: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    assert holes(run(*found), 3, 9) == expected


def test_holes_inside_a_batch_are_the_brokers_and_pass() -> None:
    inbox = Inbox((0, 0))
    offer(inbox, CLICKSTREAM, run(0, 1, 4, 9))
    assert offsets(inbox) == [0, 1, 4, 9]
    assert inbox.missing_before(CLICKSTREAM, 10) is None


@pytest.mark.parametrize("stop", range(13))
def test_take_cuts_anywhere_and_leaves_the_rest(stop: int) -> None:
    inbox = Inbox((0, 0))
    for part in (span(0, 3), span(3, 4), run(6, 7, 8), span(9, 12)):
        offer(inbox, CLICKSTREAM, part)
    clicks, orders = inbox.take(plan(stop, 0))
    everything = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert clicks.offsets.tolist() == [o for o in everything if o < stop]
    assert list(clicks.values) == [b"v%d" % o for o in everything if o < stop]
    assert offsets(inbox) == [o for o in everything if o >= stop]
    assert len(orders) == 0


@pytest.mark.parametrize(("end", "caught_up"), [(None, False), (8, True), (7, True), (9, False)])
def test_caught_up_means_that_the_log_has_no_more(end: int | None, caught_up: bool) -> None:
    inbox = Inbox((5, 0))
    offer(inbox, CLICKSTREAM, span(5, 8))
    assert inbox.pending([end, None])[CLICKSTREAM].caught_up is caught_up


def test_nothing_fetched_and_nothing_in_the_log_is_caught_up() -> None:
    clicks, orders = Inbox((0, 3)).pending([0, 4])
    assert clicks.caught_up
    assert not orders.caught_up
    assert len(clicks.offsets) == 0
