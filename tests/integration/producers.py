"""Producers as shops have them: their records may name a time or partition by themselves."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType

from streams.kafka.access import kafka_access
from streams.kafka.admin import connect
from tests.awaiting import awaited
from tests.integration.world import World

__all__ = ["Record", "accept_any_timestamp", "order", "send", "send_by_librdkafka", "transactions"]

_FOR_EVER = 2**63 - 1


@dataclass(frozen=True)
class Record:
    """What a producer sends. Without `partition` aiokafka chooses it from the key, by murmur2."""

    topic: str
    key: str
    value: dict[str, Any]
    timestamp_ms: int | None = None
    """The record's own time; None: now."""
    partition: int | None = None

    async def by(self, producer: AIOKafkaProducer) -> Any:
        """Send it; the future of its place."""
        return await producer.send(
            self.topic, json.dumps(self.value).encode(), self.key.encode(),
            self.partition, self.timestamp_ms,
        )  # fmt: skip


def order(
    user: str, order_id: str, ts_ms: int, event_id: str = "", kind: str = "placed",
    amount: float = 20.0,
) -> dict[str, Any]:  # fmt: skip
    """An order event as JSON has it; its event id is the order's id, unless it has another."""
    return {
        "event_id": event_id or order_id, "user_id": user, "type": kind, "ts": ts_ms,
        "order_id": order_id, "amount": amount,
    }  # fmt: skip


def send(here: World, records: Iterable[Record]) -> list[tuple[int, int]]:
    """Send all, in order; the (partition, offset) of each."""

    async def go() -> list[tuple[int, int]]:
        async with AIOKafkaProducer(bootstrap_servers=here.settings.kafka.broker_url) as producer:
            places = [await (await record.by(producer)) for record in records]
            return [(place.partition, place.offset) for place in places]

    return awaited(go())


def send_by_librdkafka(
    here: World, records: Iterable[Record], **settings: Any
) -> list[tuple[int, int]]:
    """Send all as librdkafka does, with its own partitioner unless `settings` name another (with _
    for . in their names); the (partition, offset) of each, in no order."""
    producer = Producer(
        {"bootstrap.servers": here.settings.kafka.broker_url}
        | {name.replace("_", "."): value for name, value in settings.items()}
    )
    places: list[tuple[int, int]] = []

    def landed(error: Any, message: Any) -> None:
        assert error is None, error
        places.append((message.partition(), message.offset()))

    for each in records:
        value = json.dumps(each.value).encode()
        producer.produce(each.topic, value, each.key.encode(), on_delivery=landed)
    assert producer.flush(60) == 0
    return places


def transactions(here: World, names: Iterable[str], script: Callable[..., Awaitable[None]]) -> None:
    """Run `script` with a transactional producer for each of `names`, which are their ids."""

    async def go() -> None:
        producers = [
            AIOKafkaProducer(
                bootstrap_servers=here.settings.kafka.broker_url, transactional_id=name
            )
            for name in names
        ]
        for producer in producers:
            await producer.start()
        try:
            await script(*producers)
        finally:
            for producer in producers:
                await producer.stop()

    awaited(go())


def accept_any_timestamp(here: World, topic: str) -> None:
    """As brokers before Kafka 4 do: from 4.0 on, one refuses records that are an hour ahead."""
    settings = {"message.timestamp.after.max.ms": str(_FOR_EVER)}
    with connect(kafka_access(here.settings)) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])
