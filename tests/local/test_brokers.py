"""What every broker of the local stack does alike, and what only the real Kafka does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from streams.local.kafka import ApacheKafka, available
from streams.local.process import wait_until
from streams.local.tansu import TansuBroker

Records = list[tuple[bytes, bytes]]


def _create(bootstrap: str, *topics: NewTopic) -> None:
    """Create topics and wait until the broker lists them, which it may do a moment later."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    names = {topic.name for topic in topics}
    try:
        admin.create_topics(list(topics))
        assert wait_until(lambda: names <= set(admin.list_topics()), 30)
    finally:
        admin.close()


async def _produce(bootstrap: str, topic: str, records: Records) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, acks="all")
    await producer.start()
    try:
        sent = [await producer.send(topic, value, key=key, partition=0) for key, value in records]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str, count: int) -> tuple[Records, int]:
    """The first `count` records of partition 0, and its high watermark."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        records: Records = []
        async with asyncio.timeout(10):
            while len(records) < count:
                batches = await consumer.getmany(timeout_ms=200)
                records += [(r.key, r.value) for batch in batches.values() for r in batch]
        return records, consumer.highwater(partition)
    finally:
        await consumer.stop()


async def _commit(bootstrap: str, topic: str, group: str, offset: int | None) -> int | None:
    """Join `group`, commit `offset` if given, and return what is committed."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=3000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(10):
            while partition not in consumer.assignment():
                await asyncio.sleep(0.01)
            if offset is not None:
                await consumer.commit({partition: offset})
            committed: int | None = await consumer.committed(partition)
            return committed
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
def tansu() -> Iterator[TansuBroker]:
    with TansuBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


class BrokerContract:
    """Run with each broker; a subclass gives the `bootstrap` fixture."""

    def test_topics_are_created_with_partitions_and_settings(self, bootstrap: str) -> None:
        state = NewTopic("state", 1, 1, topic_configs={"cleanup.policy": "compact"})
        _create(bootstrap, NewTopic("events", 4, 1), state)
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            described = {t["name"]: t for t in admin.describe_topics(["events", "state"])}
        finally:
            admin.close()
        assert {name: len(t["partitions"]) for name, t in described.items()} == {
            "events": 4, "state": 1,
        }  # fmt: skip

    def test_records_come_back_in_order_with_the_high_watermark(self, bootstrap: str) -> None:
        _create(bootstrap, NewTopic("order", 1, 1))
        records = [(b"k%d" % i, b"v" * i) for i in range(100)]
        asyncio.run(_produce(bootstrap, "order", records))
        read, high_watermark = asyncio.run(_read(bootstrap, "order", len(records)))
        assert read == records
        assert high_watermark == len(records)

    def test_a_group_finds_its_committed_offset_again(self, bootstrap: str) -> None:
        _create(bootstrap, NewTopic("grouped", 1, 1))
        asyncio.run(_produce(bootstrap, "grouped", [(b"k", b"v")] * 9))
        assert asyncio.run(_commit(bootstrap, "grouped", "readers", 7)) == 7
        assert asyncio.run(_commit(bootstrap, "grouped", "readers", None)) == 7


class TestTansu(BrokerContract):
    @pytest.fixture
    def bootstrap(self, tansu: TansuBroker) -> str:
        return tansu.bootstrap

    def test_two_brokers_run_side_by_side(self) -> None:
        with TansuBroker() as one, TansuBroker() as other:
            assert one.bootstrap != other.bootstrap
            assert one.pid != other.pid


@pytest.mark.kafka
@pytest.mark.skipif(available() is not None, reason=str(available()))
class TestApacheKafka(BrokerContract):
    @pytest.fixture
    def bootstrap(self, kafka: ApacheKafka) -> str:
        return kafka.bootstrap

    def test_the_end_offset_is_the_end(self, bootstrap: str) -> None:
        _create(bootstrap, NewTopic("end", 1, 1))
        asyncio.run(_produce(bootstrap, "end", [(b"k", b"v")] * 17))

        async def end() -> int:
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
            await consumer.start()
            try:
                partition = TopicPartition("end", 0)
                return int((await consumer.end_offsets([partition]))[partition])
            finally:
                await consumer.stop()

        assert asyncio.run(end()) == 17

    def test_records_and_offsets_survive_sigkill(self, kafka: ApacheKafka) -> None:
        bootstrap = kafka.bootstrap
        _create(bootstrap, NewTopic("durable", 1, 1))
        records = [(b"k", b"%d" % i) for i in range(50)]
        asyncio.run(_produce(bootstrap, "durable", records))
        asyncio.run(_commit(bootstrap, "durable", "survivors", 21))
        kafka.kill()
        kafka.start()
        assert kafka.bootstrap == bootstrap
        assert asyncio.run(_read(bootstrap, "durable", 50))[0] == records
        assert asyncio.run(_commit(bootstrap, "durable", "survivors", None)) == 21


def test_the_log_and_the_settings_are_in_the_data_directory(tmp_path: Path) -> None:
    broker = ApacheKafka(tmp_path)
    assert broker.data_dir == tmp_path
    assert broker.pid is None
    broker.stop()
