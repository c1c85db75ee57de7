"""What left a shard is forgotten once it is acknowledged, and never when it failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.shard.effects import Effects


class Lost(Exception):
    pass


def test_what_is_acknowledged_is_forgotten_from_the_front() -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        effects = Effects()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4)]
        for future in futures[:3]:
            effects.add(future)
        futures[1].set_result(None)
        effects.add(futures[3])
        assert list(effects.waiting) == futures
        futures[0].set_result(None)
        effects.add(futures[3])
        assert list(effects.waiting) == [futures[2], futures[3], futures[3]]

    asyncio.run(go())


@pytest.mark.parametrize("later", [0, 3])
def test_what_failed_is_not_forgotten(later: int) -> None:
    """Or a checkpoint would count, and offsets be committed, over rows that are not stored."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        effects = Effects()
        lost: asyncio.Future[Any] = loop.create_future()
        effects.add(lost)
        lost.set_exception(Lost("no sink"))
        for _ in range(later):
            done: asyncio.Future[Any] = loop.create_future()
            done.set_result(None)
            effects.add(done)
        with pytest.raises(Lost):
            await effects.so_far().flushed()
        assert effects.waiting[0] is lost

    asyncio.run(go())


def test_so_far_is_what_left_before() -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        effects = Effects()
        first: asyncio.Future[Any] = loop.create_future()
        effects.add(first)
        until_now = effects.so_far()
        effects.add(loop.create_future())
        first.set_result(None)
        await asyncio.wait_for(until_now.flushed(), 60)

    asyncio.run(go())
