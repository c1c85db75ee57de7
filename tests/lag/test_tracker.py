"""Consumer groups over time: what looks at offsets add up to."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.committed import Committed
from streams.kafka.groups import Membership
from streams.lag.status import GroupLag, PartitionLag
from streams.lag.tracker import GroupWindow, LogWindow, Rules

P0, P1 = ("orders", 0), ("orders", 1)
N = 5
ALIVE = Membership(1, frozenset({"orders"}), {P0: "host-1", P1: "host-1"})
GONE = Membership(0, None)


class Watched:
    """A group on topic `orders`, looked at every 10 seconds."""

    def __init__(self, membership: Membership | None = ALIVE, rules: Rules | None = None) -> None:
        self.window = GroupWindow("g", rules or Rules(commits=N))
        self.log = LogWindow(N)
        self.membership = membership
        self.now_ms = 0

    def look(
        self, committed: int | None, end: int, start: int = 0, applied_ms: int = 0
    ) -> PartitionLag:
        offsets = {} if committed is None else {P0: Committed(committed, applied_ms)}
        self.now_ms += 10_000
        self.log.saw({P0: end}, {P0: start}, self.now_ms)
        group = self.window.look(self.now_ms, offsets, self.log, self.membership, [P0])
        return group.partitions[0]

    def steps(self, looks: Iterable[tuple[int, int]]) -> PartitionLag:
        found = [self.look(committed, end) for committed, end in looks]
        return found[-1]


def test_a_commit_is_a_number_and_none_is_not() -> None:
    watched = Watched()
    first = watched.look(None, 50)
    assert (first.status, first.committed, first.lag_records) == ("uncommitted", None, None)
    assert (first.lag_seconds, first.no_seconds) == (None, "uncommitted")
    read = watched.look(50, 50)
    assert (read.status, read.lag_records, read.lag_seconds) == ("ok", 0, 0.0)
    assert watched.look(60, 50).lag_records == 0, "the end was asked for before"


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(-1, 40), st.integers(-1, 40)), min_size=1, max_size=40))
def test_lag_and_seconds_are_never_negative(looks: list[tuple[int, int]]) -> None:
    watched = Watched()
    for committed, end in looks:
        seen = watched.look(committed, end)
        assert seen.lag_records is None or seen.lag_records >= 0
        assert seen.lag_seconds is None or seen.lag_seconds >= 0.0
        assert (seen.lag_seconds is None) == (seen.no_seconds != "")
        if seen.lag_records:
            assert seen.lag_seconds != 0.0 or seen.log_end != committed


@settings(max_examples=25)
@given(
    before=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12),
    more=st.lists(st.integers(0, 9), min_size=2 * N, max_size=2 * N),
    membership=st.sampled_from([ALIVE, GONE, None]),
)
def test_an_offset_that_is_stuck_below_the_end_is_never_ok_for_longer_than_the_window(
    before: list[tuple[int, int]], more: list[int], membership: Membership | None
) -> None:
    """Whatever was before: all commits of the window lie within the looks of `before`."""
    watched = Watched(membership)
    end = committed = 0
    for read, written in before:
        end += written
        committed = min(end, committed + read)
        watched.look(committed, end)
    end += 1
    for _ in range(len(before) + N):
        watched.look(committed, end)
    for written in more:
        end += written
        status = watched.look(committed, end).status
        assert status in ("stop", "stall", "pending")
    for _ in range(3 * N):
        watched.look(committed, end)
    assert watched.look(committed, end).status in ("stop", "stall")


def test_a_consumer_that_is_gone_has_stopped_and_one_that_is_there_has_stalled() -> None:
    reads = [(10 * n, 10 * n) for n in range(1, N + 1)]
    stands = [(10 * N, 10 * N + n) for n in range(1, 2 * N)]
    assert Watched(ALIVE).steps(reads + stands).status == "stall"
    assert Watched(GONE).steps(reads + stands).status == "stop"
    assert Watched(None).steps(reads + stands).status == "stop"


def test_a_consumer_that_is_too_slow_is_a_warning_and_catches_up() -> None:
    slow = [(10 * n, 12 * n) for n in range(1, 2 * N)]
    watched = Watched()
    seen = watched.steps(slow)
    assert seen.status == "warn"
    assert seen.records_per_second == pytest.approx(0.2)
    assert seen.seconds_to_close is None
    since = seen.since_ms
    assert watched.look(10 * 2 * N, 12 * 2 * N).since_ms == since
    faster = [(10 * 2 * N + 4 * n, 12 * 2 * N) for n in range(1, N + 1)]
    seen = watched.steps(faster)
    assert (seen.status, seen.lag_records) == ("ok", 0)
    assert seen.since_ms > since


def test_a_rewind_is_said_until_it_is_read_again() -> None:
    watched = Watched()
    assert watched.steps([(100 * n, 100 * n + 5) for n in range(1, N + 1)]).status == "warn"
    assert watched.look(10, 505).status == "rewind"
    assert watched.look(300, 505).status == "rewind"
    assert watched.look(500, 505).status == "ok", "it is where it was"


def test_a_monitor_that_just_started_does_not_judge() -> None:
    watched = Watched()
    assert [watched.look(7, 9).status for _ in range(3 * N)][:-1] == ["pending"] * (3 * N - 1)
    assert watched.look(7, 9).status == "stall", "for ever pending would be blind"


def test_no_answer_is_unknown_and_not_the_last_one() -> None:
    watched = Watched()
    watched.look(5, 5)
    watched.log.saw({P0: 9}, {}, 20_000)
    blind = watched.window.look(20_000, None, watched.log, None).partitions[0]
    assert (blind.status, blind.lag_records, blind.no_seconds) == ("unknown", None, "no_answer")
    watched.log.saw({}, {}, 30_000)
    no_end = watched.window.look(30_000, {P0: Committed(5)}, watched.log).partitions[0]
    assert (no_end.status, no_end.committed, no_end.lag_seconds) == ("unknown", 5, None)


def test_seconds_are_the_age_of_the_oldest_record_that_was_not_committed() -> None:
    watched = Watched()
    watched.look(100, 100)  # 10 s
    assert watched.look(100, 200).lag_seconds == 10.0  # written between 10 s and 20 s
    assert watched.look(150, 200).lag_seconds == 15.0  # at 15 s, as far as the table knows
    exact = watched.look(150, 200, applied_ms=17_000)
    assert exact.lag_seconds == 23.0, "the record before it is known to be of 17 s"
    assert watched.look(200, 200).lag_seconds == 0.0


def test_what_retention_deleted_has_no_age() -> None:
    seen = Watched().look(5, 100, start=20)
    assert (seen.lag_seconds, seen.no_seconds) == (None, "expired")
    assert (seen.retention_ratio, seen.seconds_to_loss) == (1.0, 0.0)


def test_topics_that_nobody_subscribes_to_are_marked_and_left_out_of_the_totals() -> None:
    window, log = GroupWindow("g", Rules(commits=N)), LogWindow(N)

    def look(now_ms: int, membership: Membership | None) -> GroupLag:
        log.saw({P0: 10, ("old", 0): 900 + now_ms}, {}, now_ms)
        offsets = {P0: Committed(10), ("old", 0): Committed(5)}
        return window.look(now_ms, offsets, log, membership)

    for n in range(1, 4 * N):
        group = look(n * 1000, ALIVE)
    assert [p.subscribed for p in group.partitions] == [False, True]
    assert (group.status, group.total_records, group.max_seconds) == ("ok", 0, 0.0)
    assert group.partitions[0].lag_records
    assert group.partitions[1].owner == "host-1"
    empty = look(4 * N * 1000, GONE)
    assert empty.status == "error", "who subscribes is not known of a group without members"


def test_markers_at_the_end_are_no_lag_once_somebody_has_looked() -> None:
    watched = Watched()
    for _ in range(N - 1):
        watched.look(99, 100)
    assert watched.window.stuck(watched.log, 10) == []
    watched.look(99, 100)
    assert watched.window.stuck(watched.log, 10) == [(P0, 99, 100)]
    watched.log.nothing_between(P0, 99, 100)
    assert (watched.look(99, 100).lag_records, watched.look(99, 100).status) == (0, "ok")
    assert watched.look(98, 100).lag_records == 2, "it went back"
    assert watched.look(99, 101).lag_records == 2, "there is something new"
    assert watched.look(99, 101).lag_records == 2


def test_a_commit_too_near_to_the_last_replaces_it_and_keeps_its_time() -> None:
    watched = Watched(rules=Rules(commits=N, min_distance_ms=15_000))
    for n in range(1, 5):
        seen = watched.look(n, 100)
    assert seen.window_ratio == 2 / N


def test_partitions_come_and_go_and_the_others_keep_their_windows() -> None:
    window, log = GroupWindow("g", Rules(commits=N)), LogWindow(N)

    def look(n: int, *places: tuple[str, int]) -> GroupLag:
        log.saw({P0: 100, P1: 100}, {}, n * 1000)
        return window.look(n * 1000, {place: Committed(n) for place in places}, log)

    for n in range(1, N + 1):
        look(n, P1)
    both = look(N + 1, P0, P1)
    assert [p.window_ratio for p in both.partitions] == [1 / N, 1.0]
    assert [p.since_ms for p in both.partitions] == [6_000, 5_000]
    only = look(N + 2, P0)
    assert only.names == (P0,)
    assert only.columns.window_ratio.tolist() == [2 / N]


def test_records_before_the_first_look_get_their_times_from_the_log() -> None:
    log = LogWindow(N)
    log.saw({P0: 1000}, {P0: 0}, 500_000)
    assert log.needs_earlier(*P0, 400)
    assert not log.needs_earlier(*P0, 1000)
    assert not log.needs_earlier("other", 0, 3)
    log.begin(*P0, 0, 100_000)
    assert not log.needs_earlier(*P0, 400)
    assert log.written_ms(*P0, 500, 0) == 300_000
