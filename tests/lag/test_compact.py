"""Windows in half the memory: every number comes back as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streams.lag.commits import Commits, KeptCommits
from streams.lag.compact import Compact, shared

TOP = 2**63 - 1
LATE_MS = 1_800_000_000_000
"""A time of today: far from 0 in milliseconds."""


@given(
    st.lists(
        arrays.arrays(
            np.int64, (3, 4), elements=st.integers(-1, TOP) | st.integers(TOP - 2**33, TOP)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_numbers_come_back_one_after_the_other(matrices: list[np.ndarray]) -> None:
    compact = Compact(matrices[0])
    for matrix in matrices:
        compact.put(matrix)
        assert compact.values().dtype == np.int64
        assert compact.values().tolist() == matrix.tolist()


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ([TOP - 2**31, TOP], True),
        ([TOP - 2**31 - 1, TOP], False),
        ([2**31 - 1, 0], True),
        ([2**31, 0], False),
        ([TOP, -1], False),
        ([-1, TOP], False),
        ([-(2**63), TOP], False),
    ],
)
def test_distances_from_the_newest_take_half_the_memory_where_they_fit(
    row: list[int], fits: bool
) -> None:
    compact = Compact(np.array([row], np.int64))
    assert compact.values().tolist() == [row]
    assert compact.nbytes == (4 * 2 + 8 if fits else 8 * 2)


def test_a_matrix_that_fits_again_is_small_again() -> None:
    compact = Compact(np.array([[5, 6]], np.int64))
    small = compact.nbytes
    compact.put(np.array([[0, 2**40]], np.int64))
    compact.put(np.array([[2**40, 2**40 + 1]], np.int64))
    assert (compact.nbytes, compact.values().tolist()) == (small, [[2**40, 2**40 + 1]])


def test_what_is_kept_does_not_change_with_what_it_was_made_of() -> None:
    matrix = np.array([[7, 8], [0, 2**50]], np.int64)  # kept whole
    compact = Compact(matrix)
    matrix[:] = 0
    compact.values()[:] = 0
    assert compact.values().tolist() == [[7, 8], [0, 2**50]]


def test_a_first_commit_at_any_offset_and_time_keeps_the_window_small() -> None:
    commits = Commits.none(2, 10)
    commits.add(np.array([2**62, -1]), np.array([2**40, -1]), LATE_MS, 0)
    for part in (commits.offset, commits.at_ms, commits.lag):
        assert Compact(part).nbytes == 2 * 10 * 4 + 2 * 8
    assert [each.offset for each in commits.of(0)] == [2**62]
    assert commits.of(1) == []
    kept = KeptCommits(Commits.none(2, 10))
    kept.put(commits)
    assert kept.open().of(0) == commits.of(0)


def test_a_column_is_shared_only_if_it_has_the_same_bits() -> None:
    old = np.array([0.0, np.nan])
    assert shared(np.array([0.0, np.nan]), old) is old
    for other in (
        np.array([-0.0, np.nan]),
        np.array([0.0]),
        np.array([0.0, np.nan], np.float32),
        old.view(np.int64),
        old.reshape(2, 1),
    ):
        assert shared(other, old) is other
