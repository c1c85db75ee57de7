"""What a shard needs is gone or damaged: it is told loudly, and nothing passes for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams import topics_admin
from streams.kafka_admin import connect as connect_admin
from streams.local.process import wait_until
from streams.log import KafkaLog
from tests.faults.drill import Drill
from tests.integration.world import WAIT_SECONDS, Worker, World

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
]  # fmt: skip


def settled(fault: Drill) -> World:
    """A world in which a worker has done some work, and stopped."""
    here = fault.build(checkpoint_interval_seconds=1.0)
    worker = fault.worker("before")
    fault.load(3_000, rate=3_000).join()
    here.wait_accepted(fault.sent.total)
    assert worker.stop()[0] == 0
    fault.judge()
    return here


def refused(worker: Worker, *told: str) -> None:
    """The worker ends by itself with status 1, and says why."""
    assert wait_until(lambda: not worker.running, WAIT_SECONDS), worker.log[-2000:]
    assert worker.stop()[0] == 1
    for text in told:
        assert text in worker.log, worker.log[-3000:]


def recreate(here: World, topics: list[str]) -> None:
    with connect_admin(here.settings.kafka.brokers) as admin:
        admin.delete_topics(topics)
        here.wait("the topics are gone", lambda: not set(topics) & set(admin.list_topics()))
    topics_admin.create_missing(here.settings)


@pytest.mark.fault("input topics deleted and made anew, {when}")
@pytest.mark.parametrize("when", ["while no worker runs", "while a worker runs"])
def test_input_topics_that_were_made_anew_are_noticed(fault: Drill, when: str) -> None:
    here = settled(fault)
    if when == "while a worker runs":
        worker = fault.worker("running")
        here.own(worker)
    recreate(here, [here.inputs.clickstream, here.inputs.orders])
    fault.load(200, rate=1_000).join()  # fewer than there were
    if when == "while no worker runs":
        worker = fault.worker("after")
    refused(worker, "made anew", here.inputs.clickstream)


@pytest.mark.fault("retention passed the position")
def test_records_that_retention_took_before_they_were_read_are_noticed(fault: Drill) -> None:
    here = settled(fault)
    fault.load(3_000, rate=3_000).join()
    ends = asyncio.run(every_end(here, here.inputs.clickstream))

    async def expire() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=here.settings.kafka.broker_url)
        await admin.start()
        try:
            await admin.delete_records(
                {
                    TopicPartition(here.inputs.clickstream, p): RecordsToDelete(end - 1)
                    for p, end in ends.items()
                }
            )
        finally:
            await admin.close()

    asyncio.run(expire())
    refused(fault.worker("after"), here.inputs.clickstream, "retention")


async def every_end(here: World, topic: str) -> dict[int, int]:
    log = KafkaLog(here.settings.kafka.brokers)
    await log.start()
    try:
        return {p: (await log.ends(topic, p))[1] for p in range(here.settings.kafka.partitions)}
    finally:
        await log.stop()


def page(key: bytes) -> bool:
    return key.startswith(b"page/")


def manifest(key: bytes) -> bool:
    return key.startswith(b"manifest/")


@pytest.mark.fault("checkpoint damaged: {what}")
@pytest.mark.parametrize(
    ("what", "choose", "value", "told"),
    [
        ("a page truncated", page, lambda v: v[: len(v) // 2], "no checkpoint"),
        ("a page with one bit changed", page, lambda v: bytes([v[0] ^ 1]) + v[1:], "no checkpoint"),
        ("a page missing", page, lambda _: None, "no checkpoint"),
        ("a manifest of another version", manifest, lambda _: b"\x93\x01\x02\x03", "manifest"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_reason(
    fault: Drill,
    what: str,
    choose: Callable[[bytes], bool],
    value: Callable[[bytes], bytes | None],
    told: str,
) -> None:
    here = settled(fault)
    topic = here.settings.topic_names.checkpoints

    async def damage() -> None:
        log = KafkaLog(here.settings.kafka.brokers)
        await log.start()
        first, end = await log.ends(topic, 0)
        records = await log.read(topic, 0, first, end)
        await log.stop()
        newest = {k: v for k, v in zip(records.keys, records.values, strict=True) if k is not None}
        key, old = next((k, v) for k, v in reversed(newest.items()) if choose(k) and v is not None)
        producer = AIOKafkaProducer(bootstrap_servers=here.settings.kafka.broker_url)
        await producer.start()
        await producer.send_and_wait(topic, value(old), key=key, partition=0)
        await producer.stop()

    asyncio.run(damage())
    refused(fault.worker("after"), told, topic)


@pytest.mark.fault("journal damaged: {what}")
@pytest.mark.parametrize("what", ["garbage behind the last step", "deleted and made anew"])
def test_a_damaged_journal_is_refused_with_the_reason(fault: Drill, what: str) -> None:
    here = settled(fault)
    topic = here.settings.topic_names.journal
    if what == "deleted and made anew":
        recreate(here, [topic])
    else:

        async def damage() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=here.settings.kafka.broker_url)
            await producer.start()
            await producer.send_and_wait(topic, b"not a journal record", partition=0)
            await producer.stop()

        asyncio.run(damage())
    refused(fault.worker("after"), "journal")
