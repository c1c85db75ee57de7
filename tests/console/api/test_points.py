"""Point reads: who asks at once shares a query, nobody gets another's row, and nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from streams.console.api import points
from streams.console.api.point import Point
from streams.console.api.points import Points, TooMany
from streams.console.reads import Parameter, Reader, ReadFailed, Rows
from tests.console.api.test_routes import USER


def row(user_id: str, query: int = 0, life: int = 2, number: int = 9) -> tuple[str, str]:
    """A row of `customer_points` that says in `learner_version` which query it answers."""
    point = replace(USER, life=life, number=number, learner_version=query)
    return user_id, msgspec.json.encode(point).decode()


def soon(reader: Reader) -> Points:
    """Without a pause between queries."""
    return Points(reader, pause_seconds=0.0)


class Held:
    """Answers when told to."""

    def __init__(self, past: Sequence[tuple[int, int]] = ()) -> None:
        self.past = list(past)
        self.asked: list[tuple[str, ...]] = []
        self.answers: list[asyncio.Future[Rows]] = []

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        if not parameters:
            return Rows(("shard", "life"), list(self.past), 0)
        ids = parameters["user_id"]
        assert isinstance(ids, tuple)
        self.asked.append(ids)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def answer(self, at: int, absent: Sequence[str] = ()) -> None:
        ids = [each for each in reversed(self.asked[at]) if each not in absent]
        lives = {"of a past life": 1}
        self.say(at, *(row(i, at, lives.get(i, 2)) for i in ids))

    def say(self, at: int, *rows: tuple[str, str]) -> None:
        self.answers[at].set_result(Rows(("user_id", "answer"), list(rows), 0))


def query_of(point: Point | None) -> int:
    assert point is not None
    return point.learner_version


async def until(is_so: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.001)


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_nobody_waits_for_ever_when_the_pause_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(here: Points, seconds: float) -> None:
        raise RuntimeError("the clock is broken")

    monkeypatch.setattr(Points, "_pause", broken)

    async def run() -> None:
        held = Held()
        here = Points(held, pause_seconds=3600.0)
        first = asyncio.create_task(here.of("ann"))
        await turns()  # its query is under way, and the next one has to wait
        async with asyncio.timeout(30):
            with pytest.raises(ReadFailed, match="the clock is broken"):
                await here.of("bob")
        held.answer(0)
        assert query_of(await first) == 0

    asyncio.run(run())


def test_who_waits_for_a_query_shares_the_next_one() -> None:
    async def run() -> None:
        held = Held()
        here = soon(held)
        first = [asyncio.create_task(here.of(f"u{i}")) for i in range(points.AT_ONCE)]
        await turns()
        later = [asyncio.create_task(here.of(name)) for name in ("x", "y", "x", "nobody")]
        await turns()
        assert held.asked == [("u0",), ("u1",)]
        held.answer(0)
        await turns()
        assert held.asked[2:] == [("x", "y", "nobody")]
        held.answer(2, absent=["nobody"])
        held.answer(1)
        found = await asyncio.gather(*first, *later)
        assert [each and each.learner_version for each in found] == [0, 1, 2, 2, 2, None]

    asyncio.run(run())


def test_an_answer_is_asked_for_after_the_question() -> None:
    """Somebody who asks while a query is under way does not get what that one has seen."""

    async def run() -> None:
        held = Held()
        here = soon(held)
        early = asyncio.create_task(here.of("ann"))
        await turns()
        late = asyncio.create_task(here.of("ann"))
        await turns()
        assert held.asked == [("ann",), ("ann",)]
        held.answer(0)
        held.answer(1)
        assert query_of(await early) == 0
        assert query_of(await late) == 1

    asyncio.run(run())


def test_rows_of_past_lives_are_left_out() -> None:
    async def run() -> None:
        held = Held(past=[(0, 1), (1, 2)])
        here = soon(held)
        asked = [asyncio.create_task(here.of(name)) for name in ("of a past life", "ann")]
        await turns(10)
        for at in range(len(held.answers)):
            held.answer(at)
        gone, ann = await asyncio.gather(*asked)
        assert gone is None
        assert ann is not None

    asyncio.run(run())


def test_the_newest_of_a_users_rows_counts_whatever_their_order() -> None:
    async def run() -> None:
        held = Held()
        here = soon(held)
        rows = [row("ann", 1, 2, 9), row("ann", 2, 3, 1), row("ann", 3, 2, 2**32 - 1)]
        for at, given in enumerate((rows, rows[::-1])):
            asked = asyncio.create_task(here.of("ann"))
            await turns()
            held.say(at, *given)
            assert query_of(await asked) == 2

    asyncio.run(run())


def test_the_newest_row_of_a_past_life_hides_the_rows_before_it() -> None:
    """As in the views, which take the newest row first."""

    async def run() -> None:
        held = Held(past=[(0, 3)])
        asked = asyncio.create_task(soon(held).of("ann"))
        await turns()
        held.say(0, row("ann", life=2), row("ann", life=3))
        assert await asked is None

    asyncio.run(run())


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", row("ann")[1].replace("0.1", '"nan"')])
def test_a_row_that_cannot_be_read_fails_for_its_user_only_and_says_what_to_do(text: str) -> None:
    async def run() -> None:
        held = Held()
        here = soon(held)
        early = [asyncio.create_task(here.of(f"u{i}")) for i in range(points.AT_ONCE)]
        await turns()
        asked = [asyncio.create_task(here.of(name)) for name in ("ann", "bob")]
        await turns()
        held.answer(0)
        await turns()
        held.say(2, row("ann"), ("ann", text), row("ann"), row("bob", 2))
        with pytest.raises(ReadFailed, match="tideline migrate"):
            await asked[0]
        assert query_of(await asked[1]) == 2
        assert query_of(await early[0]) == 0

    asyncio.run(run())


def test_a_row_of_a_later_release_is_read_as_far_as_it_is_known() -> None:
    async def run() -> None:
        held = Held()
        asked = asyncio.create_task(soon(held).of("ann"))
        await turns()
        held.say(0, ("ann", row("ann", 7)[1][:-1] + ',"something",1]'))
        assert query_of(await asked) == 7

    asyncio.run(run())


def test_the_first_query_begins_at_once_and_the_next_a_pause_after_it() -> None:
    async def run() -> None:
        held = Held()
        here = Points(held, pause_seconds=0.05)
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = asyncio.create_task(here.of("ann"))
        await turns()
        later = [asyncio.create_task(here.of(name)) for name in ("bob", "cid")]
        await turns()
        assert held.asked == [("ann",)]  # though one more could be under way
        held.answer(0)
        assert query_of(await first) == 0
        await until(lambda: len(held.asked) == 2)
        assert loop.time() - began >= 0.05
        assert held.asked[1] == ("bob", "cid")
        held.answer(1)
        assert [query_of(each) for each in await asyncio.gather(*later)] == [1, 1]

    asyncio.run(run())


def test_a_query_has_so_many_ids_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(points, "AT_ONCE", 1)

    async def run() -> None:
        held = Held()
        here = soon(held)
        tasks = [asyncio.create_task(here.of(f"u{i}")) for i in range(6)]
        for at in range(3):
            await turns()
            held.answer(at)
        found = await asyncio.gather(*tasks)
        assert [len(ids) for ids in held.asked] == [1, 3, 2]
        assert [query_of(each) for each in found] == [0, 1, 1, 1, 2, 2]

    asyncio.run(run())


def test_a_failure_reaches_everybody_and_the_next_query_goes_on() -> None:
    async def run() -> None:
        held = Held()
        here = soon(held)
        failing = [asyncio.create_task(here.of("ann")), asyncio.create_task(here.of("bob"))]
        await turns()
        for at in range(2):
            held.answers[at].set_exception(ReadFailed("away", None))
        found = await asyncio.gather(*failing, return_exceptions=True)
        assert [type(each) for each in found] == [ReadFailed, ReadFailed]
        again = asyncio.create_task(here.of("ann"))
        await turns()
        held.answer(2)
        assert query_of(await again) == 2

    asyncio.run(run())


def test_who_gives_up_takes_nobody_along() -> None:
    async def run() -> None:
        held = Held()
        here = soon(held)
        waits, leaves = (asyncio.create_task(here.of("ann")) for _ in range(2))
        await turns(1)
        leaves.cancel()
        await turns()
        for at in range(len(held.asked)):
            held.answer(at)
        assert query_of(await waits) == 0

    asyncio.run(run())


def test_more_than_can_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_WAITING", 2)
    monkeypatch.setattr(points, "AT_ONCE", 1)

    async def run() -> None:
        held = Held()
        here = soon(held)
        tasks: list[asyncio.Task[Any]] = []
        for name in ("a", "b", "c"):
            tasks.append(asyncio.create_task(here.of(name)))
            await turns()
        with pytest.raises(TooMany):
            await here.of("d")
        for at in range(2):
            held.answer(at)
            await turns()
        assert [query_of(each) for each in await asyncio.gather(*tasks)] == [0, 1, 1]

    asyncio.run(run())
