"""One shard with all that is around it, in memory: input log, fetcher, processes that may die.

Everything is deterministic. Steps run in the event loop's own thread, checkpoints come by counted
turns instead of seconds, and the n-th call of a process is the same call in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from schemas.definitions import Definitions
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from schemas.topics import TopicNames
from streams.core.config import CoreConfig
from streams.core.events.records import SOURCES, RecordBatch
from streams.privacy.erasure_board import ErasureBoard
from streams.replay.records import CLICKSTREAM
from streams.replay.synthetic import Synthetic
from streams.shard import engine as engine_module
from streams.shard import recovery as recovery_module
from streams.shard import shard as shard_module
from streams.shard.engine import Engine
from streams.shard.services import Services
from streams.shard.shard import Shard
from tests.core.driving import SilenceScorer, config
from tests.shard.memory import Faults, MemoryLog, MemorySink, NoFaults
from tests.shard.oracle import Oracle, assert_same_state, replay_journal

__all__ = [
    "CrashAt", "Crashed", "FailAt", "PauseAt", "Process", "Rig", "make_quick", "quick_shards",
]  # fmt: skip

SHARD = 3
TOPICS = TopicNames("clicks", "orders", "app")
SCORERS = {
    scorer.champion_version: scorer
    for scorer in (SilenceScorer(2, "fake-1"), SilenceScorer(3, "fake-2", min_orders=2))
}
"""The champion at first, and the one that is promoted when three quarters are done."""
DAY_MS = 86_400_000
FETCH_ALL = 10**9


class Crashed(BaseException):
    """The process is dead: nothing it does has an effect any more."""


@dataclass
class CrashAt:
    """Dies at the n-th call (from 1)."""

    n: int
    calls: int = 0
    where: str = ""

    async def at(self, point: str) -> None:
        self.at_once(point)

    def at_once(self, point: str) -> None:
        self.calls += 1
        if self.calls == self.n:
            self.where = point
        if self.calls >= self.n:
            raise Crashed(point)


@dataclass
class FailAt:
    """The n-th call fails with `error`, once; if it is one after the effect, the effect stands."""

    n: int
    error: Exception
    calls: int = 0
    where: str = ""

    async def at(self, point: str) -> None:
        self.at_once(point)

    def at_once(self, point: str) -> None:
        self.calls += 1
        if self.calls == self.n:
            self.where = point
            raise self.error


@dataclass
class PauseAt:
    """Stops at the n-th call, as by SIGSTOP, until `go_on` is set."""

    n: int
    calls: int = 0
    where: str = ""
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def at(self, point: str) -> None:
        self.calls += 1
        if self.calls >= self.n and not self.go_on.is_set():
            self.where = self.where or point
            self.paused.set()
            await self.go_on.wait()

    def at_once(self, point: str) -> None:
        self.calls += 1


class Inline(Executor):
    """Runs everything at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as exc:
            done.set_exception(exc)
        return done


class Silent:
    """A monitor that only remembers the last word of each shard."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.stored_replayed: list[bool] = []
        self.left: list[tuple[int, int]] = []

    def stepped(self, *_: Any) -> None: ...
    def recovering(self, _shard: int, steps_left: int, records_left: int) -> None:
        self.left.append((steps_left, records_left))

    def checkpoint_took(self, *_: Any) -> None: ...
    def checkpoint_written(self, *_: Any) -> None: ...
    def alert_readable(self, seconds: float) -> None: ...
    def journalled(self, seconds: float) -> None: ...
    def stored(self, *_: Any, replayed: bool) -> None:
        self.stored_replayed.append(replayed)

    def state(self, shard: int, name: str) -> None:
        self.states.append(name)

    def forget(self, shard: int) -> None:
        self.states.append("forgotten")


@dataclass
class Rig:
    """The world that outlives processes."""

    log: MemoryLog = field(default_factory=MemoryLog)
    sink: MemorySink = field(default_factory=MemorySink)
    config: CoreConfig = field(
        default_factory=lambda: config(
            topics=(TOPICS.clickstream, TOPICS.orders), lateness_ms=DAY_MS, alert_enter=0.02,
            alert_leave=0.01, alert_cooldown_ms=0, sample_share=0.3,
        )
    )  # fmt: skip
    committed: tuple[int, int] = (0, 0)
    applied_ms: tuple[int, int] = (0, 0)
    """As it was committed with the offsets."""
    wall_ms: int = 1_790_000_000_123
    """Steps go by the event clock; a life of the shard begins at this."""

    def load(self, source: Iterable[Any]) -> None:
        """Put a source's records into the input topics, all in this shard."""
        for block in source:
            for record in block:
                topic = TOPICS.clickstream if record.topic_kind == CLICKSTREAM else TOPICS.orders
                self.log.put(topic, SHARD, record.key, record.value, record.timestamp_ms)

    @property
    def ends(self) -> tuple[int, int]:
        """Where the input topics end."""
        ends = [self.log.ends_now(topic, SHARD)[1] for topic in (TOPICS.clickstream, TOPICS.orders)]
        return ends[0], ends[1]

    def process(self, owner: str, faults: Faults | None = None, fetch: int = FETCH_ALL) -> Process:
        return Process(self, owner, faults or NoFaults(), fetch)

    async def oracle(self) -> Oracle:
        return await replay_journal(self.log, TOPICS, SHARD, self.config, SCORERS.__getitem__)

    async def check(self, shard: Shard | None = None) -> Oracle:
        """The invariants that hold after everything was processed, whatever happened before.

        1. The journal's steps cover the input from end to end, without a gap or an overlap.
        2. Rows are exactly those of the journal's steps, and none was ever written differently.
        3. Messages to Kafka are those of the journal's steps; each at least once, and examples
           appear for the first time in order.
        4. The state, and what the checkpoint topic holds, equal the journal's replay, bit for bit.
        """
        oracle = await self.oracle()
        assert oracle.plans[-1].stop == self.ends
        assert oracle.plans[0].start == (0, 0)
        assert self.sink.changed == []
        wanted = oracle.rows
        assert self.sink.rows.keys() == wanted.keys()
        for table, rows in wanted.items():
            assert self.sink.rows[table] == rows, table
        totals = [oracle_counts(outputs) for outputs in oracle.outputs]
        assert sum(t[0] for t in totals) == sum(self.ends)
        assert all(accepted == parts for accepted, parts in totals)
        self._check_messages(oracle)
        if shard is not None:
            assert_same_state(shard._state, oracle.state)
        reader = self.process("reader").shard
        await reader._recover()
        assert_same_state(reader._state, oracle.state)
        return oracle

    def _check_messages(self, oracle: Oracle) -> None:
        def sent(topic: str, partition: int) -> list[bytes | None]:
            return [value for _, _, value in self.log.records(topic, partition)]

        alerts = [msgspec.json.encode(a) for out in oracle.outputs for a in out.alerts]
        letters = [msgspec.json.encode(d) for out in oracle.outputs for d in out.dead_letters]
        examples = [msgspec.msgpack.encode(e) for out in oracle.outputs for e in out.examples]
        assert set(sent(TOPICS.alerts, SHARD)) == set(alerts)
        assert set(sent(TOPICS.dead_letters, SHARD)) == set(letters)
        assert list(dict.fromkeys(sent(TOPICS.examples, 0))) == examples


def oracle_counts(outputs: Any) -> tuple[int, int]:
    c = outputs.counts
    return c.accepted, c.scored + c.duplicates + c.late + c.dead_letters + c.erased


class Process:
    """One worker process with one shard, and its consumer."""

    def __init__(self, rig: Rig, owner: str, faults: Faults, fetch: int) -> None:
        self.rig = rig
        self.faults = faults
        self.fetch = fetch
        self.max_records = 40
        self.release_memory: Callable[[], object] = lambda: None
        self.failure: BaseException | None = None
        self.monitor = Silent()
        self.tracer: Any = None
        self.definitions: Definitions | None = None
        self.position: list[int | None] = [None, None]
        self.paused = [False, False]
        self._topics = (TOPICS.clickstream, TOPICS.orders)
        self.engine: Engine | None = None
        self.board = ErasureBoard(self.rig.log.client(self.faults), TOPICS.erasures)
        self.shard = Shard(SHARD, owner, self.services())

    def services(self) -> Services:
        log = self.rig.log.client(self.faults)
        return Services(
            log=log,
            page_log=log,
            sink=self.rig.sink.client(self.faults),
            topics=TOPICS,
            config=self.rig.config,
            clock="event",
            scorer=self._scorer,
            compute=Inline(),
            wall_ms=lambda: self.rig.wall_ms,
            inputs=self,
            learner=self._learner,
            definitions=lambda: self.definitions,
            erasures=self.board,
            monitor=self.monitor,
            max_records=self.max_records,
            checkpoint_seconds=12.0,
            tracer=self.tracer,
            release_memory=self.release_memory,
        )

    async def seek(self, source: int, shard: int, offset: int) -> None:
        self.position[source] = offset

    def pause(self, source: int, shard: int, paused: bool) -> None:
        self.paused[source] = paused

    def log_end(self, source: int, shard: int) -> int | None:
        return self.rig.ends[source]

    async def commit(
        self, shard: int, offsets: tuple[int, int], applied_ms: tuple[int, int]
    ) -> None:
        await self.faults.at("commit: before")
        self.rig.committed, self.rig.applied_ms = offsets, applied_ms
        await self.faults.at("commit: after")

    def _scorer(self, version: str) -> SilenceScorer:
        """As `ScorerStore`: the current one for '', else the very one that is named."""
        promoted = 4 * sum(self.at) >= 3 * sum(self.rig.ends)
        return SCORERS[version or ("fake-2" if promoted else "fake-1")]

    def _learner(self) -> LearnerSnapshot | None:
        """A snapshot appears at a certain point of the input."""
        if sum(self.at) < sum(self.rig.ends) // 2:
            return None
        return LearnerSnapshot(7, "fake-1", list(FEATURE_NAMES), 100, 0.5, 0.005, 1.0, [], [], [])

    async def pump(self, offer: Callable[[RecordBatch], Any] | None = None) -> None:
        """Fetch for ever: `fetch` records of each topic in turn, as the consumer would."""
        while True:
            delivered = False
            for source in SOURCES:
                at, end = self.position[source], self.rig.ends[source]
                if at is None or at >= end or self.paused[source]:
                    continue
                stop = min(end, at + self.fetch)
                records = await self.rig.log.read(self._topics[source], SHARD, at, stop)
                self.position[source] = stop
                batch = RecordBatch.of(self._topics[source], SHARD, records)
                if offer is None:
                    await self.shard.offer(source, batch)
                else:
                    await offer(batch)
                delivered = True
                await asyncio.sleep(0)
            await asyncio.sleep(0 if delivered else 0.0002)

    def failed(self, _number: int, error: BaseException) -> None:
        self.failure = error

    @property
    def at(self) -> tuple[int, int]:
        """The next offsets to process."""
        if self.engine is None:
            return self.shard.position
        here = self.engine._shards.get(SHARD)
        return here.position if here is not None else (0, 0)

    @property
    def done(self) -> bool:
        return self.at == self.rig.ends

    def make_engine(
        self, suspend_seconds: float = 30, stop_seconds: float = 30, instance_id: str = ""
    ) -> Engine:
        return Engine(
            self.services(), suspend_seconds=suspend_seconds, stop_seconds=stop_seconds,
            on_fatal=self._fatal, instance_id=instance_id,
        )  # fmt: skip

    async def run_engine(self) -> None:
        """As `run`, under an engine, which starts the shard again after passing errors."""
        self.engine = self.make_engine()
        async with running(self.pump(self.engine.offer)):
            await self.engine.assigned([SHARD])
            await self.until(lambda: self.done or self.failure is not None)
            last = self.engine._shards.get(SHARD)
            await self.engine.stop()
        if self.failure is not None:
            raise self.failure
        assert last is not None
        self.shard = last

    async def until(self, reached: Callable[[], bool], turns: int = 100_000) -> None:
        """Let everything run until `reached`; an error if it is not in so many turns."""
        for _ in range(turns):
            if reached():
                return
            await asyncio.sleep(0)
        progress = f"{self.at} of {self.rig.ends}, fetched {self.position}, paused {self.paused}"
        raise AssertionError(f"no end: {progress}, {self.monitor.states}")

    def _fatal(self, error: BaseException) -> None:
        self.failure = error

    async def run(self) -> None:
        """Process everything and stop in order. Raises Crashed, or what ended the shard."""
        self.shard.start(self.failed)
        task = self.shard._task
        assert task is not None
        async with running(self.pump()):
            await self.until(lambda: self.done or task.done())
            if not task.done():
                await self.shard.suspend(30)
        # A crash may show in a task that sends, while the shard itself has ended well or waits.
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            assert error is not None
            raise error
        if self.failure is not None:
            raise self.failure


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a coroutine beside the block; cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def script() -> Synthetic:
    """Five days of a small shop: every kind of good and bad record."""
    return Synthetic(
        users=6, events=80, order_share=0.45, late_share=0.04, duplicate_share=0.05,
        out_of_order_share=0.05, malformed_share=0.07, seed=5, span_days=5.0, lateness_days=1.0,
        settle_events=40,
    )  # fmt: skip


@pytest.fixture
def quick_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits, and a clock that counts how often it was read."""
    ticks = iter(range(10**9))
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)), time_ns=time.time_ns)
    monkeypatch.setattr(shard_module, "time", clock)
    monkeypatch.setattr(recovery_module, "time", clock)
    monkeypatch.setattr(shard_module, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(shard_module, "TICK_SECONDS", 0.0005)
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0.0)
