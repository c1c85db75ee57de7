"""Follows a topic with one partition, of which the newest record that can be used is in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["NEWEST", "Follower"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

RETRY_SECONDS = 1.0
NEWEST = 64
"""So many of the newest records are looked at first: older ones were replaced."""


class Follower(Generic[_T]):
    """Reads the topic as it grows, from the last `NEWEST` records on; `newest` is the last one that
    could be used.

    Args:
        what: what the records are, for the log.
        newest_of: the last of these values that can be used; None: none can. Says what is wrong
            with the others.
    """

    def __init__(
        self,
        where: KafkaAccess | Iterable[str],
        topic: str,
        what: str,
        newest_of: Callable[[Iterable[bytes | None], str], _T | None],
    ) -> None:
        self._access = KafkaAccess.of(where)
        self._topic = topic
        self._what = what
        self._newest_of = newest_of
        self.newest: _T | None = None

    async def run(self) -> None:
        """Follow until cancelled. While the broker is down, what was read last stays in use."""
        while True:
            consumer = clients.async_consumer(self._access, auto_offset_reset="earliest")
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, OSError) as exc:
                _log.warning("%s: %r; trying again", self._what, exc)
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
            newest = self._newest_of((r.value for r in got.get(tp, ())), self._topic)
            if newest is not None:
                self.newest = newest
