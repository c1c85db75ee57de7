"""One shard's life on its owner: recover, then step after step, with a checkpoint now and then.

The commit protocol. Whatever is cut off where, the next owner's replay gives the same rows.

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

import msgspec

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from streams import background
from streams.core.events.records import SOURCES, RecordBatch, Records
from streams.core.plan import Plan, in_runs, next_plan
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.core.step import step
from streams.shard.checkpoint_run import CheckpointRun
from streams.shard.checkpoints import CheckpointStore
from streams.shard.inbox import Inbox
from streams.shard.inputs import check_input
from streams.shard.journal import Fenced, Journal
from streams.shard.outgoing import Outgoing
from streams.shard.services import Services

__all__ = ["Shard"]

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.02  # between steps when little is waiting: fewer, fuller batches
TICK_SECONDS = 0.2  # how often an idle shard looks at the clock
MAX_GAP_RECORDS = 1_000  # a longer gap is fetched again first: reading aside is slow
FETCH_AHEAD_BATCHES = 3  # records waiting before the partition is paused, in full batches


class Shard:
    """Runs one shard. `start` makes its task; `suspend` and `resume` frame a rebalance."""

    def __init__(self, number: int, owner: str, services: Services) -> None:
        self.number = number
        self._s = services
        self._topics = (services.topics.clickstream, services.topics.orders)
        self._owner = owner
        self._terms = 0
        self._begin_term()
        self._state = ShardState(number, len(FEATURE_NAMES))
        self._inbox: Inbox | None = None
        self._outgoing = Outgoing(number, services)
        self._wake = asyncio.Event()
        self._suspending = False
        self._checkpoint_seq = 0
        self._checkpoint_at = 0.0
        self._checkpoint: CheckpointRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = [False, False]
        self._sought: dict[int, tuple[int, int]] = {}
        self._doubtful: set[int] = set()

    def _begin_term(self) -> None:
        """A name of its own for every recovery: what an earlier term of ours left unfinished, in
        the journal or in pages, then can't be mistaken for this one's."""
        self._terms += 1
        owner = f"{self._owner}.{self._terms}"
        topics = self._s.topics
        self._journal = Journal(self._s.log, topics.journal, self.number, owner)
        self._store = CheckpointStore(self._s.page_log, topics.checkpoints, self.number, owner)

    # -- called by the engine

    def start(self, on_failure: Callable[[int, BaseException], None]) -> None:
        """Recover and run until suspended; `on_failure` hears of anything that ends it."""
        self._suspending = False
        self._task = background.start(
            self._guarded(on_failure),
            f"shard-{self.number}",
            lambda error: on_failure(self.number, error),  # what `_guarded` did not expect
        )

    async def offer(self, source: int, batch: RecordBatch) -> None:
        """Take in fetched records. While recovering they are dropped, and no more are fetched
        until the shard knows where it goes on.

        A fetch that was under way when we sought elsewhere may skip records. What is missing is
        read from the log itself, so that nothing depends on the order of fetches and seeks.
        """
        inbox = self._inbox
        if inbox is None:
            self._s.inputs.pause(source, self.number, True)
            return
        if inbox.has_passed(source, batch.records):
            # Usually fetched before a seek. But a topic that was made anew looks the same.
            self._doubtful.add(source)
            return
        missing = inbox.missing_before(source, batch.records)
        if missing is not None:
            start, stop = missing
            if stop - start > MAX_GAP_RECORDS and self._sought.get(source) != missing:
                self._sought[source] = missing  # coming back the same, it must be read all the same
                await self._s.inputs.seek(source, self.number, start)
                return
            topic = self._topics[source]
            between = await self._s.log.read(topic, self.number, start, stop)
            if self._inbox is not inbox:  # suspended meanwhile
                return
            inbox.offer(source, between)
        inbox.offer(source, batch.records)
        self._balance()
        self._wake.set()

    async def suspend(self, deadline_seconds: float) -> None:
        """Finish the step under way, and checkpoint if there is time; then rest."""
        if self._task is None:
            return
        self._suspending = True
        self._wake.set()
        done, _ = await asyncio.wait([self._task], timeout=deadline_seconds)
        if not done:
            # What is lost is only our share of the work: the journal has every step.
            log.warning("shard %s: no time for a checkpoint; its next owner replays", self.number)
            self._task.cancel()
            await asyncio.wait([self._task])
            self._inbox = None
            self._s.monitor.state(self.number, "suspended")
        self._task = None

    async def resume(self, on_failure: Callable[[int, BaseException], None]) -> None:
        """Go on after a rebalance that left the shard with us.

        If somebody else had it in between, or our last stop was cut short, the state in memory is
        stale and is recovered anew.
        """
        if self._inbox is not None and await self._journal.still_ours():
            self._inbox = Inbox(self._offsets)  # fetched records may have a gap now
        else:
            self._inbox = None
        self.start(on_failure)

    @property
    def position(self) -> tuple[int, int]:
        """The next offsets to process."""
        return self._offsets

    # -- the task

    async def _guarded(self, on_failure: Callable[[int, BaseException], None]) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            self._inbox = None
            self._s.monitor.state(self.number, "suspended")
            on_failure(self.number, exc)
        finally:
            if self._checkpoint is not None:
                self._checkpoint.cancel()
                self._checkpoint = None

    async def _run(self) -> None:
        if self._inbox is None:
            self._s.monitor.state(self.number, "recovering")
            await self._recover()
            await self._s.release()  # of what was read; with a large state that is as much again
        else:
            # While it waited a topic may have been made anew, and then nothing may ever be fetched.
            self._doubtful.update(SOURCES)
        for source in SOURCES:
            # Whatever was fetched before is gone, and whoever had the shard here may have left it
            # paused.
            await self._s.inputs.seek(source, self.number, self._offsets[source])
            self._s.inputs.pause(source, self.number, False)
        self._paused = [False, False]
        self._s.monitor.state(self.number, "running")
        self._checkpoint_at = time.monotonic()
        while not self._suspending:
            await self._turn()
        await self._checkpointed()  # the one under way, and then one of what came after
        await self._begin_checkpoint()
        await self._checkpointed()
        self._s.monitor.state(self.number, "suspended")

    async def _turn(self) -> None:
        """One step if there is something to do, else a short wait."""
        inbox = self._inbox
        assert inbox is not None  # noqa: S101  (_run set it)
        self._wake.clear()
        meta, clock, wall_ms = self._state.meta, self._s.clock, self._s.wall_ms()
        plan = next_plan(
            meta,
            inbox.pending([self._s.inputs.log_end(source, self.number) for source in SOURCES]),
            clock=clock,
            wall_ms=wall_ms,
            sweep_interval_ms=self._s.config.sweep_interval_ms,
            max_records=self._s.max_records,
            users=self._state.sweep_places,
            champion=self._s.scorer("").champion_version,
            learner=self._s.learner(),
            erase=self._s.erasures.due(self.number, meta, clock, wall_ms),
        )
        if self._checkpoint is not None and self._checkpoint.ended:
            await self._checkpointed()
        if time.monotonic() - self._checkpoint_at >= self._s.checkpoint_seconds:
            await self._begin_checkpoint()
        if plan is None:
            await self._rest(TICK_SECONDS)
            return
        await self._s.sink.wait_for_room()
        await self._step(plan, inbox.take(plan), journal=True)
        if plan.erase:
            self._checkpoint_at = -math.inf  # one without them, as soon as may be
        self._balance()
        if len(inbox) < self._s.max_records // 2 and not self._suspending:
            await asyncio.sleep(LINGER_SECONDS)

    async def _step(self, plan: Plan, records: Sequence[Records], *, journal: bool) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        scorer = self._s.scorer(plan.champion)
        computed = loop.run_in_executor(
            self._s.compute, step, self._state, plan, records, self._s.config, scorer
        )
        try:
            if journal:
                await self._journal.append(plan)
        finally:
            # Even when fenced: the thread must be done with the state before anyone drops it.
            outputs = await computed
        self._outgoing.send(outputs)
        self._s.monitor.stepped(self.number, outputs, self._state, time.monotonic() - started)

    async def _begin_checkpoint(self) -> None:
        """Step 4 of the protocol, if anything happened since the last one and that is done."""
        while self._doubtful:
            source = self._doubtful.pop()
            await self._check_input(source, self._offsets[source])
        self._checkpoint_at = time.monotonic()
        seq = self._state.meta.seq
        if self._checkpoint is None and seq != self._checkpoint_seq:
            self._checkpoint_seq = seq
            self._checkpoint = await CheckpointRun.begin(
                self.number, self._s, self._store, self._state, self._journal,
                self._outgoing.effects.so_far(), self._wake,
            )  # fmt: skip

    async def _checkpointed(self) -> None:
        """Wait for the checkpoint under way; raises what it failed with."""
        if self._checkpoint is not None:
            await self._checkpoint.done()
            self._checkpoint = None

    # -- recovery

    async def _recover(self) -> None:
        started = time.monotonic()
        self._outgoing = Outgoing(self.number, self._s)  # replay sends again what was under way
        self._begin_term()
        self._state = ShardState(self.number, len(FEATURE_NAMES))  # two would not find room
        await self._s.erasures.refresh()  # or a shard without a state would let everybody in
        taken_over = await self._journal.take_over()
        self._store.takeover = taken_over
        stored = await self._store.load()
        if stored is None:
            plans = await self._journal.read(
                await self._journal.first_offset(), taken_over, owner=None
            )
            self._state.meta.offsets = await self._first_offsets(plans)
        else:
            manifest = stored.manifest
            if manifest.journal_offset > taken_over:
                if not await self._journal.still_ours():
                    raise Fenced(f"shard {self.number}: another worker took over meanwhile")
                raise StateError(
                    f"shard {self.number}: the checkpoint goes on at offset "
                    f"{manifest.journal_offset} of the journal {self._s.topics.journal}, which "
                    f"ends at {taken_over}: the topic was made anew. Restore it, or delete "
                    f"{self._s.topics.checkpoints} too, to start anew from the input topics."
                )
            try:
                # in a thread: a large state takes seconds, and the group wants to hear from us
                self._state = await asyncio.get_running_loop().run_in_executor(
                    self._s.compute, snapshot.load, stored.meta, stored.arrays, len(FEATURE_NAMES)
                )
            except (ValueError, KeyError, msgspec.DecodeError) as exc:
                raise StateError(
                    f"shard {self.number}: the checkpoint of step {manifest.seq} can't be used: "
                    f"{exc}. Run the version that wrote it, or delete the topics "
                    f"{self._s.topics.checkpoints} and {self._s.topics.journal} to start anew."
                ) from exc
            plans = await self._journal.read(
                manifest.journal_offset, taken_over, owner=manifest.journal_owner
            )
        for source in SOURCES:
            stop = plans[-1].stop[source] if plans else self._offsets[source]
            await self._check_input(source, stop)
        await self._replay(plans)
        self._checkpoint_seq = -1  # so that one is begun now: it makes this term's start
        await self._begin_checkpoint()
        self._inbox = Inbox(self._offsets)
        log.info(
            "shard %s: %s users, %.1f MB of checkpoint, %s steps replayed, ready in %.2f s",
            self.number,
            self._state.known,
            (stored.nbytes if stored else 0) / 1e6,
            len(plans),
            time.monotonic() - started,
        )

    async def _first_offsets(self, plans: list[Plan]) -> list[int]:
        """Where a shard without a checkpoint begins."""
        if plans:
            if plans[0].seq != 1:
                raise StateError(
                    f"shard {self.number}: the journal begins at step {plans[0].seq} but there is "
                    f"no checkpoint before it. Restore {self._s.topics.checkpoints}, or delete "
                    f"{self._s.topics.journal} to start anew from the input topics."
                )
            return list(plans[0].start)
        return [(await self._s.log.ends(topic, self.number))[0] for topic in self._topics]

    async def _replay(self, plans: list[Plan]) -> None:
        reported, left = time.monotonic(), len(plans)
        for run in in_runs(plans, self._s.max_records):
            # A read costs milliseconds however little there is, and steps may have been small.
            read = [
                await self._s.log.read(
                    self._topics[s], self.number, run[0].start[s], run[-1].stop[s]
                )
                for s in SOURCES
            ]
            for plan in run:
                records = [
                    found.between(plan.start[s], plan.stop[s])
                    for s, found in zip(SOURCES, read, strict=True)
                ]
                await self._replay_one(plan, records)
                left -= 1
                self._s.monitor.recovering(self.number, left)
                if time.monotonic() - reported > 2:
                    reported = time.monotonic()
                    done = len(plans) - left
                    log.info("shard %s: replayed %s of %s steps", self.number, done, len(plans))

    async def _replay_one(self, plan: Plan, records: Sequence[Records]) -> None:
        await self._s.sink.wait_for_room()
        try:
            await self._step(plan, records, journal=False)
        except ValueError as exc:  # it does not follow, or its records are not all there
            raise StateError(
                f"shard {self.number}: {self._s.topics.journal} can't be replayed: {exc}. "
                f"Restore it, or delete it and {self._s.topics.checkpoints} to start anew from "
                "the input topics."
            ) from exc

    # -- helpers

    async def _check_input(self, source: int, at: int) -> None:
        await check_input(self._s.log, self._topics[source], self.number, at)

    @property
    def _offsets(self) -> tuple[int, int]:
        first, second = self._state.meta.offsets
        return first, second

    def _balance(self) -> None:
        """Pause a topic that is far ahead of the steps; resume it when they have caught up."""
        if self._inbox is None:
            return
        limit = FETCH_AHEAD_BATCHES * self._s.max_records
        for source in SOURCES:
            waiting = self._inbox.waiting(source)
            paused = waiting >= limit or (self._paused[source] and waiting > limit // 2)
            if paused != self._paused[source]:
                self._paused[source] = paused
                self._s.inputs.pause(source, self.number, paused)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
