"""`streams.kafka.fetch` hands out exactly what aiokafka's own `getmany` would."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.core.events.records import Records
from streams.kafka.fetch import fetched_columns, keep_fetched_bytes
from streams.kafka.log import to_records
from streams.local.tansu import TansuBroker

pytestmark = pytest.mark.kafka
TOPIC = "fetched"
TPS = [TopicPartition(TOPIC, p) for p in range(2)]


async def fill(bootstrap: str, compression: str | None, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 2, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=compression)
    await producer.start()
    for i in range(count):
        key = None if i % 7 == 0 else b"k%d" % i
        value = None if i % 11 == 0 and key else b"v%d" % i * (i % 50)
        await producer.send(TOPIC, value, key=key, partition=i % 2, timestamp_ms=1_000 + i)
    await producer.stop()


async def read(bootstrap: str, start: int, columns: bool, count: int) -> dict[Any, Records]:
    keep_fetched_bytes()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100
    )
    await consumer.start()
    consumer.assign(TPS)
    for tp in TPS:
        consumer.seek(tp, start)
    parts: dict[Any, list[Records]] = {tp: [] for tp in TPS}
    async with asyncio.timeout(20):
        while sum(len(r) for part in parts.values() for r in part) < count - 2 * start:
            if columns:
                fetched = await fetched_columns(consumer._fetcher, TPS, 0.5, asyncio.Event())
                got = {tp: each.records for tp, each in fetched.items()}
            else:
                polled = await consumer.getmany(timeout_ms=500)
                got = {tp: to_records(records) for tp, records in polled.items()}
            for tp, records in got.items():
                parts[tp].append(records)
    positions = {tp: await consumer.position(tp) for tp in TPS}
    await consumer.stop()
    assert positions == dict.fromkeys(TPS, count // 2)
    return {tp: Records.concat(part) for tp, part in parts.items()}


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("start", [0, 137])
def test_columns_are_what_getmany_returns(compression: str | None, start: int) -> None:
    async def both(bootstrap: str) -> None:
        await fill(bootstrap, compression, 1_000)
        ours = await read(bootstrap, start, True, 1_000)
        theirs = await read(bootstrap, start, False, 1_000)
        for tp in TPS:
            assert ours[tp].offsets.tolist() == theirs[tp].offsets.tolist()
            assert ours[tp].offsets.tolist() == list(range(start, 500))
            assert ours[tp].timestamps_ms.tolist() == theirs[tp].timestamps_ms.tolist()
            assert list(ours[tp].keys) == list(theirs[tp].keys)
            assert list(ours[tp].values) == list(theirs[tp].values)

    with TansuBroker() as broker:
        asyncio.run(both(broker.bootstrap))


def test_what_was_fetched_of_a_partition_comes_as_soon_as_it_is_resumed() -> None:
    async def resume_while_waiting(bootstrap: str) -> None:
        await fill(bootstrap, None, 100)
        keep_fetched_bytes()
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        consumer.assign(TPS)
        for tp in TPS:
            consumer.seek(tp, 0)
        active, resumed = {TPS[0]}, asyncio.Event()
        fetcher, got = consumer._fetcher, 0
        async with asyncio.timeout(20):
            while got < 50:
                found = await fetched_columns(fetcher, active, 0.5, resumed)
                assert set(found) <= active
                got += sum(len(each.records) for each in found.values())
            while TPS[1] not in fetcher._records:
                await asyncio.sleep(0.01)
        waiting = asyncio.create_task(fetched_columns(fetcher, active, 600, resumed))
        await asyncio.sleep(0)
        active.add(TPS[1])
        resumed.set()
        async with asyncio.timeout(20):
            assert list(await waiting) == [TPS[1]]
        await consumer.stop()

    with TansuBroker() as broker:
        asyncio.run(resume_while_waiting(broker.bootstrap))
