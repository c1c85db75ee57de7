"""What the shards of a worker share, and the ports to what is outside of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.definitions import Definitions
from schemas.messages import Erasure, LearnerSnapshot
from schemas.topics import TopicNames
from streams.core.ages import Ages
from streams.core.config import CoreConfig, Scorer
from streams.core.plan import Clock, Plan
from streams.core.stages import Stage
from streams.core.state.shard_state import Meta, ShardState
from streams.core.step import Outputs
from streams.kafka.log import Log

__all__ = [
    "Conceal",
    "Erasures",
    "Inputs",
    "Monitor",
    "Services",
    "Sink",
    "StepTrace",
    "Tracer",
]


class Inputs(Protocol):
    """The consumer of both input topics. A source is 0 for clickstream and 1 for orders; a shard is
    the partition of both."""

    async def seek(self, source: int, shard: int, offset: int) -> None:
        """Fetch from `offset` on."""
        ...

    def pause(self, source: int, shard: int, paused: bool) -> None:
        """Stop fetching a partition, or fetch it again."""
        ...

    def log_end(self, source: int, shard: int) -> int | None:
        """The partition's high watermark as of the last fetch; None: not known."""
        ...

    async def commit(
        self, shard: int, offsets: tuple[int, int], applied_ms: tuple[int, int]
    ) -> None:
        """Commit the next offsets to read of both topics, and the timestamps of the last records
        applied; 0: not known."""
        ...


class Erasures(Protocol):
    """People to erase, and what the shards have done about it;
    `streams.privacy.erasure_board.ErasureBoard` is the real one."""

    async def refresh(self) -> None:
        """Read what is new. Raises BrokerUnavailable, or StateError."""
        ...

    def due(self, shard: int, meta: Meta, clock: Clock, wall_ms: int) -> tuple[Erasure, ...]:
        """The people that a shard with this state has to erase; nearly always none."""
        ...

    def unreported(self, erased: Iterable[Erasure]) -> list[Erasure]:
        """Those of a shard's erasures that it has not reported yet."""
        ...

    async def report(self, erased: Iterable[Erasure]) -> None:
        """Say that a checkpoint holds these erasures."""
        ...


class Conceal(Protocol):
    """Replaces user ids in what leaves; `streams.privacy.pseudonyms.Pseudonyms` is the real one."""

    def outgoing(self, outputs: Outputs) -> Outputs:
        """`outputs` as others may see them."""
        ...


class Sink(Protocol):
    """Where rows go; `streams.clickhouse.sink.ClickHouseSink` is the real one."""

    def submit(self, blocks: Any, on_alerts: Callable[[], None] | None = None) -> Any:
        """Queue the rows of one step; the concurrent future resolves when they are stored.
        `on_alerts` is called, on any thread, once its alerts are, if it has any."""
        ...

    async def wait_for_room(self) -> None: ...


class Monitor(Protocol):
    """Receives what happens, for metrics; must not raise or block."""

    def stepped(
        self,
        shard: int,
        outputs: Outputs,
        state: ShardState,
        seconds: float,
        stages: Mapping[Stage, float],
    ) -> None:
        """A step is done, its effects have left; `stages` has the seconds of its stages."""
        ...

    def journalled(self, seconds: float) -> None:
        """A plan is in the journal, so long after it was made."""
        ...

    def recovering(self, shard: int, steps_left: int, records_left: int) -> None: ...
    def checkpoint_took(self, seconds: float) -> None: ...
    def checkpoint_written(self, shard: int, nbytes: int) -> None: ...
    def state(self, shard: int, name: str) -> None: ...
    def forget(self, shard: int) -> None:
        """Another worker has the shard now."""
        ...

    def alert_readable(self, seconds: float) -> None:
        """An alert is in ClickHouse, so long after the record that raised it was produced. On any
        thread."""
        ...

    def stored(self, seconds: float, ages: Ages | None, *, replayed: bool) -> None:
        """ClickHouse has all rows of a step, so long after they left. `ages` are those of its
        records by now (None: the clock is simulated). If it was `replayed`, ClickHouse may have had
        its rows before. On any thread."""
        ...


class StepTrace(Protocol):
    """The trace of one step. Times are Unix time in nanoseconds."""

    def stage(self, name: str, start_ns: int, end_ns: int) -> None:
        """A part of the step."""
        ...

    def stored(self, start_ns: int, end_ns: int, *, failed: bool) -> None:
        """The end: ClickHouse has its rows, or did not take them. On any thread."""
        ...


class Tracer(Protocol):
    """Follows batches, for whoever looks at one; must not raise or block.
    `streams.telemetry.batch_tracer.BatchTracer` is the real one."""

    def step(
        self, shard: int, plan: Plan, fetched_ns: int, started_ns: int, *, replayed: bool
    ) -> StepTrace | None:
        """A step begins, of records that have been here since `fetched_ns`; None: not followed."""
        ...

    def committed(self, shard: int, offsets: tuple[int, int], start_ns: int, end_ns: int) -> None:
        """The next offsets to read were committed."""
        ...


@dataclass(frozen=True)
class Services:
    """What all shards of a worker share."""

    log: Log
    page_log: Log
    """For checkpoints: on a separate connection, so that no journal record waits behind pages."""
    sink: Sink
    topics: TopicNames
    config: CoreConfig
    clock: Clock
    scorer: Callable[[str], Scorer]
    """Champion version -> its scorer; '' is the current one, which needs no loading.

    Raises ArtifactError or ModelsUnavailable."""
    compute: Executor
    """One thread: steps of all shards take turns, off the event loop."""
    wall_ms: Callable[[], int]
    inputs: Inputs
    learner: Callable[[], LearnerSnapshot | None]
    """The newest snapshot seen."""
    definitions: Callable[[], Definitions | None]
    """The newest definitions seen that compile."""
    erasures: Erasures
    monitor: Monitor
    max_records: int
    checkpoint_seconds: float
    conceal: Conceal | None = None
    """None: user ids stay."""
    tracer: Tracer | None = None
    release_memory: Callable[[], object] = lambda: None
    """Hands unused memory back to the system. Takes tens of milliseconds."""

    async def release(self) -> None:
        """Release memory between two steps, after something large was dropped: a shard's state, or
        the records that a recovery read."""
        await asyncio.get_running_loop().run_in_executor(self.compute, self.release_memory)
