"""What a shard needs is gone or damaged: it stops with the reason, and uses no substitute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams.kafka.log import KafkaLog
from tests.faults.drill import Drill
from tests.integration.world import World

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
]  # fmt: skip


def settled(fault: Drill) -> World:
    """A world in which a worker has done some work, and stopped."""
    here = fault.build(stream_checkpoint_interval_seconds=1.0)
    worker = fault.worker("before")
    fault.load(3_000, rate=3_000).join()
    here.wait_accepted(fault.sent.total)
    assert worker.stop()[0] == 0
    fault.judge()
    return here


@pytest.mark.fault("input topics deleted and recreated, {when}")
@pytest.mark.parametrize("when", ["while no worker runs", "while a worker runs"])
def test_recreated_input_topics_are_detected(fault: Drill, when: str) -> None:
    here = settled(fault)
    if when == "while a worker runs":
        worker = fault.worker("running")
        here.own(worker)
    with fault.nothing_written():
        here.recreate([here.inputs.clickstream, here.inputs.orders])
        fault.load(200, rate=1_000).join()  # fewer than there were
        if when == "while no worker runs":
            worker = fault.worker("after")
        fault.gave_up(worker, "created again", here.inputs.clickstream)
    fault.result.refused = True


@pytest.mark.fault("retention passed the position")
def test_records_that_retention_took_before_they_were_read_are_noticed(fault: Drill) -> None:
    here = settled(fault)
    fault.load(3_000, rate=3_000).join()
    ends = asyncio.run(every_end(here, here.inputs.clickstream))

    expire(here, here.inputs.clickstream, {p: end - 1 for p, end in ends.items()})
    fault.refused("after", here.inputs.clickstream, "retention")


def expire(here: World, topic: str, first: dict[int, int]) -> None:
    """What retention does: by partition, which offset is the first one left."""

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=here.settings.kafka.broker_url)
        await admin.start()
        try:
            records = {TopicPartition(topic, p): RecordsToDelete(at) for p, at in first.items()}
            await admin.delete_records(records)
        finally:
            await admin.close()

    asyncio.run(delete())


@pytest.mark.fault("retention passed the journal behind the checkpoint")
def test_a_journal_that_retention_took_before_its_steps_were_in_a_checkpoint_is_noticed(
    fault: Drill,
) -> None:
    here = fault.build(stream_checkpoint_interval_seconds=600)
    worker = fault.worker("before")
    fault.load(3_000, rate=3_000).join()
    here.wait_accepted(fault.sent.total)
    worker.kill()
    topic = here.settings.topic_names.journal
    expire(here, topic, asyncio.run(every_end(here, topic)))
    fault.refused("after", topic, "retention")


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
    ("what", "choose", "value", "message"),
    [
        ("a page truncated", page, lambda v: v[: len(v) // 2], "no checkpoint"),
        ("a page with one bit changed", page, lambda v: bytes([v[0] ^ 1]) + v[1:], "no checkpoint"),
        ("a page missing", page, lambda _: None, "no checkpoint"),
        ("a manifest cut in half", manifest, lambda v: v[: len(v) // 2], "manifest"),
        ("a manifest of another version", manifest, lambda _: b"\x93\x01\x02\x03", "manifest"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_reason(
    fault: Drill,
    what: str,
    choose: Callable[[bytes], bool],
    value: Callable[[bytes], bytes | None],
    message: str,
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
    fault.refused("after", message, topic)


@pytest.mark.fault("journal damaged: {what}")
@pytest.mark.parametrize("what", ["garbage", "a step cut in half", "a step of another version"])
def test_a_damaged_journal_is_refused_with_the_reason(fault: Drill, what: str) -> None:
    here = settled(fault)
    topic = here.settings.topic_names.journal

    async def damage() -> None:
        log = KafkaLog(here.settings.kafka.brokers)
        await log.start()
        try:
            first, end = await log.ends(topic, 0)
            records = await log.read(topic, 0, first, end)
            step = next(v for v in reversed(records.values) if v is not None and b"step" in v)
            value = {
                "garbage": b"not a journal record",
                "a step cut in half": step[: len(step) // 2],
                "a step of another version": step.replace(b"step", b"stap", 1),
            }[what]
            await log.append(topic, 0, [(None, value)])
        finally:
            await log.stop()

    asyncio.run(damage())
    fault.refused("after", topic, "not a journal record")


@pytest.mark.fault("journal deleted and recreated")
def test_a_recreated_journal_is_refused_with_the_reason(fault: Drill) -> None:
    here = settled(fault)
    topic = here.settings.topic_names.journal
    here.recreate([topic])
    fault.refused("after", topic, "created again")
