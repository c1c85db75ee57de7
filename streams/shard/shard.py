"""One shard on its owner: recovery, then step after step, with a checkpoint now and then.

The commit protocol. Wherever it is cut off, the next owner's replay gives the same rows.

    1. The plan (which records, what clock, which learner) goes into the journal. Its record must
       land right behind our last one; if not, we are no longer the owner and stop here.
    2. The step runs on the state. (Done while 1 is on its way; its effects wait for 1.)
    3. Effects leave: rows to ClickHouse, alerts, examples and dead letters to Kafka. All have
       deterministic ids, so a repeat replaces and does not add.
    4. Now and then a checkpoint is begun: the state as it is between two steps. While steps go on,
       its changed pages are written, a few between every two steps. When every effect up to where
       it was begun is acknowledged, the manifest makes them count.
    5. Commit the input offsets that the checkpoint includes.

An erasure is part of a plan, so it is journalled and replayed like all else. A checkpoint is begun
soon after its step, and reports it when it counts: from there on no replay begins before it.

Recovery is: write a takeover into the journal, load the newest whole checkpoint, replay the
journalled steps after it (effects included), and go on. The new owner's first checkpoint writes
every page, under its own name, and is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from streams import background
from streams.core.events.records import RecordBatch, Records
from streams.core.plan import Plan, next_plan
from streams.core.step import Outputs, step
from streams.shard import log_fields
from streams.shard.checkpoint_run import CheckpointRun
from streams.shard.checkpoints import CheckpointStore
from streams.shard.intake import Intake
from streams.shard.journal import Journal
from streams.shard.outgoing import Outgoing
from streams.shard.recovery import Recovery, empty_state
from streams.shard.services import Services, StepTrace
from streams.shard.stopwatch import Stopwatch

__all__ = ["Shard"]

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.02  # between steps when little is waiting: fewer, fuller batches
TICK_SECONDS = 0.2  # how often an idle shard looks at the clock


class Shard:
    """Runs one shard. `start` makes its task; `suspend` and `resume` frame a rebalance."""

    def __init__(self, number: int, owner: str, services: Services) -> None:
        self.number = number
        self._s = services
        self._owner = owner
        self._terms = 0
        self._begin_term()
        self._state = empty_state(number)
        self._wake = asyncio.Event()
        self._intake = Intake(number, services, self._wake)
        self._suspending = False
        self._checkpoint_seq = 0
        self._checkpoint_at = 0.0
        self._checkpoint: CheckpointRun | None = None
        self._applied_ms = (0, 0)  # of the last record by source; 0: of an earlier owner's step
        self._task: asyncio.Task[None] | None = None

    # -- called by the engine

    def start(self, on_failure: Callable[[int, BaseException], None]) -> None:
        """Recover and run until suspended; `on_failure` is called with an error that ends it."""
        self._suspending = False
        self._task = background.start(
            self._guarded(on_failure),
            f"shard-{self.number}",
            lambda error: on_failure(self.number, error),  # what `_guarded` did not expect
        )

    async def offer(self, source: int, batch: RecordBatch) -> None:
        """Take in fetched records."""
        await self._intake.offer(source, batch)

    async def suspend(self, deadline_seconds: float) -> None:
        """Finish the step under way, and checkpoint if there is time; then rest."""
        if self._task is None:
            return
        self._suspending = True
        self._wake.set()
        done, _ = await asyncio.wait([self._task], timeout=deadline_seconds)
        if not done:
            # What is lost is only our share of the work: the journal has every step.
            log.warning(
                "shard %s: no time for a checkpoint; its next owner replays",
                self.number,
                extra=log_fields.of_state("checkpoint_skipped", self._state.meta),
            )
            self._task.cancel()
            await asyncio.wait([self._task])
            self._intake.close()
            self._s.monitor.state(self.number, "suspended")
        self._task = None

    async def resume(self, on_failure: Callable[[int, BaseException], None]) -> None:
        """Go on after a rebalance that left the shard with us.

        If another worker had it in between, or our last stop was cut short, the state in memory is
        stale, and the shard recovers.
        """
        if self._intake.is_open and await self._journal.still_ours():
            self._intake.open(self.position)  # fetched records may have a gap now
        else:
            self._intake.close()
        self.start(on_failure)

    @property
    def position(self) -> tuple[int, int]:
        """The next offsets to process."""
        clickstream, orders = self._state.meta.offsets
        return clickstream, orders

    # -- the task

    async def _guarded(self, on_failure: Callable[[int, BaseException], None]) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            self._intake.close()
            self._s.monitor.state(self.number, "suspended")
            on_failure(self.number, exc)
        finally:
            if self._checkpoint is not None:
                self._checkpoint.cancel()
                self._checkpoint = None

    async def _run(self) -> None:
        if self._intake.is_open:
            # While it waited a topic may have been created again, and stay empty.
            self._intake.doubt()
        else:
            self._s.monitor.state(self.number, "recovering")
            await self._recover()
            await self._s.release()  # of what was read; with a large state that is as much again
        await self._intake.fetch_from(self.position)
        self._s.monitor.state(self.number, "running")
        self._checkpoint_at = time.monotonic()
        while not self._suspending:
            await self._turn()
        await self._checkpointed()  # the one under way, and then one of what came after
        await self._begin_checkpoint()
        await self._checkpointed()
        self._s.monitor.state(self.number, "suspended")

    async def _recover(self) -> None:
        """Become the owner, and bring the state to where the last owner left it."""
        started = time.monotonic()
        self._begin_term()
        self._state = empty_state(self.number)  # the old one goes: memory may not hold two
        self._applied_ms = (0, 0)
        await self._s.erasures.refresh()  # or a shard without a state would count erased events
        recovery = Recovery(self.number, self._s, self._journal, self._store)
        found = await recovery.begin()
        self._state = found.state
        await recovery.replay(found.plans, partial(self._step, journal=False))
        self._checkpoint_seq = -1  # so that one is begun now: it makes this term's start
        await self._begin_checkpoint()
        self._intake.open(self.position)
        log.info(
            "shard %s: %s users, %.1f MB of checkpoint, %s steps replayed, ready in %.2f s",
            self.number,
            self._state.known,
            found.checkpoint_bytes / 1e6,
            len(found.plans),
            (seconds := time.monotonic() - started),
            extra=log_fields.of_state(
                "shard_recovered", self._state.meta, users=self._state.known,
                seconds=round(seconds, 3),
            ),
        )  # fmt: skip

    def _begin_term(self) -> None:
        """Every recovery has its own owner's name: what an earlier term of ours left unfinished, in
        the journal or in pages, then can't be mistaken for this one's. It sends its effects again,
        so what was under way is not waited for."""
        self._terms += 1
        owner = f"{self._owner}.{self._terms}"
        topics = self._s.topics
        self._journal = Journal(self._s.log, topics.journal, self.number, owner)
        self._store = CheckpointStore(self._s.page_log, topics.checkpoints, self.number, owner)
        self._outgoing = Outgoing(self.number, self._s)

    async def _turn(self) -> None:
        """One step if there is something to do, else a short wait."""
        self._wake.clear()
        plan = self._next_plan()
        if self._checkpoint is not None and self._checkpoint.ended:
            await self._checkpointed()
        if time.monotonic() - self._checkpoint_at >= self._s.checkpoint_seconds:
            await self._begin_checkpoint()
        if plan is None:
            await self._rest(TICK_SECONDS)
            return
        await self._s.sink.wait_for_room()
        await self._step(plan, self._intake.take(plan), journal=True)
        if plan.erase:
            self._checkpoint_at = -math.inf  # a checkpoint without them, as soon as possible
        self._intake.balance()
        if self._intake.waiting < self._s.max_records // 2 and not self._suspending:
            await asyncio.sleep(LINGER_SECONDS)

    def _next_plan(self) -> Plan | None:
        meta, clock, wall_ms = self._state.meta, self._s.clock, self._s.wall_ms()
        return next_plan(
            meta,
            self._intake.pending(),
            clock=clock,
            wall_ms=wall_ms,
            sweep_interval_ms=self._s.config.sweep_interval_ms,
            max_records=self._s.max_records,
            users=self._state.sweep_places,
            champion=self._s.scorer("").champion_version,
            learner=self._s.learner(),
            definitions=self._s.definitions(),
            erase=self._s.erasures.due(self.number, meta, clock, wall_ms),
        )

    async def _step(self, plan: Plan, records: Sequence[Records], *, journal: bool) -> None:
        """Steps 1 to 3 of the protocol; in a replay without 1, which is done."""
        started, started_ns = time.monotonic(), time.time_ns()
        trace = self._trace(plan, started_ns, replayed=not journal)
        loop = asyncio.get_running_loop()
        computed = loop.run_in_executor(self._s.compute, self._compute, plan, records)
        try:
            if journal:
                await self._journal.append(plan)
                self._s.monitor.journalled(time.monotonic() - started)
                if trace is not None:
                    trace.stage("journal", started_ns, time.time_ns())
        finally:
            # Even when fenced: the thread must be done with the state before anyone drops it.
            outputs, stopwatch = await computed
        clicks_ms, orders_ms = (
            new or old for new, old in zip(outputs.applied_ms, self._applied_ms, strict=True)
        )
        self._applied_ms = (clicks_ms, orders_ms)
        if trace is not None:
            at_ns = stopwatch.started_ns
            for stage, spent in stopwatch.seconds.items():
                trace.stage(stage, at_ns, at_ns := at_ns + int(spent * 1e9))
        self._outgoing.send(outputs, records, replayed=not journal, trace=trace)
        seconds = time.monotonic() - started
        self._s.monitor.stepped(self.number, outputs, self._state, seconds, stopwatch.seconds)
        if log.isEnabledFor(logging.DEBUG):
            fields = log_fields.of_step(
                "step" if journal else "step_replayed", self.number, plan,
                records=outputs.counts.accepted, users=outputs.counts.users_scored,
                seconds=round(seconds, 6),
            )  # fmt: skip
            log.debug("step done", extra=fields)

    def _trace(self, plan: Plan, started_ns: int, *, replayed: bool) -> StepTrace | None:
        if self._s.tracer is None:
            return None
        fetched_ns = started_ns if replayed else self._intake.fetched_ns(plan) or started_ns
        return self._s.tracer.step(self.number, plan, fetched_ns, started_ns, replayed=replayed)

    def _compute(self, plan: Plan, records: Sequence[Records]) -> tuple[Outputs, Stopwatch]:
        """In the thread of computing, since a replay may have to load its champion first."""
        scorer, stopwatch = self._s.scorer(plan.champion), Stopwatch()
        outputs = step(self._state, plan, records, self._s.config, scorer, stopwatch)
        return outputs, stopwatch

    async def _begin_checkpoint(self) -> None:
        """Step 4 of the protocol, if anything happened since the last one and that is done."""
        await self._intake.settle_doubts(self.position)
        self._checkpoint_at = time.monotonic()
        seq = self._state.meta.seq
        if self._checkpoint is None and seq != self._checkpoint_seq:
            self._checkpoint_seq = seq
            self._checkpoint = await CheckpointRun.begin(
                self.number, self._s, self._store, self._state, self._journal,
                self._outgoing.effects.so_far(), self._wake, self._applied_ms,
            )  # fmt: skip

    async def _checkpointed(self) -> None:
        """Wait for the checkpoint under way; raises what it failed with."""
        if self._checkpoint is not None:
            await self._checkpoint.done()
            self._checkpoint = None

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
