"""Sends what actions put into Kafka. Connects at the first action: pages need no Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from schemas.errors import BrokerUnavailable
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog

__all__ = ["KafkaSender"]

_CONNECT_SECONDS: Final = 10.0
_SEND_SECONDS: Final = 15.0


class KafkaSender:
    """Appends records, to the partition that is named."""

    def __init__(self, where: KafkaAccess) -> None:
        self._where = where
        self._log: KafkaLog | None = None
        self._starting = asyncio.Lock()

    async def send(
        self, topic: str, records: Sequence[tuple[int, bytes, bytes]], stamp_ms: int
    ) -> None:
        """Returns once all are acknowledged. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                log = await self._started()
            async with asyncio.timeout(_SEND_SECONDS):
                for partition in sorted({record[0] for record in records}):
                    part = [(key, value) for to, key, value in records if to == partition]
                    await log.append(topic, partition, part, stamp_ms)
        except TimeoutError:
            raise BrokerUnavailable(
                f"Kafka at {self._where} did not answer in time. Do it again: what is sent twice "
                "counts once."
            ) from None

    async def log(self) -> KafkaLog:
        """The log, connected. Raises BrokerUnavailable."""
        return await self._started()

    async def _started(self) -> KafkaLog:
        async with self._starting:
            if self._log is None:
                log = KafkaLog(self._where)
                await log.start()
                self._log = log
            return self._log

    async def stop(self) -> None:
        """Disconnect, if ever connected."""
        if self._log is not None:
            await self._log.stop()
