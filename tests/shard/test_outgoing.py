"""What `streams.shard.outgoing` tells of alerts that became readable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.topics import TopicNames
from streams.shard.outgoing import Outgoing
from tests.shard.memory import MemoryLog


class _Alert(msgspec.Struct):
    user_id: str = "ann"


class _Around:
    """What surrounds a shard, of which only the sink and the monitor matter here."""

    def __init__(self, clock: str) -> None:
        self.heard_seconds: list[float] = []
        self.on_alerts: Callable[[], None] | None = None
        self.services: Any = SimpleNamespace(
            clock=clock,
            wall_ms=lambda: 61_500,
            topics=TopicNames("clicks", "orders", "app"),
            conceal=None,
            log=MemoryLog(),
            sink=SimpleNamespace(submit=self._submit),
            monitor=SimpleNamespace(alert_readable=self.heard_seconds.append),
        )

    def _submit(self, _: Any, on_alerts: Callable[[], None] | None) -> Future[None]:
        self.on_alerts = on_alerts
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def send(self, *produced_ms: int) -> None:
        outputs: Any = SimpleNamespace(
            alerts=[_Alert() for _ in produced_ms],
            dead_letters=[],
            examples=[],
            tables={"alerts": {"event_produced_at": np.array(produced_ms, np.int64)}},
        )

        async def go() -> None:
            outgoing = Outgoing(0, self.services)
            outgoing.send(outputs)
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
def test_without_alerts_or_by_another_clock_there_is_nothing_to_tell(
    clock: str, produced_ms: list[int]
) -> None:
    around = _Around(clock)
    around.send(*produced_ms)
    assert around.on_alerts is None
