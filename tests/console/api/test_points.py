"""Point reads: who asks at once shares a query, nobody gets another's row, and nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from streams.console.api import points
from streams.console.api.points import Points, TooMany
from streams.console.reads import Parameter, ReadFailed, Rows


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
        rows = [(i, at, 0, lives.get(i, 2)) for i in ids]
        self.answers[at].set_result(Rows(("user_id", "query", "shard", "life"), rows, 0))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_who_waits_for_a_query_shares_the_next_one() -> None:
    async def run() -> None:
        held = Held()
        here = Points(held)
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
        rows = await asyncio.gather(*first, *later)
        assert [row and (row["user_id"], row["query"]) for row in rows] == [
            ("u0", 0), ("u1", 1), ("x", 2), ("y", 2), ("x", 2), None,
        ]  # fmt: skip

    asyncio.run(run())


def test_an_answer_is_asked_for_after_the_question() -> None:
    """Somebody who asks while a query is under way does not get what that one has seen."""

    async def run() -> None:
        held = Held()
        here = Points(held)
        early = asyncio.create_task(here.of("ann"))
        await turns()
        late = asyncio.create_task(here.of("ann"))
        await turns()
        assert held.asked == [("ann",), ("ann",)]
        held.answer(0)
        held.answer(1)
        assert ((await early) or {})["query"] == 0
        assert ((await late) or {})["query"] == 1

    asyncio.run(run())


def test_rows_of_past_lives_are_left_out() -> None:
    async def run() -> None:
        held = Held(past=[(0, 1), (1, 2)])
        here = Points(held)
        asked = [asyncio.create_task(here.of(name)) for name in ("of a past life", "ann")]
        await turns(10)
        for at in range(len(held.answers)):
            held.answer(at)
        gone, ann = await asyncio.gather(*asked)
        assert gone is None
        assert ann is not None

    asyncio.run(run())


def test_a_query_has_so_many_ids_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(points, "AT_ONCE", 1)

    async def run() -> None:
        held = Held()
        here = Points(held)
        tasks = [asyncio.create_task(here.of(f"u{i}")) for i in range(6)]
        for at in range(3):
            await turns()
            held.answer(at)
        found = await asyncio.gather(*tasks)
        assert [len(ids) for ids in held.asked] == [1, 3, 2]
        assert [row and row["user_id"] for row in found] == [f"u{i}" for i in range(6)]

    asyncio.run(run())


def test_a_failure_reaches_everybody_and_the_next_query_goes_on() -> None:
    async def run() -> None:
        held = Held()
        here = Points(held)
        failing = [asyncio.create_task(here.of("ann")), asyncio.create_task(here.of("bob"))]
        await turns()
        for at in range(2):
            held.answers[at].set_exception(ReadFailed("away", None))
        found = await asyncio.gather(*failing, return_exceptions=True)
        assert [type(each) for each in found] == [ReadFailed, ReadFailed]
        again = asyncio.create_task(here.of("ann"))
        await turns()
        held.answer(2)
        assert ((await again) or {})["user_id"] == "ann"

    asyncio.run(run())


def test_who_gives_up_takes_nobody_along() -> None:
    async def run() -> None:
        held = Held()
        here = Points(held)
        waits, leaves = (asyncio.create_task(here.of("ann")) for _ in range(2))
        await turns(1)
        leaves.cancel()
        await turns()
        for at in range(len(held.asked)):
            held.answer(at)
        assert ((await waits) or {})["user_id"] == "ann"

    asyncio.run(run())


def test_more_than_can_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_WAITING", 2)
    monkeypatch.setattr(points, "AT_ONCE", 1)

    async def run() -> None:
        held = Held()
        here = Points(held)
        tasks: list[asyncio.Task[Any]] = []
        for name in ("a", "b", "c"):
            tasks.append(asyncio.create_task(here.of(name)))
            await turns()
        with pytest.raises(TooMany):
            await here.of("d")
        for at in range(2):
            held.answer(at)
            await turns()
        assert [row["user_id"] for row in await asyncio.gather(*tasks)] == ["a", "b", "c"]

    asyncio.run(run())
