"""Records are read however a producer has compressed them."""

from __future__ import annotations

import asyncio

import pytest
from kafka.admin import NewTopic

from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect
from streams.kafka.dead_letters import topic_records
from streams.local.kafka import ApacheKafka
from streams.settings import load

pytestmark = pytest.mark.kafka

RECORDS = [(f"u-{i}".encode(), b'{"user_id": "u"}' * 50) for i in range(20)]


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_topic_records_reads_every_compression(
    apache_kafka: ApacheKafka, compression: str | None
) -> None:
    settings = load({"TIDELINE_KAFKA_BROKER_URL": f"{apache_kafka.host}:{apache_kafka.port}"})
    topic = f"compressed-{compression}"

    async def send() -> None:
        producer = clients.async_producer(kafka_access(settings), compression_type=compression)
        await producer.start()
        try:
            sent = [await producer.send(topic, key=key, value=value) for key, value in RECORDS]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    with connect(kafka_access(settings)) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])
        admin.wait_for_topics([topic])
    asyncio.run(send())
    assert [(r.key, r.value) for r in topic_records(settings, topic)] == RECORDS
