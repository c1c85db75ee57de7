"""Records are copied whole into topics with more partitions, and what can't be is named."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from kafka.admin import NewTopic

from schemas.errors import BrokerUnavailable, FatalError
from streams.core.partitioning import Partitioner, partitions_of_keys
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import connect
from streams.kafka.copying import Copier, Refused
from streams.kafka.growth import commit_for, committed_by
from tests.one_broker import numbers

pytestmark = pytest.mark.kafka

_NUMBERS = numbers()
HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
NEW = Partitioner("murmur2", 4)
KEPT = {"retention.ms": "-1"}  # the records are old


def noise(n: int) -> bytes:
    """Bytes that can't be compressed."""
    return random.Random(n).randbytes(n)


class Topics:
    """An old topic of two partitions, and a new one of four."""

    def __init__(self, bootstrap: str) -> None:
        n = next(_NUMBERS)
        self.access = KafkaAccess((bootstrap,))
        self.old, self.new, self.group = f"old{n}", f"new{n}", f"copies{n}"

    def make(
        self, old: Mapping[str, str] | None = None, new: Mapping[str, str] | None = None
    ) -> None:
        wanted = [
            NewTopic(self.old, 2, 1, topic_configs={**KEPT, **(old or {})}),
            NewTopic(self.new, NEW.partitions, 1, topic_configs={**KEPT, **(new or {})}),
        ]
        with connect(self.access) as admin:
            admin.create_topics(wanted)
            admin.wait_for_topics([self.old, self.new])

    async def put(
        self, partition: int, records: Sequence[Mapping[str, Any]], compression: str | None = None
    ) -> None:
        """All in one batch."""
        producer = clients.async_producer(
            self.access, compression_type=compression, max_batch_size=20_000_000
        )
        await producer.start()
        try:
            batch = producer.create_batch()
            for each in records:
                whole = {"timestamp": START_MS, "key": b"k", "value": b"v", "headers": []} | {
                    **each
                }
                assert batch.append(**whole) is not None
            await (await producer.send_batch(batch, self.old, partition=partition))
        finally:
            await producer.stop()

    async def found(self, topic: str | None = None) -> dict[int, list[Any]]:
        """What the new topic holds, by partition."""
        places = [TopicPartition(topic or self.new, p) for p in range(NEW.partitions)]
        consumer = clients.async_consumer(self.access, auto_offset_reset="earliest")
        await consumer.start()
        try:
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            records: dict[int, list[Any]] = {p.partition: [] for p in places}
            async with asyncio.timeout(30):
                while any([await consumer.position(p) < ends[p] for p in places]):
                    for at, some in (await consumer.getmany(timeout_ms=200)).items():
                        records[at.partition] += some
        finally:
            await consumer.stop()
        return records

    def copier(self, known: int = 0, **options: Any) -> Copier:
        return Copier(
            self.access,
            self.group,
            {self.old: self.new},
            {self.old: 2},
            known=known,
            to=NEW,
            keyless=lambda partition: partition,
            left_out=lambda topic, partition, record: False,
            note="a note",
            **({"lateness_ms": 24 * HOUR_MS} | options),
        )

    async def copy(self, **options: Any) -> tuple[Copier, list[Refused]]:
        """All there is now."""
        refused: list[Refused] = []
        async with self.copier(**options) as copier:
            await copier.start()
            ends = await copier.ends()
            async with asyncio.timeout(60):
                while await copier.left(ends):
                    refused += await copier.copy_some() or []
        return copier, refused

    def committed(self) -> dict[int, tuple[int, str]]:
        found = committed_by(self.access, self.group)
        return {p: (each.offset, each.note) for (_, p), each in sorted(found.items())}


@pytest.fixture
def topics(apache_kafka: Any) -> Topics:
    """On Apache Kafka: the local broker refuses no record, and keeps no notes."""
    return Topics(apache_kafka.bootstrap)


def run(go: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await go()

    asyncio.run(main())


def test_every_record_is_copied_as_it_is(topics: Topics) -> None:
    topics.make()
    odd: list[dict[str, Any]] = [
        {"headers": [("null", None), ("empty", b""), ("größe €" * 50, b"1")]},
        {"key": None, "value": None},
        {"key": b"", "value": None, "timestamp": START_MS + 7},
        {"key": b"k2", "value": b"text " * 500_000},  # fits only compressed
    ]

    async def go() -> None:
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            await topics.put(1, odd, codec)
        copier, refused = await topics.copy()
        assert (copier.copied, copier.refused, refused) == (16, 0, [])
        found = await topics.found()
        read = {p: [as_sent(r) for r in records] for p, records in found.items()}
        wanted: dict[int, list[Any]] = {p: [] for p in range(4)}
        for each in 4 * odd:
            whole: dict[str, Any] = {
                "timestamp": START_MS,
                "key": b"k",
                "value": b"v",
                "headers": [],
            } | each
            key = whole["key"]
            q = 1 if key is None else int(partitions_of_keys([key], NEW.name, 4)[0])
            wanted[q].append(whole)
        assert read == wanted
        assert topics.committed() == {0: (0, "a note"), 1: (16, "a note")}

    run(go)


async def again_and_again(copier: Copier) -> None:
    async with asyncio.timeout(60):
        while True:
            await copier.copy_some()


def as_sent(record: Any) -> dict[str, Any]:
    return {
        "timestamp": record.timestamp,
        "key": record.key,
        "value": record.value,
        "headers": list(record.headers),
    }


def test_a_record_that_the_broker_refuses_is_named_and_the_others_of_its_batch_are_copied(
    topics: Topics,
) -> None:
    topics.make({"max.message.bytes": "10000000"}, {"max.message.bytes": "20000"})

    async def go() -> None:
        small = [{"value": noise(n)} for n in range(40, 50)]
        await topics.put(0, [*small, {"value": noise(30_000)}, *small])
        await topics.put(1, [{"value": noise(5_000_000)}, *small])
        copier, refused = await topics.copy()
        assert {(r.topic, r.partition, r.offset) for r in refused} == {
            (topics.old, 0, 10),
            (topics.old, 1, 0),
        }
        assert {r.why for r in refused} == {"MessageSizeTooLargeError"}
        assert (copier.copied, copier.refused) == (30, 2)
        values = [r.value for records in (await topics.found()).values() for r in records]
        assert sorted(values) == sorted(each["value"] for each in 3 * small)
        assert topics.committed() == {0: (21, "a note"), 1: (11, "a note")}

    run(go)


def test_what_the_broker_may_take_later_is_not_skipped(topics: Topics) -> None:
    topics.make()

    async def go() -> None:
        await topics.put(0, [{}])
        async with topics.copier() as copier:
            await copier.start()
            with connect(topics.access) as admin:
                admin.delete_topics([topics.new])
            copier._producer._request_timeout_ms = 500
            copier._producer._message_accumulator._batch_ttl = 0.5
            copier._producer.client._request_timeout_ms = 500
            with pytest.raises(BrokerUnavailable, match="it continues"):
                await again_and_again(copier)
            assert (copier.copied, copier.refused) == (0, 0)
        assert topics.committed() == {0: (0, "a note"), 1: (0, "a note")}

    run(go)


def test_offsets_are_committed_again_while_nothing_comes(topics: Topics) -> None:
    topics.make()
    now = 0.0

    async def go() -> None:
        nonlocal now
        await topics.put(0, [{}])
        async with topics.copier(seconds=lambda: now) as copier:
            await copier.start()
            while await copier.copy_some() is None:
                pass
            commit_for(topics.access, topics.group, {(topics.old, 0): 0}, "older")
            now = 59.0
            assert await copier.copy_some() is None
            assert topics.committed()[0] == (0, "older")
            now = 60.0
            assert await copier.copy_some() is None
            assert topics.committed() == {0: (1, "a note"), 1: (0, "a note")}

    run(go)


def test_only_added_partitions_begin_at_the_beginning(topics: Topics) -> None:
    topics.make()

    async def go() -> None:
        await topics.put(0, [{}, {}])
        await topics.put(1, [{}, {}, {}])
        async with topics.copier(known=1) as copier:
            with pytest.raises(FatalError, match=rf"How far {topics.old}/0 was copied") as caught:
                await copier.start()
        assert f"--group {topics.group} --topic {topics.old} --reset-offsets" in str(caught.value)
        assert topics.committed() == {}
        commit_for(topics.access, topics.group, {(topics.old, 0): 1}, "")
        copier, _ = await topics.copy(known=1)
        assert copier.copied == 1 + 3

    run(go)


def test_what_retention_takes_meanwhile_is_counted(topics: Topics) -> None:
    topics.make()

    async def go() -> None:
        for n in range(6):  # a fetch brings one at most
            await topics.put(0, [{"value": noise(900_000 + n)}])
        async with topics.copier() as copier:
            await copier.start()
            ends = await copier.ends()
            with connect(topics.access) as admin:
                admin.delete_records({TopicPartition(topics.old, 0): 5})
            async with asyncio.timeout(60):
                while await copier.left(ends):
                    await copier.copy_some()
        assert copier.expired >= 3
        assert copier.copied + copier.expired == 6

    run(go)


def test_markers_of_transactions_are_not_counted_as_expired(topics: Topics) -> None:
    topics.make()

    async def go() -> None:
        producer = clients.async_producer(topics.access, transactional_id=topics.group)
        await producer.start()
        for _ in range(3):
            async with producer.transaction():
                await producer.send(topics.old, b"v", key=b"k", partition=0)
        await producer.begin_transaction()
        await producer.send(topics.old, b"aborted", key=b"k", partition=0)
        await producer.abort_transaction()
        await producer.stop()
        copier, _ = await topics.copy()
        assert (copier.copied, copier.expired) == (3, 0)
        assert topics.committed()[0] == (8, "a note")

    run(go)


def test_a_topic_that_was_created_again_is_refused(topics: Topics) -> None:
    topics.make()

    async def go() -> None:
        commit_for(topics.access, topics.group, {(topics.old, 0): 9, (topics.old, 1): 0}, "")
        async with topics.copier() as copier:
            await copier.start()
            with pytest.raises(FatalError, match="the topic was created again"):
                await again_and_again(copier)

    run(go)


@pytest.mark.parametrize("lateness_ms", [0, 60_000, 24 * HOUR_MS])
def test_no_partition_runs_ahead_of_others_further_than_lateness_allows(
    topics: Topics, lateness_ms: int
) -> None:
    topics.make()

    async def go() -> None:
        # One is read at once, the other takes several fetches; both are of the same key.
        early = [{"timestamp": START_MS + 10_000 * n} for n in range(1_000)]
        late = [
            {"timestamp": START_MS + 10_000 * n + 5_000, "value": noise(4_000 + n)}
            for n in range(1_000)
        ]
        await topics.put(0, early)
        for n in range(0, 1_000, 50):
            await topics.put(1, late[n : n + 50])
        copier, _ = await topics.copy(lateness_ms=lateness_ms)
        assert copier.copied == 2_000
        (times,) = [[r.timestamp for r in rs] for rs in (await topics.found()).values() if rs]
        assert len(times) == 2_000
        newest = list(itertools.accumulate(times, max))
        behind = max(n - t for n, t in zip(newest, times, strict=True))
        assert behind <= min(lateness_ms // 2, HOUR_MS)

    run(go)
