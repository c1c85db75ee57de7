"""A dear query is asked seldom, a cheap one often, and one that failed at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.console.reads import Parameter, ReadFailed, Rows
from streams.console.remembered import Remembered


class Slow:
    """Answers after `seconds` of a clock that it moves itself."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.asked, self.away = seconds, 0.0, 0, False

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        self.asked += 1
        await asyncio.sleep(0)
        self.now += self.seconds
        if self.away:
            raise ReadFailed("away", None)
        return Rows(("n",), [(self.asked,)], int(self.now * 1000))


def test_at_most_a_twentieth_of_the_time_is_spent_on_it() -> None:
    slow = Slow(3.0)
    kept = Remembered(slow, "SELECT 1", lambda: slow.now)

    async def look(seconds: float) -> None:
        for _ in range(int(seconds)):
            await kept.rows()
            slow.now += 1.0

    asyncio.run(look(300))
    assert slow.asked * slow.seconds <= 0.06 * slow.now
    quick = Slow(0.01)
    kept = Remembered(quick, "SELECT 1", lambda: quick.now)
    slow = quick
    asyncio.run(look(20))
    assert quick.asked == 20


def test_who_asks_meanwhile_gets_the_same_answer() -> None:
    slow = Slow(1.0)
    kept = Remembered(slow, "SELECT 1", lambda: slow.now)

    async def at_once() -> list[tuple[list[dict[str, Any]], int]]:
        return await asyncio.gather(*(kept.rows() for _ in range(9)))

    assert asyncio.run(at_once()) == [([{"n": 1}], 1000)] * 9
    assert slow.asked == 1


def test_a_failure_is_told_and_not_kept() -> None:
    slow = Slow(1.0)
    kept = Remembered(slow, "SELECT 1", lambda: slow.now)
    slow.away = True
    with pytest.raises(ReadFailed):
        asyncio.run(kept.rows())
    slow.away = False
    assert asyncio.run(kept.rows())[0] == [{"n": 2}]
