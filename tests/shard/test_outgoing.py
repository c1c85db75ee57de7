"""What leaves a shard: messages in order, and when its alerts became readable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from schemas.errors import BrokerUnavailable
from schemas.topics import TopicNames
from streams.shard.outgoing import Outgoing
from tests.awaiting import turns
from tests.shard.memory import MemoryLog, NoFaults


class _Alert(msgspec.Struct):
    user_id: str = "ann"


def _outputs(*produced_ms: int, user: str = "ann") -> Any:
    return SimpleNamespace(
        alerts=[_Alert(user) for _ in produced_ms],
        dead_letters=[],
        examples=[],
        tables={},
        produced_ms=max(produced_ms, default=0),
    )


class _Around:
    """What surrounds a shard, of which only the sink, the log and the monitor matter here."""

    def __init__(self, clock: str, log: MemoryLog | None = None) -> None:
        self.heard_seconds: list[float] = []
        self.on_alerts: Callable[[], None] | None = None
        self.services: Any = SimpleNamespace(
            clock=clock,
            wall_ms=lambda: 61_500,
            topics=TopicNames("clicks", "orders", "app"),
            conceal=None,
            log=log or MemoryLog(),
            sink=SimpleNamespace(submit=self._submit),
            monitor=SimpleNamespace(alert_readable=self.heard_seconds.append),
        )

    def _submit(self, _: Any, on_alerts: Callable[[], None] | None) -> Future[None]:
        self.on_alerts = on_alerts
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def send(self, *produced_ms: int) -> None:
        async def go() -> None:
            outgoing = Outgoing(0, self.services)
            outgoing.send(_outputs(*produced_ms))
            await outgoing.effects.flushed()

        asyncio.run(go())


def test_readable_counts_from_the_newest_record_to_the_alerts_own_insert() -> None:
    around = _Around("wall")
    around.send(60_000, 61_000)
    assert around.heard_seconds == []  # all else is stored, but of the alerts nobody has said so
    assert around.on_alerts is not None
    around.on_alerts()
    assert around.heard_seconds == [0.5]


@pytest.mark.parametrize(("clock", "produced_ms"), [("wall", []), ("event", [60_000])])
def test_without_alerts_or_by_another_clock_no_latency_is_measured(
    clock: str, produced_ms: list[int]
) -> None:
    around = _Around(clock)
    around.send(*produced_ms)
    assert around.on_alerts is None


class _FirstHeld(NoFaults):
    """The broker keeps the first append waiting, and then takes it or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go_on, self.error, self.begun = asyncio.Event(), error, 0

    async def at(self, point: str) -> None:
        if point.endswith("before"):
            self.begun += 1
            if self.begun == 1:
                await self.go_on.wait()
                if self.error is not None:
                    raise self.error


def _alerts_of(log: MemoryLog) -> list[bytes | None]:
    return [key for _, key, _ in log.records(TopicNames("clicks", "orders", "app").alerts, 0)]


def test_a_steps_messages_wait_for_those_of_the_step_before() -> None:
    """Readers drop what is not newer than what they have had."""

    async def go() -> None:
        held = _FirstHeld()
        log = MemoryLog().client(held)
        outgoing = Outgoing(0, _Around("wall", log).services)
        for user in ("ann", "bob", "cat"):
            outgoing.send(_outputs(1, user=user))
        await turns(20)
        assert held.begun == 1
        assert _alerts_of(log) == []
        held.go_on.set()
        await outgoing.effects.flushed()
        assert _alerts_of(log) == [b"ann", b"bob", b"cat"]

    asyncio.run(go())


def test_messages_behind_some_that_could_not_be_sent_are_not_sent() -> None:
    async def go() -> None:
        held = _FirstHeld(BrokerUnavailable("away"))
        log = MemoryLog().client(held)
        outgoing = Outgoing(0, _Around("wall", log).services)
        for user in ("ann", "bob"):
            outgoing.send(_outputs(1, user=user))
        held.go_on.set()
        with pytest.raises(BrokerUnavailable):
            await outgoing.effects.flushed()
        await turns(20)
        assert _alerts_of(log) == []

    asyncio.run(go())
