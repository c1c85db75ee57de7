"""Follows the topic of learner snapshots and keeps the newest one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from models.blend import unsound
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.log import Log

__all__ = ["SnapshotFollower", "newest_of", "newest_snapshot"]

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(LearnerSnapshot)

RETRY_SECONDS = 1.0
NEWEST = 64
"""So many of the newest records are looked at first. A snapshot has up to 112 KB, and a broker
keeps what was replaced until it compacts."""


def newest_of(values: Iterable[bytes | None], topic: str) -> LearnerSnapshot | None:
    """The last snapshot that can be read and used for scoring, converted to this build's features;
    others are skipped with a warning."""
    for value in reversed(list(values)):
        try:
            snapshot = _decoder.decode(value or b"")
            problem = unsound(snapshot)
        except msgspec.DecodeError as exc:
            problem = str(exc)
        if problem is None:
            return snapshot.by_name(FEATURE_NAMES)
        _log.warning("%s: skipping a record that is no learner snapshot: %s", topic, problem)
    return None


async def newest_snapshot(log: Log, topic: str) -> LearnerSnapshot | None:
    """The newest snapshot in the topic now that can be used, or None."""
    first, end = await log.ends(topic, 0)
    while end > first:
        start = max(first, end - NEWEST)
        found = newest_of((await log.read(topic, 0, start, end)).values, topic)
        if found is not None:
            return found
        end = start
    return None


class SnapshotFollower:
    """Reads the topic as it grows, from the last `NEWEST` records on; `newest` is the last good
    snapshot, without the state that only the learner needs."""

    def __init__(self, where: KafkaAccess | Iterable[str], topic: str) -> None:
        self._access = KafkaAccess.of(where)
        self._topic = topic
        self.newest: LearnerSnapshot | None = None

    async def run(self) -> None:
        """Follow until cancelled. While the broker is down, the last snapshot stays in use."""
        while True:
            consumer = clients.async_consumer(self._access, auto_offset_reset="earliest")
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, OSError) as exc:
                _log.warning("learner snapshots: %r; trying again", exc)
            finally:
                await consumer.stop()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, consumer: Any) -> None:
        tp = TopicPartition(self._topic, 0)
        consumer.assign([tp])
        first = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, max(first, end - NEWEST))
        while True:
            got = await consumer.getmany(tp, timeout_ms=1000)
            newest = newest_of((r.value for r in got.get(tp, ())), self._topic)
            if newest is not None:
                self.newest = msgspec.structs.replace(newest, state=b"", positions={})
