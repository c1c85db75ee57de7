"""Reads the topic of audiences for one destination, in a consumer group of its own.

So a destination that is slow or away holds up nobody else, and continues where it was. A partition
is not read further until what was read of it is delivered: memory holds some hundred records of it.
Offsets that the topic has deleted before they were read are counted, and said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError, OffsetOutOfRangeError

from streams.deliver.destinations import Destination
from streams.deliver.lane import Lane
from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["Lost", "Reader"]

_log = logging.getLogger(__name__)

POLL_MS: Final = 200
MOST_RECORDS: Final = 500  # of one poll
FETCH_BYTES: Final = 256 * 1024  # of one partition
COMMIT_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0


class Lost(Protocol):
    """Gets the changes that the topic deleted before they were delivered."""

    def lost(self, count: int) -> None: ...


class Reader:
    """`run` reads and delivers until `stop`."""

    def __init__(
        self,
        access: KafkaAccess,
        topic: str,
        group: str,
        where: Destination,
        lane: Callable[[int, int], Lane],
        lost: Lost,
        *,
        session_timeout_seconds: float = 10.0,
        grace_seconds: float = 5.0,
    ) -> None:
        """lane: makes one from a partition and its first offset."""
        self._access, self._topic, self._group, self._where = access, topic, group, where
        self._lane, self._lost = lane, lost
        self._session_timeout_seconds = session_timeout_seconds
        self._grace_seconds = grace_seconds
        self.lanes: dict[TopicPartition, Lane] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._consumer: Any = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Deliver nothing more; `run` returns soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Raises the error of a lane. Kafka being away only delays."""
        while not self._stopping.is_set():
            try:
                await self._session()
            except KafkaError as error:
                _log.warning("destination %s: Kafka: %r; trying again", self._where.name, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), RETRY_SECONDS)

    async def _session(self) -> None:
        """One consumer, from its start to its end."""
        self._consumer = clients.async_consumer(
            self._access,
            client_id=f"tideline-deliver-{self._where.name}",
            group_id=self._group,
            auto_offset_reset="none",  # a gap must be counted
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=4 * FETCH_BYTES,
            session_timeout_ms=int(self._session_timeout_seconds * 1000),
        )
        self._consumer.subscribe([self._topic], listener=_Rebalances(self))
        try:
            await self._consumer.start()
            while not self._stopping.is_set():
                await self._turn()
        finally:
            try:
                await self.give_up(list(self.lanes))
            finally:
                await self._consumer.stop()

    async def _turn(self) -> None:
        try:
            got = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_RECORDS)
        except OffsetOutOfRangeError as error:
            await self.place(list(error.args[0]))
            return
        for tp, records in got.items():
            lane = self.lanes.get(tp)
            if lane is not None:
                self._consumer.pause(tp)
                lane.take(records)
        paused = self._consumer.paused()
        for tp, lane in self.lanes.items():
            lane.check()
            if lane.is_free and tp in paused:
                self._consumer.resume(tp)
        if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            await self._commit(self.lanes)

    async def place(self, tps: Iterable[TopicPartition]) -> None:
        """Begin, or go on, with these partitions: where the group is, or at the first record."""
        tps = list(tps)
        firsts: Mapping[TopicPartition, int] = await self._consumer.beginning_offsets(tps)
        ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(tps)
        for tp in tps:
            lane = self.lanes.get(tp)
            at = lane.next_offset if lane is not None else await self._consumer.committed(tp)
            self._seek(tp, at, firsts[tp], ends[tp])

    def _seek(self, tp: TopicPartition, at: int | None, first: int, end: int) -> None:
        if at is None:
            at = first
        elif at < first:
            _log.error(
                "destination %s: %s changes of partition %s were deleted before they were "
                "delivered. Send it the members again: `tideline audience NAME` lists them.",
                self._where.name, first - at, tp.partition,
            )  # fmt: skip
            self._lost.lost(first - at)
            at = first
        elif at > end:
            _log.warning(
                "destination %s: partition %s ends at %s, before the committed offset %s: the "
                "topic was made again, and is delivered from its beginning",
                self._where.name, tp.partition, end, at,
            )  # fmt: skip
            at = first
        self._consumer.seek(tp, at)
        self._committed[tp] = at
        self.lanes[tp] = self._lane(tp.partition, at)

    async def give_up(self, tps: Iterable[TopicPartition]) -> None:
        """Let requests under way end, commit, and forget these partitions."""
        leaving = {tp: self.lanes[tp] for tp in tps if tp in self.lanes}
        if not leaving:
            return
        await asyncio.gather(*(lane.stop(self._grace_seconds) for lane in leaving.values()))
        await self._commit(leaving)
        for tp, lane in leaving.items():
            self.lanes.pop(tp, None)
            lane.check()

    async def _commit(self, lanes: Mapping[TopicPartition, Lane]) -> None:
        self._committed_at = time.monotonic()
        moved = {
            tp: lane.next_offset
            for tp, lane in lanes.items()
            if lane.next_offset != self._committed.get(tp)
        }
        if not moved:
            return
        try:
            await self._consumer.commit(moved)
        except CommitFailedError as error:  # somebody else has them: they are delivered again
            _log.warning("destination %s: not committed: %s", self._where.name, error)
        except KafkaError as error:
            _log.warning("destination %s: not committed yet: %r", self._where.name, error)
        else:
            self._committed |= moved


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._reader.give_up(list(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._reader.place(list(assigned))
