"""The log as the shards use it: append, read a range, get the ends. Kafka behind a small protocol.

Shards use the `Log` protocol, so that a crash test can run them on a log in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.errors import BrokerUnavailable, StateError
from streams.core.events.records import Records
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import probe

__all__ = ["KafkaLog", "KeyValue", "Log", "to_records"]

KeyValue = tuple[bytes | None, bytes | None]

_CHECK_BROKER = "Check that the broker runs and that this user may use the topic."

MAX_RECORD_BYTES = 1_000_000  # just under a broker's default limit of 1 MiB
READ_BYTES = 8 * 1024 * 1024
FETCH_WAIT_MS = 100
READ_STALL_SECONDS = 30.0  # without a record for so long, a read has failed


def to_records(records: Sequence[Any]) -> Records:
    """Records of one partition as aiokafka and kafka-python give them, as columns. A record without
    a time, which the format before v1 did not have, gets -1."""
    n = len(records)
    times_ms = (-1 if r.timestamp is None else r.timestamp for r in records)
    return Records.of(
        np.fromiter((r.offset for r in records), np.int64, n),
        np.fromiter(times_ms, np.int64, n),
        [r.key for r in records],
        [r.value for r in records],
    )


class Log(Protocol):
    """An append-only log of records, by topic and partition."""

    async def append(self, topic: str, partition: int, records: Sequence[KeyValue]) -> list[int]:
        """Append in order; returns each record's offset once all are acknowledged."""
        ...

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Records:
        """All records with start <= offset < stop. Raises StateError if some are missing."""
        ...

    async def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset, and the next one to be written."""
        ...


Stamped = Callable[[int, int, int], None]
"""Called with (sent_ms, answered_ms, stamped_ms): when a record was sent and its acknowledgement
came by this machine's clock, and the broker's own time in between."""

_BY_BROKER = 1  # a record's timestamp type if the topic has message.timestamp.type=LogAppendTime


class KafkaLog:
    """`Log` on Kafka. Uses a producer and, for reading, a consumer without a group.

    `stamped` is called for every append to a topic whose records the broker stamps.
    """

    def __init__(self, where: KafkaAccess | Iterable[str], stamped: Stamped | None = None) -> None:
        self._access = KafkaAccess.of(where)
        self._stamped = stamped
        self._producer: Any = None
        self._consumer: Any = None
        self._reading = asyncio.Lock()  # one consumer, so one range at a time

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailable, or SettingsError if TLS or the login is refused."""
        if self._access.security != "plaintext":
            await probe(self._access)
        self._producer = clients.async_producer(
            self._access, max_request_size=2 * MAX_RECORD_BYTES, max_batch_size=256 * 1024
        )
        self._consumer = clients.async_consumer(
            self._access,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=READ_BYTES,
            fetch_max_bytes=2 * READ_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await self._producer.start()
            await self._consumer.start()
        except (KafkaError, OSError) as exc:
            await self.stop()
            raise BrokerUnavailable(
                f"No Kafka broker answers at {self._access} ({exc}). "
                "Start it or set TIDELINE_KAFKA_BROKER_URL."
            ) from exc

    async def stop(self) -> None:
        """Disconnect; what was appended and not yet acknowledged is sent first."""
        for client in (self._producer, self._consumer):
            if client is not None:
                await client.stop()

    async def append(
        self,
        topic: str,
        partition: int,
        records: Sequence[KeyValue],
        stamp_ms: int | None = None,
    ) -> list[int]:
        """`stamp_ms`: the records' time, where it is not now: a replay's clock goes by it."""
        sent_ms = time.time_ns() // 1_000_000
        try:
            sent = [
                await self._producer.send(
                    topic, value, key=key, partition=partition, timestamp_ms=stamp_ms
                )
                for key, value in records
            ]
            answers = [await future for future in sent]
        except KafkaError as exc:
            raise BrokerUnavailable(
                f"Kafka did not take a record for {topic}/{partition}: {exc!r}. {_CHECK_BROKER}"
            ) from exc
        if self._stamped is not None and answers and answers[-1].timestamp_type == _BY_BROKER:
            self._stamped(sent_ms, time.time_ns() // 1_000_000, answers[-1].timestamp)
        return [answer.offset for answer in answers]

    async def ends(self, topic: str, partition: int) -> tuple[int, int]:
        tp = TopicPartition(topic, partition)
        async with self._reading:
            try:
                first = (await self._consumer.beginning_offsets([tp]))[tp]
                listed = (await self._consumer.end_offsets([tp]))[tp]
                if listed <= first:
                    return first, listed  # empty: a fetch would wait for new records
                # The local broker lists an end that is too low after a batch of several records;
                # the high watermark in a fetch's answer is right on every broker.
                self._consumer.assign([tp])
                self._consumer.seek(tp, max(first, listed - 1))
                await self._consumer.getmany(tp, timeout_ms=FETCH_WAIT_MS, max_records=1)
                mark = self._consumer.highwater(tp)
            except (KafkaError, ValueError) as exc:
                raise BrokerUnavailable(
                    f"Kafka did not give the offsets of {topic}/{partition}: {exc!r}. "
                    "Check that the topic exists; `tideline topics --create` makes it."
                ) from exc
            finally:
                self._consumer.unsubscribe()
        return first, max(listed, mark or 0)

    async def listed_ends(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The next offset of each (topic, partition), in one question: for who asks often, and may
        be told an end that is a little too low. Raises BrokerUnavailable."""
        tps = [TopicPartition(*place) for place in places]
        try:  # beside a read: it needs no assignment
            listed = await self._consumer.end_offsets(tps)
        except (KafkaError, ValueError) as exc:
            raise BrokerUnavailable(
                f"Kafka did not give the ends of {len(tps)} partitions: {exc!r}. {_CHECK_BROKER}"
            ) from exc
        return {(tp.topic, tp.partition): end for tp, end in listed.items()}

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Records:
        if stop <= start:
            return Records.empty()
        tp = TopicPartition(topic, partition)
        parts: list[Any] = []
        loop = asyncio.get_running_loop()
        async with self._reading:
            self._consumer.assign([tp])
            self._consumer.seek(tp, start)
            try:
                async with asyncio.timeout(READ_STALL_SECONDS) as stall:
                    while await self._consumer.position(tp) < stop:
                        got = await self._consumer.getmany(tp, timeout_ms=500)
                        if got.get(tp):
                            parts.extend(got[tp])
                            stall.reschedule(loop.time() + READ_STALL_SECONDS)
            except (TimeoutError, OffsetOutOfRangeError) as exc:
                raise StateError(
                    f"The recovery needs offsets {start} to {stop} of {topic}/{partition}, but the "
                    f"broker does not have them ({exc!r}). Check whether the topic was deleted, or "
                    "its retention is too short."
                ) from exc
            except KafkaError as exc:
                raise BrokerUnavailable(
                    f"Kafka did not send {topic}/{partition}: {exc!r}. {_CHECK_BROKER}"
                ) from exc
            finally:
                self._consumer.unsubscribe()
        return to_records([r for r in parts if r.offset < stop])
