"""The feed: from an id on, everything once and in order; gaps are told, the erased are left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection

import msgspec
import pytest

from schemas.messages import AlertMessage, AudienceChange, ErasureRequest
from schemas.topics import TopicNames
from streams.console.api import feed
from streams.console.api.feed import Feed, Happening, position_text, read_position_text
from streams.core import erasure
from streams.privacy.erasure_board import ErasureBoard
from tests.shard.memory import MemoryLog

NAMES = TopicNames("clicks", "orders", "t")
TOPICS = {"alerts": NAMES.alerts, "audiences": NAMES.audiences}


class Tailed(MemoryLog):
    starts = 0

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None: ...

    async def listed_ends(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {place: self.ends_now(*place)[1] for place in places}


@pytest.fixture(autouse=True)
def each_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.0)


def alert(log: MemoryLog, name: str, partition: int = 0, arm: str = "treat", ms: int = 0) -> None:
    message = AlertMessage(
        f"alert of {name}", name, "open", "2026-11-30T10:00:00Z", 0.5, 10.0, 5.0, 28, ["why"],
        "call", arm,
    )  # fmt: skip
    log.put(NAMES.alerts, partition, name.encode(), msgspec.json.encode(message), ms)


def entered(log: MemoryLog, name: str, partition: int = 0) -> None:
    change = AudienceChange(f"change of {name}", "vip", "best", name, "entered", 1, "now", "v1")
    log.put(NAMES.audiences, partition, name.encode(), msgspec.json.encode(change))


def made(log: Tailed, partitions: int = 2) -> Feed:
    return Feed(log, ErasureBoard(log, NAMES.erasures), TOPICS, partitions)


async def all_after(here: Feed, position: str) -> list[Happening]:
    found = read_position_text(position)
    assert found is not None
    return [each async for each in here.after(found)]


def users(found: list[Happening]) -> list[str]:
    return [each.user_id for each in found]


def test_an_id_says_where_to_go_on() -> None:
    log = Tailed()
    here = made(log)

    async def run() -> None:
        alert(log, "before")
        start = position_text(await here.now(("alerts", "audiences")))
        assert start == "a0:1,a1:0,u0:0,u1:0"
        for name in ("ann", "bob"):
            alert(log, name)
        entered(log, "eve", 1)
        found = await all_after(here, start)
        assert users(found) == ["ann", "bob", "eve"]
        assert [each.name for each in found] == ["alert", "alert", "audience"]
        assert json.loads(found[0].data)["alert_id"] == "alert of ann"
        for at, each in enumerate(found):
            assert users(await all_after(here, each.position)) == ["ann", "bob", "eve"][at + 1 :]

    asyncio.run(run())
    assert log.starts == 1


def test_whom_nobody_may_contact_is_left_out() -> None:
    log = Tailed()

    async def run() -> None:
        alert(log, "held", arm="holdout")
        log.put(NAMES.alerts, 0, b"x", b"no message of ours")
        log.put(NAMES.alerts, 0, b"gone", None)
        alert(log, "ann")
        assert users(await all_after(made(log), "a0:0")) == ["ann"]

    asyncio.run(run())


def test_what_was_recorded_before_an_erasure_is_left_out() -> None:
    log = Tailed()
    digest = erasure.digest(b"salt", "ann")
    request = ErasureRequest("e1", digest, b"salt", 0, 1_000, [], "op")
    log.put(NAMES.erasures, 0, f"request/{digest}".encode(), msgspec.msgpack.encode(request))

    async def run() -> None:
        alert(log, "ann", ms=999)
        alert(log, "bob", ms=999)
        alert(log, "ann", ms=1_000)
        found = await all_after(made(log), "a0:0")
        assert [(each.user_id, each.position) for each in found] == [
            ("bob", "a0:2"), ("ann", "a0:3"),
        ]  # fmt: skip

    asyncio.run(run())


def test_a_gap_is_told_and_the_rest_is_sent() -> None:
    log = Tailed()

    async def run() -> None:
        for name in ("a", "b", "c", "d"):
            alert(log, name)
        log._partitions[NAMES.alerts, 0].first = 3
        here = made(log)
        (gap,) = await all_after(here, "a0:1")
        assert (gap.name, json.loads(gap.data)["records"], gap.position) == ("gap", 2, "a0:3")
        assert users(await all_after(here, gap.position)) == ["d"]

    asyncio.run(run())


def test_a_long_absence_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_RECORDS", 10)
    log = Tailed()

    async def run() -> None:
        for number in range(25):
            alert(log, f"u{number}")
        here, position, found = made(log), "a0:0", []
        while part := await all_after(here, position):
            assert len(part) <= 10
            found += users(part)
            position = part[-1].position
        assert found == [f"u{number}" for number in range(25)]

    asyncio.run(run())


@pytest.mark.parametrize("text", ["", "a0", "a0:", "b0:1", "a0:1,", "a0:-1", "a0:1;u0:2", "a0:1 "])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    assert read_position_text(text) is None
