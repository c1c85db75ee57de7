"""Texts with numbers behind them are those that Python would make."""

from __future__ import annotations

import numpy as np
import pytest

from streams.core.state.directory import UserDirectory
from streams.core.texts import Texts


@pytest.mark.parametrize("suffix", ["", "@1764500000", "é"])
def test_users_are_followed_by_their_numbers(suffix: str) -> None:
    users = ["u", "second", "long/" * 40, "ü€😀", "x" * 200]
    numbers = np.array([0, 9, 10, 1_234_567_890, 2**31 - 1], np.int32)
    directory = UserDirectory()
    rows, _ = directory.rows_of(Texts.of(users))
    found = directory.numbered(rows, numbers, suffix)
    assert list(found) == [
        f"{user}/{number}{suffix}" for user, number in zip(users, numbers.tolist(), strict=True)
    ]
    assert len(found) == len(users)
    nobody = directory.numbered(rows[:0], numbers[:0], suffix)
    assert list(nobody) == []
