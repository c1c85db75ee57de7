"""Past lives: a second old at most, and nobody who asks often waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streams.console.api import past_lives
from streams.console.api.past_lives import PastLives
from streams.console.reads import Parameter, ReadFailed, Rows


class Shop:
    """A clock, and a ClickHouse that answers when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.asked: list[asyncio.Future[Rows]] = []
        self.lives = PastLives(self, lambda: self.seconds)

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def say(self, *lives: tuple[int, int]) -> None:
        self.asked[-1].set_result(Rows(("shard", "life"), list(lives), 0))

    async def begin(self) -> asyncio.Task[frozenset[tuple[int, int]]]:
        """Somebody asks."""
        task = asyncio.create_task(self.lives.now())
        for _ in range(6):
            await asyncio.sleep(0)
        return task


def run(story: Callable[[Shop], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(30):
            await story(Shop())

    asyncio.run(told())


def test_whoever_comes_first_waits_and_those_beside_share_the_query() -> None:
    async def story(shop: Shop) -> None:
        first, beside = await shop.begin(), await shop.begin()
        assert len(shop.asked) == 1
        shop.say((0, 1))
        assert await first == await beside == {(0, 1)}

    run(story)


def test_it_is_read_again_ahead_and_nobody_waits_meanwhile() -> None:
    async def story(shop: Shop) -> None:
        first = await shop.begin()
        shop.say((0, 1))
        await first
        shop.seconds += past_lives.AHEAD_SECONDS
        assert (await shop.begin()).result() == {(0, 1)}
        assert (await shop.begin()).result() == {(0, 1)}
        assert len(shop.asked) == 2
        shop.say((0, 1), (0, 2))
        assert await shop.lives.now() == {(0, 1)}  # not read yet
        await asyncio.sleep(0)
        assert await (await shop.begin()) == {(0, 1), (0, 2)}
        assert len(shop.asked) == 2

    run(story)


def test_what_is_too_old_is_waited_for_also_when_it_is_being_read_ahead() -> None:
    async def story(shop: Shop) -> None:
        first = await shop.begin()
        shop.say()
        await first
        shop.seconds += past_lives.AHEAD_SECONDS
        assert (await shop.begin()).done()
        shop.seconds += past_lives.OLDEST_SECONDS - past_lives.AHEAD_SECONDS
        late = await shop.begin()
        assert not late.done()
        assert len(shop.asked) == 2
        shop.say((3, 4))
        assert await late == {(3, 4)}

    run(story)


def test_the_age_counts_from_the_question() -> None:
    async def story(shop: Shop) -> None:
        first = await shop.begin()
        shop.seconds += past_lives.OLDEST_SECONDS
        shop.say()
        await first
        assert not (await shop.begin()).done()
        shop.say((1, 1))

    run(story)


def test_a_failure_ahead_is_asked_about_again_and_told_to_who_needs_it() -> None:
    async def story(shop: Shop) -> None:
        first = await shop.begin()
        shop.say((0, 1))
        await first
        shop.seconds += past_lives.AHEAD_SECONDS
        ahead = await shop.begin()
        shop.asked[-1].set_exception(ReadFailed("away", None))
        assert await ahead == {(0, 1)}
        for _ in range(6):
            await asyncio.sleep(0)
        shop.seconds += past_lives.OLDEST_SECONDS
        needs = await shop.begin()
        assert len(shop.asked) == 3
        shop.asked[-1].set_exception(ReadFailed("away", None))
        with pytest.raises(ReadFailed, match="away"):
            await needs

    run(story)
