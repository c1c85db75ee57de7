"""Velocity, time to close, retention and hot partitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lag.trends import (
    hot_partitions,
    retention_ratio,
    seconds_to_close,
    seconds_to_loss,
    velocity,
)


@given(
    st.integers(0, 10**9), st.integers(-10**5, 10**5),
    st.lists(st.integers(1, 10**4), min_size=2, max_size=12),
)  # fmt: skip
def test_velocity_of_a_line_is_its_slope(start: int, slope: int, gaps_s: list[int]) -> None:
    seconds = np.cumsum(gaps_s)
    start = max(start, -slope * int(seconds[-1]))
    lags = (start + slope * seconds)[None, :]
    assert velocity(seconds * 1000, lags)[0] == pytest.approx(slope, abs=1e-6, rel=1e-6)


def test_velocity_leaves_out_looks_without_a_number() -> None:
    times = np.array([0, 1_000, 2_000, 3_000])
    lags = np.array([[0, -1, 20, 30], [-1, -1, -1, 7], [-1, -1, -1, -1], [9, 9, 9, 9]])
    found = velocity(times, lags)
    assert found[0] == pytest.approx(10)
    assert np.isnan(found[1:3]).all()
    assert found[3] == 0


def test_time_to_close_is_for_a_lag_that_shrinks() -> None:
    lags = np.array([90, 90, 90, 0, -1])
    found = seconds_to_close(lags, np.array([-3.0, 0.0, math.nan, 5.0, -1.0]))
    assert found[:2].tolist() == [30.0, math.inf]
    assert math.isnan(found[2])
    assert found[3] == 0.0
    assert math.isnan(found[4])


def test_data_is_lost_when_the_unread_share_reaches_one() -> None:
    """100 records are retained; the group grows its lag of 40 by 2 per second."""
    committed, starts, ends = np.array([160]), np.array([100]), np.array([200])
    assert retention_ratio(committed, starts, ends)[0] == 0.4
    assert seconds_to_loss(committed, starts, ends, np.array([2.0]))[0] == 30.0
    after = retention_ratio(committed, starts + 60, ends + 60)
    assert after[0] == 1.0, "30 s later: 120 more were written, half of them beyond the growth"
    assert seconds_to_loss(committed, starts, ends, np.array([-2.0]))[0] == math.inf
    assert seconds_to_loss(committed, starts + 61, ends, np.array([-2.0]))[0] == 0.0


@given(st.integers(-1, 100), st.integers(-1, 100), st.integers(-1, 100))
def test_a_share_is_a_share_or_nothing(committed: int, start: int, end: int) -> None:
    ratio = retention_ratio(np.array([committed]), np.array([start]), np.array([end]))[0]
    if min(committed, start, end) < 0:
        assert math.isnan(ratio)
    else:
        assert 0.0 <= ratio <= 1.0


def test_a_partition_is_hot_against_the_others_of_its_topic() -> None:
    assert hot_partitions(np.array([5.0, 5.0, 5.0, 16.0])).tolist() == [False] * 3 + [True]
    assert not hot_partitions(np.array([5.0, 5.0, 5.0, 15.0])).any()
    assert not hot_partitions(np.array([0.0, 0.0, 0.0, 0.5])).any(), "next to nothing is not hot"
    assert not hot_partitions(np.array([1.0, 90.0])).any(), "two can't be told apart"
    assert hot_partitions(np.array([math.nan, 0.0, 0.0, 9.0])).tolist() == [False] * 3 + [True]
