"""Runs the shards that this worker owns: hands them records, and follows rebalances.

Faust's callbacks only report what changed; a shard's state has one owner, its own task.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from schemas.errors import FatalError, RetryableError, TidelineError
from schemas.topics import TopicNames
from streams import background
from streams.core.events.records import CLICKSTREAM, ORDERS, RecordBatch
from streams.shard import log_fields
from streams.shard.duplicate_instance import TIMES, WITHIN_SECONDS, DuplicateInstanceWatch
from streams.shard.inputs import partitions_added
from streams.shard.journal import Fenced
from streams.shard.services import Services
from streams.shard.shard import Shard

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # before a shard that failed recovers; doubled while it goes on failing
RETRY_CAP_SECONDS = 15.0  # each recovery replays, and sends its alerts to Kafka once more
CALM_SECONDS = 60.0  # a failure so long after the last one counts as the first


class Engine:
    """All shards of one worker.

    Args:
        services: what shards share.
        suspend_seconds: how long a rebalance may wait for checkpoints: well below the session
            timeout, or the group would give this worker up. Also how long a shard that another
            worker wrote to is left alone: if the group has dropped us, a heartbeat says so sooner
            than that, and the new owner is not disturbed.
        stop_seconds: how long `stop` may wait for checkpoints. We are still a member then, and no
            rebalance waits for us: only the operator does.
        on_fatal: called once with the error that the worker must stop for.
        instance_id: the group knows this worker by that name over restarts; "": it doesn't.
    """

    def __init__(
        self,
        services: Services,
        *,
        suspend_seconds: float,
        stop_seconds: float,
        on_fatal: Callable[[BaseException], None],
        instance_id: str = "",
    ) -> None:
        self._services = services
        self._suspend_seconds = suspend_seconds
        self._stop_seconds = stop_seconds
        self._on_fatal = on_fatal
        self._instance_id = instance_id
        self._duplicates = DuplicateInstanceWatch()
        self._sources = _sources(services.topics)
        self._owner = uuid.uuid4().hex[:12]
        self._terms = 0
        self._shards: dict[int, Shard] = {}
        self._resting: dict[int, Shard] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._assigned: frozenset[int] = frozenset()
        self._unassigned_since: float | None = time.monotonic()
        self.was_assigned = False
        """Whether a rebalance has ended since the process began."""
        self._failures: dict[int, tuple[int, float]] = {}  # in a row, and when the last one was

    @property
    def shards(self) -> list[int]:
        """The shards that run here now."""
        return sorted(self._shards)

    @property
    def positions(self) -> dict[int, tuple[int, int] | None]:
        """The next offsets to process of every shard that is ours; None: it waits to recover."""
        running = self._shards
        return {n: running[n].position if n in running else None for n in sorted(self._assigned)}

    @property
    def unassigned_seconds(self) -> float:
        """For how long a rebalance has been under way; 0: none is."""
        since = self._unassigned_since
        return 0.0 if since is None else time.monotonic() - since

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
        self._assigned, self._unassigned_since = frozenset(), time.monotonic()
        self._resting = await self._suspend(self._suspend_seconds)

    async def _suspend(self, seconds: float) -> dict[int, Shard]:
        """Bring all shards to rest within so many seconds; returns them."""
        for task in self._retries:
            task.cancel()
        self._retries.clear()
        shards, self._shards = self._shards, {}
        await asyncio.gather(*(shard.suspend(seconds) for shard in shards.values()))
        return shards

    async def assigned(self, partitions: Iterable[int]) -> None:
        """A rebalance ended: start the shards that are ours now. The others' state is dropped."""
        resting, self._resting = self._resting, {}
        ours = sorted(set(partitions))
        self._assigned, self._unassigned_since, self.was_assigned = frozenset(ours), None, True
        if self._duplicates.assigned(ours, time.monotonic()) and self._instance_id:
            self._on_fatal(
                FatalError(
                    f"The group gave this worker shards {ours} {TIMES} times within "
                    f"{WITHIN_SECONDS:.0f} s: another worker runs with the same "
                    f"TIDELINE_KAFKA_INSTANCE_ID, {self._instance_id}. Give every worker "
                    "another id, or none."
                )
            )
            return
        partitioner = self._services.config.partitioner
        if partitioner is not None and ours and ours[-1] >= partitioner.partitions:
            self._on_fatal(partitions_added(self._services.topics, ours[-1], partitioner))
            return
        _log.info(
            "shards are assigned: %s", ", ".join(map(str, ours)) or "none",
            extra={"fact": "shards_assigned", "shards": ours},
        )  # fmt: skip
        for number in ours:
            if number in resting:
                self._shards[number] = resting.pop(number)
                await self._shards[number].resume(self._failed)
            else:
                self._start(number)
        for number in resting:
            self._services.monitor.forget(number)
        if resting:
            resting.clear()
            await self._services.release()

    async def stop(self) -> None:
        """Finish what is under way, checkpoint and commit."""
        await self._suspend(self._stop_seconds)
        self._resting = {}

    def _start(self, number: int) -> None:
        self._terms += 1
        shard = Shard(number, f"{self._owner}-{self._terms}", self._services)
        self._shards[number] = shard
        shard.start(self._failed)

    def _failed(self, number: int, exc: BaseException) -> None:
        resting = self._shards.pop(number, None) is None
        if isinstance(exc, RetryableError | Fenced):
            if resting:
                # It failed while it was brought to rest. Whose it is now the rebalance says, and
                # started by us as well it would take the shard from its new owner, for nothing.
                fields = _failure("shard_left", number, exc)
                _log.warning("shard %s: %s; left to its next owner", number, exc, extra=fields)
                return
            retryable = isinstance(exc, RetryableError)
            seconds = self._wait_seconds(number) if retryable else self._suspend_seconds
            fields = _failure("shard_failed", number, exc)
            _log.warning("shard %s: %s; recovering it in %s s", number, exc, seconds, extra=fields)
            task = background.start(self._retry(number, seconds), f"retry-{number}", self._on_fatal)
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)
        else:
            fields = _failure("shard_stopped", number, exc)
            _log.error("shard %s stopped: %s", number, exc, exc_info=exc, extra=fields)
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
        await self._services.release()  # or there would be two states while the new one is loaded
        if number not in self._shards:
            self._start(number)


def _failure(fact: str, shard: int, error: BaseException) -> dict[str, Any]:
    return log_fields.of_shard(fact, shard, error_type=type(error).__name__)


def _sources(topics: TopicNames) -> dict[str, int]:
    return {topics.clickstream: CLICKSTREAM, topics.orders: ORDERS}
