"""The ages of a step's records, kept in few numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.core.ages import Ages

NOW_MS = 1_800_000_000_000


def ages_of(*timestamps_ms: int) -> Ages:
    return Ages.of([np.array(timestamps_ms, np.int64)], NOW_MS)


@given(st.lists(st.integers(0, NOW_MS), max_size=200))
def test_no_record_is_lost_or_made_younger_or_a_64th_older(timestamps_ms: list[int]) -> None:
    ages = ages_of(*timestamps_ms)
    kept = np.repeat(ages.ages_ms, ages.counts)
    exact = np.sort(NOW_MS - np.array(timestamps_ms, np.int64))
    assert len(kept) == len(exact)
    assert (kept >= exact).all()
    assert (64 * (kept - exact) <= exact).all()
    young = exact < 128
    assert (kept[young] == exact[young]).all()


def test_however_many_records_there_are_the_numbers_are_few() -> None:
    rng = np.random.default_rng(0)
    ages = Ages.of([NOW_MS - rng.integers(0, 30 * 86_400_000, 100_000)], NOW_MS)
    assert int(ages.counts.sum()) == 100_000
    assert len(ages.ages_ms) < 2_000


def test_timestamps_that_no_clock_gave() -> None:
    ahead = ages_of(NOW_MS + 1, np.iinfo(np.int64).max)
    assert (ahead.ages_ms.tolist(), ahead.counts.tolist()) == ([0], [2])
    without = ages_of(-1, np.iinfo(np.int64).min)
    assert without.counts.tolist() == [2]
    assert without.ages_ms[0] >= NOW_MS
    assert len(ages_of().ages_ms) == 0


def test_ages_grow_and_never_shrink() -> None:
    ages = ages_of(NOW_MS - 100)
    assert ages.later(9_900).ages_ms.tolist() == [10_000]
    assert ages.later(-5).ages_ms.tolist() == [100]
