"""Sends a source to Kafka, in order, both topics in step.

For each block of records:

1. wait until the block is due (`speed` in event time, `rate` in records);
2. assign partitions by key and pack one run of record batches per topic and partition;
3. wait until the block *before* it is acknowledged by all in-sync replicas; hand over this one.

So packing overlaps sending, neither topic is ever more than one block ahead of the other, and what
was counted was acknowledged. The producer is idempotent where the broker can do that, so a retried
request neither doubles nor reorders records.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError

from streams import background
from streams.kafka.access import KafkaAccess
from streams.replay.pacing import Pace, slices
from streams.replay.partitioner import KeyAssigner
from streams.replay.records import CLICKSTREAM, Block, InputRecord, TopicKind
from streams.replay.target import (
    InputTopics,
    access_of,
    connect,
    partitions,
    refuse_expired,
    unavailable,
)

__all__ = ["InputTopics", "ProduceSummary", "produce"]


@dataclass
class ProduceSummary:
    """What was sent and acknowledged."""

    clickstream: list[int] = field(default_factory=list)
    """Records by partition."""
    orders: list[int] = field(default_factory=list)
    """Records by partition."""
    bytes: int = 0
    """As sent: record batches, uncompressed."""
    seconds: float = 0.0
    first_ms: int | None = None
    """Event time of the first record; None when nothing was sent."""
    last_ms: int | None = None

    @property
    def records(self) -> int:
        return sum(self.clickstream) + sum(self.orders)

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "records": self.records,
            "clickstream": sum(self.clickstream),
            "orders": sum(self.orders),
            "clickstream_by_partition": self.clickstream,
            "orders_by_partition": self.orders,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.records_per_second),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
        }


async def produce(
    source: Iterable[Block],
    where: KafkaAccess | str,
    topics: InputTopics,
    *,
    speed: float = 0.0,
    rate: float = 0.0,
    max_seconds: float | None = None,
    stamp_now: bool = False,
    check_retention: bool = False,
    progress: Callable[[ProduceSummary], None] | None = None,
) -> ProduceSummary:
    """Send all of `source` (or `max_seconds` of it) and return what was acknowledged.

    `where`: how to reach Kafka; a plain `host:port,…` stands for brokers without TLS and login.
    `speed`: seconds of event time per second, 0 for flat out. `rate`: records per second at most, 0
    for no limit. Records carry their event time as Kafka timestamp, or the time of sending if
    `stamp_now`: on a broker whose retention is shorter than the data is old, old timestamps get the
    records deleted as soon as the broker looks (`check_retention` refuses that).
    `progress` is called after each block.

    Raises SettingsError when a topic is missing or the two are not co-partitioned, and
    BrokerUnavailable when the broker does not answer or stops answering.
    """
    access = access_of(where)
    producer = await connect(access)
    try:
        count = await partitions(producer, topics)
        sender = _Sender(producer, topics, count, stamp_now)
        started = time.monotonic()
        pace = Pace(speed, rate)
        for block in slices(_bounded(source, max_seconds), speed, rate):
            if check_retention and not stamp_now:
                check_retention = False  # the first block is the oldest
                now_ms = int(time.time() * 1000)
                await refuse_expired(access, topics, block[0].timestamp_ms, now_ms)
            wait = pace.wait_seconds(block[0].timestamp_ms, time.monotonic() - started)
            # sleep(0) as well: the sender's own task needs its turn between blocks
            await asyncio.sleep(wait)
            await sender.send(block)
            pace.sent(len(block))
            sender.summary.seconds = time.monotonic() - started
            if progress is not None:
                progress(sender.summary)
        await sender.finish()
        sender.summary.seconds = time.monotonic() - started
        return sender.summary
    except (KafkaError, OSError) as error:
        raise unavailable(access, error) from error
    finally:
        await producer.stop()


class _Sender:
    """Packs blocks into record batches; holds the block in flight."""

    def __init__(
        self, producer: Any, topics: InputTopics, partitions: int, stamp_now: bool
    ) -> None:
        self.summary = ProduceSummary([0] * partitions, [0] * partitions)
        self._producer = producer
        self._topics = topics
        self._partitioner = KeyAssigner(partitions, topics.partitioner)
        self._stamp_now = stamp_now
        self._in_flight: list[Awaitable[Any]] = []
        self._packed: Callable[[], None] = _nothing

    async def send(self, block: Block) -> None:
        """Hand over `block`; returns when the one before it is acknowledged."""
        runs = self._split(block)
        batches = [(kind, p, b) for (kind, p), run in runs.items() for b in self._pack(run)]
        await self._acknowledged()
        by_partition: defaultdict[tuple[TopicKind, int], list[Any]] = defaultdict(list)
        for kind, partition, batch in batches:
            by_partition[kind, partition].append(batch)
        self._in_flight = [
            background.start_awaited(
                self._send_run(self._topics[kind], partition, run), f"{kind}-{partition}"
            )
            for (kind, partition), run in by_partition.items()
        ]
        counts = {key: len(run) for key, run in runs.items()}
        size = sum(batch.size() for _, _, batch in batches)
        first, last = block[0].timestamp_ms, block[-1].timestamp_ms
        self._packed = lambda: self._count(counts, size, first, last)

    async def finish(self) -> None:
        """Wait for the last block."""
        await self._acknowledged()

    async def _acknowledged(self) -> None:
        await asyncio.gather(*self._in_flight)
        self._packed()
        self._in_flight, self._packed = [], _nothing

    async def _send_run(self, topic: str, partition: int, run: list[Any]) -> None:
        # aiokafka has one request per partition under way; it queues the others in this order.
        futures = [await self._producer.send_batch(b, topic, partition=partition) for b in run]
        await asyncio.gather(*futures)

    def _split(self, block: Block) -> dict[tuple[TopicKind, int], list[InputRecord]]:
        runs: defaultdict[tuple[TopicKind, int], list[InputRecord]] = defaultdict(list)
        assigned = self._partitioner.assign([record[1] for record in block])
        for record, partition in zip(block, assigned, strict=True):
            runs[record[0], partition].append(record)
        return runs

    def _pack(self, run: list[InputRecord]) -> Iterator[Any]:
        batch = self._producer.create_batch()
        append = batch.append
        now = int(time.time() * 1000) if self._stamp_now else None
        for _, key, value, event_ms in run:
            ts = event_ms if now is None else now
            if append(timestamp=ts, key=key, value=value) is None:
                yield batch
                batch = self._producer.create_batch()
                append = batch.append
                append(timestamp=ts, key=key, value=value)  # the first always fits
        batch.close()
        yield batch

    def _count(
        self, counts: dict[tuple[TopicKind, int], int], size: int, first_ms: int, last_ms: int
    ) -> None:
        summary = self.summary
        for (kind, partition), n in counts.items():
            (summary.clickstream if kind == CLICKSTREAM else summary.orders)[partition] += n
        summary.bytes += size
        summary.first_ms = first_ms if summary.first_ms is None else summary.first_ms
        summary.last_ms = last_ms


def _bounded(source: Iterable[Block], max_seconds: float | None) -> Iterator[Block]:
    """`source`, until the time is up; no block is taken that will not be sent."""
    end = None if max_seconds is None else time.monotonic() + max_seconds
    blocks = iter(source)
    while end is None or time.monotonic() < end:
        block = next(blocks, None)
        if block is None:
            return
        yield block


def _nothing() -> None:
    pass
