"""Features held by column read as they were added, bit for bit, and take no more than they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.training.columns import FeatureColumns, parts

F = 5
BITS = arrays(
    np.uint32, st.tuples(st.integers(0, 9), st.just(F)), elements=st.integers(0, 2**32 - 1)
)
USUAL = st.sampled_from([0.0, -0.0, 1.0, 2047.0, 2049.0, 0.1, 65504.0, 1e30, 1e-30, np.nan])


@st.composite
def blocks(draw: st.DrawFn) -> list[NDArray[np.float32]]:
    """Any bits, NaNs with payloads and infinities among them; and values as features have them."""
    usual = arrays(np.float32, st.tuples(st.integers(0, 9), st.just(F)), elements=USUAL, fill=USUAL)
    found = draw(st.lists(st.one_of(BITS, usual), min_size=1, max_size=5))
    return [np.ascontiguousarray(block).view(np.float32) for block in found]


def held(added: list[NDArray[np.float32]], room: int = 4) -> FeatureColumns:
    columns = FeatureColumns(F, room)
    for block in added:
        columns.add(block)
    return columns


def bits(x: NDArray[np.float32]) -> NDArray[np.uint32]:
    assert x.dtype == np.float32
    return np.ascontiguousarray(x).view(np.uint32)


@given(blocks())
def test_rows_and_columns_read_as_they_were_added(added: list[NDArray[np.float32]]) -> None:
    columns, whole = held(added), np.concatenate(added)
    n = len(whole)
    assert columns.shape == whole.shape == (len(columns), F)
    rng = np.random.default_rng(n)
    for at in (
        slice(None),
        slice(1, n - 1),
        rng.random(n) < 0.5,
        rng.integers(0, n, 7 if n else 0),
    ):
        np.testing.assert_array_equal(bits(columns[at]), bits(whole[at]))
        for i in range(F):
            np.testing.assert_array_equal(bits(columns[at, i]), bits(whole[at, i]))
        if not isinstance(at, slice):
            np.testing.assert_array_equal(bits(columns.take(at)[:]), bits(whole[at]))


def test_a_column_takes_what_its_values_need() -> None:
    x = np.full((1_000, F), np.nan, np.float32)
    columns = held([x], 2_000)
    assert columns.nbytes == 0
    x[:, 1] = np.arange(1_000)  # counts
    columns.add(x)
    assert columns.nbytes == 2 * 2_000
    x[:, 1] = 0.1
    x[0, 4] = 2_049.0  # float16 has no such number
    columns.add(x)
    assert columns.nbytes == (4 + 4) * 3_000
    assert np.isnan(columns[:2_000, 4]).all()
    assert columns[1_000:2_000, 1].tolist() == list(range(1_000))


def test_more_rows_than_expected_have_room() -> None:
    one = np.ones((10, F), np.float32)
    columns = held([one] * 30, 0)
    assert (columns[:] == 1.0).all()
    assert len(columns) == 300


def test_rows_taken_may_be_added_to() -> None:
    columns = held([np.ones((10, F), np.float32)])
    some = columns.take(np.array([3, 4]))
    some.add(np.full((2, F), 0.1, np.float32))
    assert some[:, 0].tolist() == [1.0, 1.0, np.float32(0.1), np.float32(0.1)]
    assert (columns[:] == 1.0).all()


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        held([np.ones((3, F), np.float32)])[np.array([3])]


def test_parts_are_all_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.columns._PART", 3)
    x = np.arange(8 * F, dtype=np.float32).reshape(8, F)
    at = np.array([7, 0, 1, 2, 5, 5, 3])
    found = list(parts(held([x]), at))
    assert [len(part) for part in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(found), x[at])


def test_what_wants_an_array_has_a_copy() -> None:
    columns = held([np.ones((3, F), np.float32)])
    assert np.asarray(columns).dtype == np.float32
    assert np.nanmedian(columns, axis=0).tolist() == [1.0] * F
    with pytest.raises(ValueError, match="only as a copy"):
        np.asarray(columns, copy=False)
