"""What a step's outputs become on their way out: rows for ClickHouse, messages for Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams import background
from streams.core.ages import Ages
from streams.core.canaries import times_of_events
from streams.core.events.records import Records
from streams.core.step import Outputs
from streams.kafka.log import KeyValue
from streams.shard.effects import Effects
from streams.shard.services import Services, StepTrace

__all__ = ["Outgoing"]

_Messages = Sequence[tuple[str, int, list[KeyValue]]]  # (topic, partition, records)


class Outgoing:
    """Sends what one shard's steps put out, in their order. `effects` is what is on its way."""

    def __init__(self, shard: int, services: Services) -> None:
        self._shard = shard
        self._s = services
        self._sent: asyncio.Future[None] | None = None
        self.effects = Effects()

    def send(
        self,
        outputs: Outputs,
        records: Sequence[Records],
        *,
        replayed: bool,
        trace: StepTrace | None = None,
    ) -> None:
        """Let the effects of a step on `records` leave; returns at once. `replayed`: an earlier
        owner may have sent them before. `trace` is told when they are stored."""
        if self._s.conceal is not None:
            outputs = self._s.conceal.outgoing(outputs)
        loop = asyncio.get_running_loop()
        submitted = self._s.sink.submit(outputs.tables, self._on_alerts(outputs))
        submitted.add_done_callback(
            self._on_stored(records, outputs.canaries, trace, replayed=replayed)
        )
        stored = asyncio.wrap_future(submitted, loop=loop)
        stored.add_done_callback(_retrieve)
        self.effects.add(stored)
        messages = self._messages(outputs)
        if any(records for *_, records in messages):
            # Each step's messages after the last one's: readers drop repeats by ordinal, so
            # they must see ordinals rise.
            self._sent = background.start_awaited(
                self._append(self._sent, messages), f"messages-{self._shard}"
            )
            self._sent.add_done_callback(_retrieve)
            self.effects.add(self._sent)

    def _messages(self, outputs: Outputs) -> _Messages:
        topics, shard = self._s.topics, self._shard
        alerts: list[KeyValue] = [
            (a.user_id.encode(), msgspec.json.encode(a)) for a in outputs.alerts
        ]
        dead: list[KeyValue] = [(d.key, msgspec.json.encode(d)) for d in outputs.dead_letters]
        audiences: list[KeyValue] = [
            (a.user_id.encode(), msgspec.json.encode(a)) for a in outputs.audiences
        ]
        examples: list[KeyValue] = [(None, msgspec.msgpack.encode(e)) for e in outputs.examples]
        return [
            (topics.alerts, shard, alerts),
            (topics.audiences, shard, audiences),
            (topics.dead_letters, shard, dead),
            (topics.examples, 0, examples),
        ]

    def _on_alerts(self, outputs: Outputs) -> Callable[[], None] | None:
        """Measures their latency once they are readable; by a simulated clock there is none."""
        if not outputs.alerts or self._s.clock != "wall":
            return None
        produced_ms = outputs.produced_ms
        return lambda: self._s.monitor.alert_readable((self._s.wall_ms() - produced_ms) / 1000)

    def _on_stored(
        self,
        records: Sequence[Records],
        canaries: NDArray[np.int64],
        trace: StepTrace | None,
        *,
        replayed: bool,
    ) -> Callable[[Future[None]], None]:
        """Measures how old the records are, but for `canaries`, once the rows are readable; called
        on the sink's thread, so that a busy event loop makes them no older."""
        sent, sent_ms = time.monotonic(), self._s.wall_ms()
        sent_ns, ages = time.time_ns(), None
        if self._s.clock == "wall":
            ages = Ages.of(times_of_events(records, canaries), sent_ms)

        def stored(rows: Future[None]) -> None:
            if trace is not None:
                trace.stored(sent_ns, time.time_ns(), failed=rows.exception() is not None)
            if rows.exception() is None:  # else the shard fails, and its next owner sends them
                now = None if ages is None else ages.later(self._s.wall_ms() - sent_ms)
                self._s.monitor.stored(time.monotonic() - sent, now, replayed=replayed)

        return stored

    async def _append(self, before: asyncio.Future[None] | None, messages: _Messages) -> None:
        if before is not None:
            await before
        for topic, partition, records in messages:
            if records:
                await self._s.log.append(topic, partition, records)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark a failure as seen; `Effects.flushed` raises it where it can be acted on."""
    if not future.cancelled():
        future.exception()
