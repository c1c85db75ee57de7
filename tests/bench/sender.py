"""Open-loop load: sends events at their scheduled times, whatever becomes of the earlier ones.

    python -m tests.bench.sender '{"rate": 60000, ...}'

Everything is packed into record batches beforehand, compressed (LZ4) as a shop's producers should,
so that sending costs little and keeps up. One
event in so many is a probe: an order of a customer with an open alert, which closes it. Latency is
counted from the time at which the probe was due, so what waits here counts too (no coordinated
omission). Prints `ready`, waits for a line with the time to start at, and prints how late it was.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streams.kafka.access import KafkaAccess
from streams.replay.partitioner import KeyAssigner
from streams.replay.records import CLICKSTREAM, ORDERS, Block, InputRecord
from streams.replay.target import new_producer
from streams.replay.templates import Templates
from streams.settings.rules import brokers
from tests.bench.load import SHAPES

__all__ = ["TICK_SECONDS", "Sending", "due_seconds", "probe_key"]

TICK_SECONDS: Final = 0.02
"""Events go out together once per tick, at its end: what that costs in latency is counted."""


@dataclass(frozen=True)
class Sending:
    """The sender's parameters."""

    bootstrap: str
    clickstream: str
    orders: str
    partitions: int
    shape: str
    seed: int
    rate: float
    seconds: float
    probes_per_second: float
    first_probe: int

    @property
    def probes(self) -> int:
        return int(self.seconds * self.probes_per_second)


def probe_key(number: int) -> bytes:
    """The user that probe `number` is an order of; each is used once."""
    return b"probe-%d" % number


def due_seconds(sending: Sending, number: int) -> float:
    """When that probe is due, from the start. They are spread evenly over ticks' parts."""
    return (number - sending.first_probe + 0.5) / sending.probes_per_second


def _events(sending: Sending) -> list[tuple[float, InputRecord]]:
    """Everything to send, with the seconds at which it is due, in order."""
    n = int(sending.rate * sending.seconds)
    now_ms = time.time_ns() // 1_000_000
    source = SHAPES[sending.shape].source(
        n, now_ms, seed=sending.seed, span_ms=int(sending.seconds * 1000)
    )
    block: Block = [record for part in source for record in part]
    due = (np.arange(n) / sending.rate).tolist()
    events = list(zip(due, block, strict=True))
    templates = Templates(sending.seed + 1_000, np.random.default_rng(sending.seed))
    for i in range(sending.probes):
        number = sending.first_probe + i
        key = probe_key(number)
        value = templates.order(number + number // 24 + 1, key, now_ms)
        record = InputRecord(ORDERS, key, value, now_ms)
        events.append((due_seconds(sending, number), record))
    events.sort(key=lambda event: event[0])
    return events


def _packed(sending: Sending, producer: Any) -> list[list[tuple[str, int, Any]]]:
    """The record batches of every tick: (topic, partition, batch)."""
    partitioner = KeyAssigner(sending.partitions)
    events = _events(sending)
    owners = partitioner.assign([record.key for _, record in events])
    ticks: list[dict[tuple[str, int], Any]] = [
        defaultdict(producer.create_batch) for _ in range(int(sending.seconds / TICK_SECONDS) + 1)
    ]
    for (due, record), owner in zip(events, owners, strict=True):
        topic = sending.clickstream if record.topic_kind == CLICKSTREAM else sending.orders
        batch = ticks[int(due / TICK_SECONDS)][topic, owner]
        full = batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value)
        assert full is not None, "a tick is more than a record batch holds: lower the rate"
    for tick in ticks:
        for batch in tick.values():
            batch.close()
            batch._build()
    return [[(topic, p, batch) for (topic, p), batch in tick.items()] for tick in ticks]


async def _run(sending: Sending) -> None:
    # What is packed already can't be numbered any more, so it is not idempotent.
    producer = new_producer(KafkaAccess(brokers(sending.bootstrap)), compression_type="lz4")
    await producer.start()
    try:
        ticks = _packed(sending, producer)
        print("ready", flush=True)
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        start, latest, futures = float(line), 0.0, []
        for number, batches in enumerate(ticks):
            due = start + (number + 1) * TICK_SECONDS
            await asyncio.sleep(max(0.0, due - time.time()))
            latest = max(latest, time.time() - due)
            for topic, partition, batch in batches:
                futures.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*futures)
        print(json.dumps({"latest_seconds": latest, "sent_at": time.time()}), flush=True)
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(_run(Sending(**json.loads(sys.argv[1]))))
