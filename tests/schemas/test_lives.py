"""Numbers of steps and examples, by the life of their shard."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.lives import first_of, follows, life_beginning, life_of, position_of

CENTURY_MS = int(datetime.datetime(2106, 1, 1, tzinfo=datetime.UTC).timestamp()) * 1000
milliseconds = st.integers(0, CENTURY_MS)
positions = st.integers(1, 2**32 - 1)


@given(milliseconds, milliseconds, positions, positions)
def test_numbers_order_by_life_and_then_by_position(a: int, b: int, i: int, j: int) -> None:
    lives = life_beginning(a), life_beginning(b)
    one, two = (first_of(life) + at - 1 for life, at in zip(lives, (i, j), strict=True))
    assert (one < two) == ((lives[0], i) < (lives[1], j))
    assert (life_of(one), position_of(one)) == (lives[0], i)
    assert max(one, two) < 2**64  # what ClickHouse holds


@given(milliseconds, positions)
def test_a_step_follows_the_one_before_it_and_no_other(wall_ms: int, position: int) -> None:
    number = first_of(life_beginning(wall_ms)) + position - 1
    assert follows(number + 1, number)
    assert not follows(number, number)
    assert not follows(number + 2, number)
    assert follows(number, 0) == (position == 1)
