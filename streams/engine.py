"""Runs the shards that this worker owns: hands them records, and follows rebalances.

Faust's callbacks only tell the engine what changed; a shard's state has one owner, its own task.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable

from schemas.topics import TopicNames
from streams.core.records import CLICKSTREAM, ORDERS
from streams.errors import RetryableError, TidelineError
from streams.journal import Fenced
from streams.services import Services
from streams.shard import Shard
from streams.transport import RecordBatch

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

RETRY_SECONDS = (
    1.0  # before a shard that failed is recovered anew; doubled while it goes on failing
)
RETRY_CAP_SECONDS = 15.0  # each recovery replays, and sends its alerts to Kafka once more
CALM_SECONDS = 60.0  # a failure so long after the last one counts as the first
STOP_SECONDS = 8.0  # what a stop may wait for checkpoints; supervisors often kill after 10


class Engine:
    """All shards of one worker.

    Args:
        services: what shards share.
        suspend_seconds: how long a rebalance may wait for checkpoints: well below the session
            timeout, or the group would give this worker up. Also how long a shard that somebody
            else wrote to is left alone: if the group has dropped us, it tells us sooner than that
            (by a heartbeat), and the new owner is not disturbed.
        on_fatal: called once with the error that the worker must stop for.
    """

    def __init__(
        self,
        services: Services,
        *,
        suspend_seconds: float,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._services = services
        self._suspend_seconds = suspend_seconds
        self._on_fatal = on_fatal
        self._sources = _sources(services.topics)
        self._owner = uuid.uuid4().hex[:12]
        self._terms = 0
        self._shards: dict[int, Shard] = {}
        self._resting: dict[int, Shard] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._failures: dict[int, tuple[int, float]] = {}  # in a row, and when the last one was

    @property
    def shards(self) -> list[int]:
        """The shards that run here now."""
        return sorted(self._shards)

    async def offer(self, batch: RecordBatch) -> None:
        """Pass fetched records to their shard; those of a shard we don't have are dropped."""
        shard = self._shards.get(batch.partition)
        if shard is None:
            return
        try:
            await shard.offer(self._sources[batch.topic], batch)
        except TidelineError as exc:
            # Records are missing before this batch and the log could not give them. Faust would
            # only restart its agent.
            await shard.suspend(0)
            if self._shards.get(batch.partition) is shard:
                self._failed(batch.partition, exc)

    async def revoked(self) -> None:
        """A rebalance begins: every shard finishes its step, checkpoints if it can, and rests."""
        await self._suspend(self._suspend_seconds)

    async def _suspend(self, seconds: float) -> None:
        for task in self._retries:
            task.cancel()
        self._retries.clear()
        shards, self._shards = self._shards, {}
        await asyncio.gather(*(s.suspend(seconds) for s in shards.values()))
        self._resting = shards

    async def assigned(self, partitions: Iterable[int]) -> None:
        """A rebalance ended: start the shards that are ours now. The others' state is dropped."""
        resting, self._resting = self._resting, {}
        for number in sorted(set(partitions)):
            shard = resting.get(number)
            if shard is None:
                self._start(number)
            else:
                self._shards[number] = shard
                await shard.resume(self._failed)
        for number in resting.keys() - self._shards.keys():
            self._services.monitor.forget(number)

    async def stop(self) -> None:
        """Finish what is under way, checkpoint and commit."""
        await self._suspend(max(self._suspend_seconds, STOP_SECONDS))  # nobody is kept waiting
        self._resting = {}

    def _start(self, number: int) -> None:
        self._terms += 1
        shard = Shard(number, f"{self._owner}-{self._terms}", self._services)
        self._shards[number] = shard
        shard.start(self._failed)

    def _failed(self, number: int, exc: BaseException) -> None:
        self._shards.pop(number, None)
        if isinstance(exc, RetryableError | Fenced):
            retryable = isinstance(exc, RetryableError)
            seconds = self._wait_seconds(number) if retryable else self._suspend_seconds
            _log.warning("shard %s: %s; recovering it anew in %s s", number, exc, seconds)
            task = asyncio.create_task(self._retry(number, seconds))
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)
        else:
            _log.error("shard %s stopped: %s", number, exc, exc_info=exc)
            self._on_fatal(exc)

    def _wait_seconds(self, number: int) -> float:
        now = time.monotonic()
        count, at = self._failures.get(number, (0, -CALM_SECONDS))
        count = count if now - at < CALM_SECONDS else 0
        self._failures[number] = count + 1, now
        return min(RETRY_SECONDS * 2.0**count, RETRY_CAP_SECONDS)

    async def _retry(self, number: int, seconds: float) -> None:
        """Unless a rebalance takes it away meanwhile (that cancels us), the shard is still ours."""
        await asyncio.sleep(seconds)
        if number not in self._shards:
            self._start(number)


def _sources(topics: TopicNames) -> dict[str, int]:
    return {topics.clickstream: CLICKSTREAM, topics.orders: ORDERS}
