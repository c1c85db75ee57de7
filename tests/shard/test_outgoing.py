"""What leaves a shard: messages in order, and when its alerts became readable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.errors import BrokerUnavailable, SinkUnavailable
from schemas.topics import TopicNames
from streams.core.ages import Ages
from streams.core.events.records import Records
from streams.shard.outgoing import Outgoing
from tests.awaiting import turns
from tests.shard.memory import MemoryLog, NoFaults


class _Alert(msgspec.Struct):
    user_id: str = "ann"


def _outputs(*produced_ms: int, user: str = "ann", canaries: Sequence[int] = ()) -> Any:
    return SimpleNamespace(
        alerts=[_Alert(user) for _ in produced_ms],
        dead_letters=[],
        examples=[],
        audiences=[],
        tables={},
        produced_ms=max(produced_ms, default=0),
        canaries=np.array(canaries, np.int64),
    )


class _Around:
    """What surrounds a shard, of which only the sink, the log and the monitor matter here."""

    def __init__(self, clock: str, log: MemoryLog | None = None) -> None:
        self.heard_seconds: list[float] = []
        self.on_alerts: Callable[[], None] | None = None
        self.rows: Future[None] = Future()
        self.now_ms = 61_500
        self.stored: list[tuple[float, Ages | None, bool]] = []
        self.services: Any = SimpleNamespace(
            clock=clock,
            wall_ms=lambda: self.now_ms,
            topics=TopicNames("clicks", "orders", "app"),
            conceal=None,
            log=log or MemoryLog(),
            sink=SimpleNamespace(submit=self._submit),
            monitor=SimpleNamespace(alert_readable=self.heard_seconds.append, stored=self._stored),
        )

    def _submit(self, _: Any, on_alerts: Callable[[], None] | None) -> Future[None]:
        self.on_alerts = on_alerts
        return self.rows

    def _stored(self, seconds: float, ages: Ages | None, *, replayed: bool) -> None:
        self.stored.append((seconds, ages, replayed))

    def send(
        self,
        *produced_ms: int,
        written_ms: Sequence[int] = (),
        canaries: Sequence[int] = (),
        replayed: bool = False,
    ) -> None:
        async def go() -> None:
            outgoing = Outgoing(0, self.services)
            n = len(written_ms)
            at = np.array(written_ms, np.int64)
            records = [Records.of(np.arange(n), at, [b"k"] * n, [b"v"] * n), Records.empty()]
            outputs = _outputs(*produced_ms, canaries=canaries)
            outgoing.send(outputs, records, replayed=replayed)

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


def test_records_are_visible_when_clickhouse_has_the_rows_of_their_step() -> None:
    around = _Around("wall")
    around.send(written_ms=[61_000, 61_400, 61_400], replayed=True)
    assert around.stored == []
    around.now_ms += 9_000
    around.rows.set_result(None)
    ((seconds, ages, replayed),) = around.stored
    assert 0 <= seconds < 60
    assert ages is not None
    assert (ages.ages_ms.tolist(), ages.counts.tolist()) == ([9_100, 9_500], [2, 1])
    assert replayed


def test_canaries_count_for_no_freshness() -> None:
    around = _Around("wall")
    around.send(written_ms=[61_000, 61_400, 50_000], canaries=[0, 2])
    around.rows.set_result(None)
    ((_, ages, _),) = around.stored
    assert ages is not None
    assert (ages.ages_ms.tolist(), ages.counts.tolist()) == ([100], [1])


def test_rows_that_clickhouse_did_not_take_make_nothing_visible() -> None:
    around = _Around("wall")
    around.send(written_ms=[61_000])
    around.rows.set_exception(SinkUnavailable("closed"))
    assert around.stored == []


def test_by_a_simulated_clock_records_have_no_age() -> None:
    around = _Around("event")
    around.send(written_ms=[61_000])
    around.rows.set_result(None)
    ((_, ages, replayed),) = around.stored
    assert ages is None
    assert not replayed


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
        around = _Around("wall", log)
        outgoing = Outgoing(0, around.services)
        for user in ("ann", "bob", "cat"):
            outgoing.send(_outputs(1, user=user), [Records.empty()] * 2, replayed=False)
        await turns(20)
        assert held.begun == 1
        assert _alerts_of(log) == []
        held.go_on.set()
        around.rows.set_result(None)
        await outgoing.effects.flushed()
        assert _alerts_of(log) == [b"ann", b"bob", b"cat"]

    asyncio.run(go())


def test_messages_behind_some_that_could_not_be_sent_are_not_sent() -> None:
    async def go() -> None:
        held = _FirstHeld(BrokerUnavailable("away"))
        log = MemoryLog().client(held)
        around = _Around("wall", log)
        around.rows.set_result(None)
        outgoing = Outgoing(0, around.services)
        for user in ("ann", "bob"):
            outgoing.send(_outputs(1, user=user), [Records.empty()] * 2, replayed=False)
        held.go_on.set()
        with pytest.raises(BrokerUnavailable):
            await outgoing.effects.flushed()
        await turns(20)
        assert _alerts_of(log) == []

    asyncio.run(go())
