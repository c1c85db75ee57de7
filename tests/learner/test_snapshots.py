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
from streams.learner import snapshots
from streams.learner.snapshots import SnapshotFollower, newest_of
from tests.models.synthetic import snapshot

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

    def __init__(self, script: Sequence[Sequence[bytes] | Exception]) -> None:
        self._script = iter(script)
        self.calls: list[str] = []
        self.at_end = asyncio.Event()

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert list(partitions) == [TopicPartition(TOPIC, 0)]
        self.calls.append("assign")

    async def seek_to_beginning(self, *_: TopicPartition) -> None:
        self.calls.append("seek_to_beginning")

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


def followed(
    monkeypatch: pytest.MonkeyPatch, *consumers: _Consumer
) -> tuple[SnapshotFollower, Callable[[], Coroutine[Any, Any, None]]]:
    """A follower whose connections are these, and its run until the last one has no more."""
    made = iter(consumers)
    monkeypatch.setattr(clients, "async_consumer", lambda *_, **_options: next(made))
    monkeypatch.setattr(snapshots, "RETRY_SECONDS", 0.0)
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
    assert one.calls == ["start", "assign", "seek_to_beginning", "stop"]
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


def test_a_follower_ends_with_an_error_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that the worker hears of it, and stops."""
    one = _Consumer([RuntimeError("a bug")])
    _, run = followed(monkeypatch, one)
    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(run())
    assert one.calls[-1] == "stop"
