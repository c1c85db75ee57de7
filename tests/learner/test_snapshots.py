"""The learner's snapshots are followed, and only those count that can be scored with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from schemas.messages import LearnerSnapshot
from streams.kafka import clients
from streams.kafka import follower as following
from streams.kafka.follower import NEWEST
from streams.learner.snapshots import SnapshotFollower, newest_of, newest_snapshot
from tests.models.synthetic import snapshot
from tests.shard.memory import MemoryLog

TOPIC = "snapshots"


def packed(snapshot: LearnerSnapshot, **changes: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(snapshot, **changes))


def test_the_newest_snapshot_that_can_be_used_counts(caplog: pytest.LogCaptureFixture) -> None:
    good = snapshot("2026-11-22-0e71a107")
    old, new = packed(good, version=1), packed(good, version=2)
    bad = [None, b"junk", new[:-9], packed(good, version=3, intercept=float("nan")),
           packed(good, version=4, weights=[0.1])]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found = newest_of([old, new, *bad], "snapshots")
    assert found is not None
    assert found.version == 2
    assert caplog.text.count("skipping a record") == len(bad)
    assert newest_of(bad, "snapshots") is None
    assert newest_of([], "snapshots") is None


class _Consumer:
    """Of `AIOKafkaConsumer` what a follower uses. Each call of `getmany` gives the next entry of
    the script, or raises it; after the last one nothing comes any more."""

    def __init__(
        self, script: Sequence[Sequence[bytes] | Exception], ends: tuple[int, int] = (0, 0)
    ) -> None:
        self._script = iter(script)
        self._ends = ends
        self.calls: list[str] = []
        self.at_end = asyncio.Event()

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert list(partitions) == [TopicPartition(TOPIC, 0)]
        self.calls.append("assign")

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self._ends[0])

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self._ends[1])

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.calls.append(f"seek {offset}")

    async def getmany(
        self, partition: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[Any]]:
        assert timeout_ms > 0
        entry = next(self._script, None)
        if entry is None:
            self.at_end.set()
            await asyncio.Event().wait()
        if isinstance(entry, Exception):
            raise entry
        return {partition: [SimpleNamespace(value=value) for value in entry or ()]}


WAITS: list[float] = []


async def waited(seconds: float) -> None:
    WAITS.append(seconds)


def followed(
    monkeypatch: pytest.MonkeyPatch, *consumers: _Consumer
) -> tuple[SnapshotFollower, Callable[[], Coroutine[Any, Any, None]]]:
    """A follower whose connections are these, and its run until the last one has no more."""
    made = iter(consumers)
    monkeypatch.setattr(clients, "async_consumer", lambda *_, **_options: next(made))
    monkeypatch.setattr("streams.kafka.follower.asyncio.sleep", waited)
    WAITS.clear()
    follower = SnapshotFollower(["nowhere:9092"], TOPIC)

    async def run() -> None:
        task = asyncio.create_task(follower.run())
        ended = asyncio.create_task(consumers[-1].at_end.wait())
        await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
        for one in (ended, task):
            one.cancel()
        await asyncio.wait([ended])
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return follower, run


def test_every_newer_snapshot_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    good = snapshot("2026-11-22-0e71a107")
    seen: list[int | None] = []

    class Watched(_Consumer):
        async def getmany(self, partition: TopicPartition, timeout_ms: int) -> Any:
            seen.append(None if follower.newest is None else follower.newest.version)
            return await super().getmany(partition, timeout_ms)

    one = Watched([[], [packed(good, version=v) for v in (1, 2)], [],
                   [packed(good, version=3, state=b"x" * 9, positions={"0": 1})]])  # fmt: skip
    follower, run = followed(monkeypatch, one)
    asyncio.run(run())
    assert seen == [None, None, 2, 2, 3]
    assert one.calls == ["start", "assign", "seek 0", "stop"]
    assert follower.newest is not None
    assert (follower.newest.state, follower.newest.positions) == (b"", {})  # the learner's alone
    assert follower.newest.weights == good.weights


@pytest.mark.parametrize("error", [KafkaConnectionError(), OSError("reset")])
def test_a_follower_whose_connection_ends_makes_another(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good = snapshot("2026-11-22-0e71a107")
    one = _Consumer([[packed(good, version=1)], error])
    two = _Consumer([error])
    three = _Consumer([[packed(good, version=1), packed(good, version=2)]])
    follower, run = followed(monkeypatch, one, two, three)
    asyncio.run(run())
    assert follower.newest is not None
    assert follower.newest.version == 2
    assert all(consumer.calls[-1] == "stop" for consumer in (one, two, three))
    assert caplog.text.count("trying again") == 2
    assert WAITS == [following.RETRY_SECONDS] * 2


@pytest.mark.parametrize(
    ("ends", "start"),
    [((0, 0), 0), ((5, 9), 5), ((5, 5 + NEWEST), 5), ((5, 6 + NEWEST), 6), ((900, 1_000), 936)],
)
def test_a_follower_begins_with_the_newest_records(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[int, int], start: int
) -> None:
    """What was replaced and not compacted yet may be hundreds of megabytes."""
    one = _Consumer([[]], ends)
    _, run = followed(monkeypatch, one)
    asyncio.run(run())
    assert f"seek {start}" in one.calls


@pytest.mark.parametrize("junk", [0, 3, NEWEST - 1, NEWEST, 5 * NEWEST])
@pytest.mark.parametrize("before", [0, 1, 200])
def test_the_newest_snapshot_is_found_from_the_end(before: int, junk: int) -> None:
    good = snapshot("2026-11-22-0e71a107")
    values = [packed(good, version=v) for v in range(1, before + 1)] + [b"junk"] * junk
    log = MemoryLog()

    async def go() -> LearnerSnapshot | None:
        if values:
            await log.append(TOPIC, 0, [(b"k", value) for value in values])
        return await newest_snapshot(log, TOPIC)

    found = asyncio.run(go())
    assert (found.version if found else 0) == before


def test_a_follower_ends_with_an_error_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the worker hears of it, and stops."""
    one = _Consumer([RuntimeError("a bug")])
    _, run = followed(monkeypatch, one)
    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(run())
    assert one.calls[-1] == "stop"
