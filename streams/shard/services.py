"""What the shards of a worker share, and the seams to what is outside: sink, metrics, consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.messages import LearnerSnapshot
from schemas.topics import TopicNames
from streams.core.config import CoreConfig, Scorer
from streams.core.plan import Clock
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs
from streams.kafka.log import Log
from streams.privacy.erasure_board import ErasureBoard
from streams.privacy.pseudonyms import Pseudonyms

__all__ = ["Monitor", "Services", "Sink"]


class Sink(Protocol):
    """Where rows go; `streams.clickhouse.sink.ClickHouseSink` is the real one."""

    def submit(self, blocks: Any, on_alerts: Callable[[], None] | None = None) -> Any:
        """Queue the rows of one step; the concurrent future resolves when they are stored.
        `on_alerts` is called, on any thread, once its alerts are, if it has any."""
        ...

    async def wait_for_room(self) -> None: ...


class Monitor(Protocol):
    """Told what happens, for metrics; must not raise or block."""

    def stepped(self, shard: int, outputs: Outputs, state: ShardState, seconds: float) -> None: ...
    def recovering(self, shard: int, remaining: int) -> None: ...
    def checkpoint_took(self, seconds: float) -> None: ...
    def checkpoint_written(self, shard: int, nbytes: int) -> None: ...
    def state(self, shard: int, name: str) -> None: ...
    def forget(self, shard: int) -> None:
        """Another worker has the shard now."""
        ...

    def alert_readable(self, seconds: float) -> None:
        """An alert is in ClickHouse, so long after the record that raised it was produced."""
        ...


@dataclass(frozen=True)
class Services:
    """What all shards of a worker share."""

    log: Log
    page_log: Log
    """For checkpoints: on a connection of its own, so that no journal record waits behind pages."""
    sink: Sink
    topics: TopicNames
    config: CoreConfig
    clock: Clock
    scorer: Callable[[str], Scorer]
    """Champion version -> its scorer; '' is the current one. Raises ArtifactError."""
    compute: Executor
    """One thread: steps of all shards take turns, off the event loop."""
    wall_ms: Callable[[], int]
    seek: Callable[[int, int, int], Awaitable[None]]
    """(source, shard, offset): fetch from there."""
    log_end: Callable[[int, int], int | None]
    """(source, shard): the partition's high watermark as of the last fetch."""
    set_paused: Callable[[int, int, bool], None]
    """(source, shard, paused)"""
    commit: Callable[[int, tuple[int, int]], Awaitable[None]]
    """(shard, next offsets of both topics)"""
    learner: Callable[[], LearnerSnapshot | None]
    """The newest snapshot seen."""
    erasures: ErasureBoard
    """Who is to be erased, and what the shards made of it."""
    monitor: Monitor
    max_records: int
    checkpoint_seconds: float
    pseudonyms: Pseudonyms | None = None
    """What replaces user ids in results; None: nothing does."""
    give_back: Callable[[], object] = lambda: None
    """Called when something large was let go of: a shard's state, or what a recovery read."""

    async def let_go(self) -> None:
        """Give back what nobody holds any more, between two steps."""
        await asyncio.get_running_loop().run_in_executor(self.compute, self.give_back)
