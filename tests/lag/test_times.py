"""Lag in seconds: the table of offsets and times, without a broker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.lag.times import POINTS, OffsetTimes

ONLY = np.array([0])


def table(*seen: tuple[int, int]) -> OffsetTimes:
    """A table of one partition that saw these (end offset, second)."""
    times = OffsetTimes(1)
    for end, second in seen:
        times.saw(ONLY, np.array([end]), second * 1000)
    return times


def written_s(times: OffsetTimes, offset: int, after_s: float = 0) -> float | None:
    found = times.written_ms(0, offset, int(after_s * 1000))
    return None if found is None else found / 1000


def test_a_record_was_written_between_two_looks() -> None:
    times = table((100, 10), (200, 20))
    assert [written_s(times, offset) for offset in (100, 150, 199)] == [10, 15, 19.9]


def test_without_a_point_on_both_sides_there_is_no_time() -> None:
    times = table((100, 10), (200, 20))
    assert written_s(times, 99) is None, "never extrapolated backwards"
    assert written_s(times, 200) is None, "that record does not exist yet"
    assert written_s(OffsetTimes(1), 0) is None


def test_a_burst_is_not_stretched_over_the_silence_before_or_after_it() -> None:
    times = table((100, 0), (100, 50), (1100, 60), *((1100, 60 + n) for n in range(1, 300)))
    assert [written_s(times, offset) for offset in (100, 600, 1099)] == [50, 55, 59.99]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=100))
def test_the_time_of_a_record_does_not_move_while_a_burst_drains(silences: list[int]) -> None:
    times = table((100, 0), (1100, 10))
    before = written_s(times, 400)
    second = 10
    for silence in silences:
        second += silence
        times.saw(ONLY, np.array([1100]), second * 1000)
    assert written_s(times, 400) == before


def test_the_record_before_narrows_the_bracket() -> None:
    times = table((100, 0), (1100, 1000))
    assert written_s(times, 600) == 500
    assert written_s(times, 600, after_s=700) == 700
    assert written_s(times, 600, after_s=5000) == 1000, "clocks differ: not after it was seen"
    idle = table((100, 0), (100, 3600), (101, 3601))
    assert written_s(idle, 100, after_s=1) == 3600, "an old record before it makes no false lag"


def test_known_records_are_brackets_for_what_was_written_before_the_first_look() -> None:
    times = table((1000, 500))
    assert times.first_offset(0) == 1000
    times.begin(0, 900, 400_000)
    times.begin(0, 0, 40_000)
    assert [written_s(times, offset) for offset in (0, 450, 900, 950)] == [40, 220, 400, 450]
    times.begin(0, 950, 450_000)  # inside
    times.begin(0, 0, 20_000)  # known
    assert written_s(times, 450) == 220
    late = table((1000, 500))
    late.begin(0, 900, 600_000)  # the producer's clock is ahead
    assert written_s(late, 950) is None


def test_a_topic_that_was_created_again_begins_a_table_again() -> None:
    times = table((1000, 10), (2000, 20), (5, 30), (10, 40))
    assert (written_s(times, 7), written_s(times, 1500)) == (34, None)


def test_a_clock_that_was_set_back_leaves_the_table_in_order() -> None:
    times = table((100, 10), (200, 20), (300, 5), (400, 30))
    assert [written_s(times, offset) for offset in (150, 300)] == [15, 25]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 60)), min_size=2, max_size=120),
    st.data(),
)
def test_a_thinned_table_still_brackets(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    times, end, second = OffsetTimes(1), 0, 0
    seen = []
    for more, seconds in steps:
        end, second = end + more, second + seconds
        times.saw(ONLY, np.array([end]), second * 1000)
        seen.append((end, second))
    first = times.first_offset(0)
    assert first == seen[0][0], "the oldest point is kept"
    if end > first:
        offset = data.draw(st.integers(first, end - 1))
        found = written_s(times, offset)
        assert found is not None
        # Of the points that were dropped nothing is known: time runs evenly between those kept.
        kept = set(times._offset[0, : times._used[0]].tolist())
        assert found <= min(at for known, at in seen if known > offset and known in kept)
        assert found >= seen[0][1]


def test_partitions_are_apart_and_a_table_is_bounded() -> None:
    times = OffsetTimes(1)
    times.grow(3)
    for n in range(10 * POINTS):
        times.saw(np.array([0, 2]), np.array([n * 10, n]), n * 1000)
    assert times.is_empty(1)
    end = 10 * POINTS - 2
    assert written_s(times, end * 10) == end
    assert times.written_ms(2, end) == end * 1000
    assert times.records_per_second(0, 60_000) == pytest.approx(10)
    assert times.records_per_second(2, 60_000) == pytest.approx(1)
    assert times.records_per_second(1, 60_000) is None


def test_a_log_that_stands_grows_by_nothing() -> None:
    times = table((0, 0), (600, 60), *((600, 60 + n) for n in range(1, 121)))
    assert times.records_per_second(0, 60_000) == 0
