"""A commit that comes too late for a partition is left undone, and ends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP

from streams.kafka.commits import commit_assigned
from streams.settings import Settings

pytestmark = pytest.mark.kafka
OURS, THEIRS = 0, 7


class Belated:
    """Looks at the assignment, and commits only after it has changed."""

    def __init__(self, consumer: Any, before: set[TopicPartition]) -> None:
        self._consumer, self._before = consumer, before

    def assignment(self) -> set[TopicPartition]:
        return self._before

    async def commit(self, offsets: Any) -> None:
        await self._consumer.commit(offsets)


def with_member(settings: Settings, use: Callable[[Any, str], Awaitable[None]]) -> None:
    """Run `use(consumer, topic)` with the one member of a group that has partition OURS."""

    async def run() -> None:
        topic, bootstrap = settings.kafka.clickstream_topic, settings.kafka.broker_url
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=settings.kafka.app_id,
            enable_auto_commit=False, session_timeout_ms=6_000, heartbeat_interval_ms=500,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await consumer.start()
            try:
                await consumer.getmany(timeout_ms=100)
                assert consumer.assignment() == {TopicPartition(topic, OURS)}
                await use(consumer, topic)
            finally:
                await consumer.stop()

    asyncio.run(run())


def test_offsets_of_our_partitions_are_committed_and_others_are_reported(
    settings: Settings,
) -> None:
    async def use(consumer: Any, topic: str) -> None:
        assert await commit_assigned(consumer, {TP(topic, OURS): 5})
        assert await consumer.committed(TopicPartition(topic, OURS)) == 5
        assert not await commit_assigned(consumer, {TP(topic, OURS): 6, TP(topic, THEIRS): 9})
        assert await consumer.committed(TopicPartition(topic, OURS)) == 6

    with_member(settings, use)


def test_when_nothing_is_ours_any_more_nothing_fails(settings: Settings) -> None:
    """aiokafka refuses a commit of nothing; a worker that was frozen died of it."""

    async def use(consumer: Any, topic: str) -> None:
        assert not await commit_assigned(consumer, {TP(topic, THEIRS): 9})
        assert await commit_assigned(consumer, {})

    with_member(settings, use)


def test_a_partition_that_leaves_between_the_look_and_the_commit(settings: Settings) -> None:
    async def use(consumer: Any, topic: str) -> None:
        before = {TopicPartition(topic, OURS), TopicPartition(topic, THEIRS)}
        assert not await commit_assigned(Belated(consumer, before), {TP(topic, THEIRS): 9})

    with_member(settings, use)


def test_a_member_that_the_group_has_dropped(settings: Settings) -> None:
    async def use(consumer: Any, topic: str) -> None:
        coordinator = consumer._coordinator
        generation, coordinator.generation = coordinator.generation, 10_000
        assert not await commit_assigned(consumer, {TP(topic, OURS): 5})
        coordinator.generation = generation

    with_member(settings, use)
