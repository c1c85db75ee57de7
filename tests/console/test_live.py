"""Streams: sent as the position moves, once for many, resumed by id, honest when cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from streams.console import live as module
from streams.console.live import Channel, Live, Message, event
from streams.console.position import Position
from streams.console.reads import ReadFailed
from tests.console.doubles import served
from tests.console.people import everything


class Results:
    """A position that a test moves, and a clock that it sets."""

    def __init__(self) -> None:
        self.at, self.seconds, self.made = 1, 0.0, 0
        self.away = False
        self.live = Live(self.position, lambda: self.seconds)

    async def position(self) -> Position:
        if self.away:
            raise ReadFailed("away: check that ClickHouse is up", None)
        return Position(str(self.at), self.at)

    async def make(self, at: Position) -> str:
        if self.away:
            raise ReadFailed("away", None)
        self.made += 1
        return f"<p>{at.name}</p>"

    def join(self, *key: str, by_clock: bool = False) -> Channel:
        return self.live.join(key or ("today",), self.make, by_clock=by_clock)

    async def look(self, seconds: float = 1.0) -> None:
        self.seconds += seconds
        await self.live.look()
        for _ in range(5):
            await asyncio.sleep(0)


def run(test: Callable[[Results], Coroutine[Any, Any, None]]) -> None:
    async def go() -> None:
        await test(Results())

    asyncio.run(go())


def test_a_page_is_sent_when_the_position_has_moved_and_not_before() -> None:
    async def test(results: Results) -> None:
        channel = results.join()
        await results.look()
        first = await results.live.next(channel, None)
        assert first == Message("page", "<p>1</p>", "1")
        await results.look()
        assert results.made == 1
        results.at = 2
        await results.look()
        assert (await results.live.next(channel, first)).position == "2"

    run(test)


def test_who_looks_at_the_same_page_shares_its_making() -> None:
    async def test(results: Results) -> None:
        channels = [results.join() for _ in range(100)]
        await results.look()
        assert results.made == 1
        assert results.live.streams == 100
        assert len({id(each) for each in channels}) == 1
        for _ in range(100):
            results.live.leave(("today",))
        assert results.live.streams == 0
        await results.look()
        assert results.made == 1  # nobody looks, and nothing is kept

    run(test)


def test_what_comes_between_is_left_out_and_no_more_than_four_a_second_are_made() -> None:
    async def test(results: Results) -> None:
        channel = results.join()
        await results.look()
        seen = await results.live.next(channel, None)
        for at in range(2, 42):  # ten seconds of four hundred moves each
            results.at = at
            await results.look(0.025)
        assert results.made <= 1 + 1.0 / module.LEAST_SECONDS
        assert int((await results.live.next(channel, seen)).position) > 30

    run(test)


def test_who_comes_back_with_the_newest_id_waits_and_anybody_else_gets_the_page() -> None:
    async def test(results: Results) -> None:
        channel = results.join()
        await results.look()
        assert (await results.live.next(channel, None, "0")).name == "page"
        waiting = asyncio.create_task(results.live.next(channel, None, "1"))
        await asyncio.sleep(0)
        assert not waiting.done()
        results.at = 2
        await results.look()
        assert (await waiting).position == "2"

    run(test)


def test_clickhouse_away_is_said_once_and_its_return_brings_the_page() -> None:
    async def test(results: Results) -> None:
        channel = results.join()
        await results.look()
        results.away = True
        await results.look()
        said = await results.live.next(channel, None)
        assert said.name == "away"
        assert "check that ClickHouse is up" in said.data
        await results.look()
        assert channel.newest is said
        results.away = False
        await results.look()
        assert (await results.live.next(channel, said)).name == "page"

    run(test)


def test_a_page_by_the_clock_is_made_again_though_nothing_moves() -> None:
    async def test(results: Results) -> None:
        results.join(by_clock=True)
        for _ in range(5):
            await results.look(1.0)
        assert results.made == 3

    run(test)


def test_an_event_holds_any_text() -> None:
    for text in ("a\r\nb", "a\rb", "\n\n", "event: evil", ""):
        lines = event(Message("page", text, "7")).decode().split("\n")
        assert lines[:2] == ["event: page", "id: 7"]
        assert lines[-2:] == ["", ""]
        assert all(line.startswith("data: ") for line in lines[2:-2])


def test_a_stream_has_the_visitors_own_form_token() -> None:
    """The page is made once for many; the token is put in as it is sent."""
    with served(everything("x")) as console:
        own = console.get("/today").text.split('name="csrf" value="')[1].split('"')[0]

        async def first() -> bytes:
            async with console.client.get("/today.live") as answer:
                assert answer.headers["Content-Type"].startswith("text/event-stream")
                await console.console.live.look()
                return await answer.content.readuntil(b"\n\n")

        assert f'name="csrf" value="{own}"'.encode() in console.run(first())


def test_a_page_that_never_changes_has_no_stream() -> None:
    with served(everything("x")) as console:
        assert console.get("/settings.live").status == 404
