"""Recovery of one shard: take it over, load its newest checkpoint, replay what the journal has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from schemas.lives import position_of
from schemas.releases import RELEASE
from streams.core.events.records import SOURCES, Records
from streams.core.plan import Plan, in_runs
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.shard import log_fields
from streams.shard.checkpoints import CheckpointStore, Stored
from streams.shard.inputs import check_input, check_partitions
from streams.shard.journal import Fenced, Journal
from streams.shard.services import Services
from streams.shard.starting_over import START_OVER

__all__ = ["Recovered", "Recovery", "empty_state"]

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 2  # between two lines of the log about a long replay


def empty_state(shard: int) -> ShardState:
    """The state of a shard that has taken no step."""
    return ShardState(shard, len(FEATURE_NAMES))


@dataclass(frozen=True)
class Recovered:
    """What a shard goes on from: a state, and the journalled steps after it."""

    state: ShardState
    plans: list[Plan]
    checkpoint_bytes: int


class Recovery:
    """One recovery, on behalf of the owner of `journal` and `store`."""

    def __init__(
        self, shard: int, services: Services, journal: Journal, store: CheckpointStore
    ) -> None:
        self._shard = shard
        self._s = services
        self._topics = (services.topics.clickstream, services.topics.orders)
        self._journal = journal
        self._store = store

    async def begin(self) -> Recovered:
        """Take the shard over, and load what is to be replayed.

        Raises StateError if a topic is damaged or has lost something, PartitionsDiffer if the state
        was made for another number of partitions, Fenced if another worker takes over meanwhile.
        """
        taken_over = await self._journal.take_over()
        self._store.takeover = taken_over
        stored = await self._store.load()
        if stored is None:
            state = empty_state(self._shard)
            first = await self._journal.first_offset()
            plans = await self._journal.read(first, taken_over, owner=None)
            state.meta.offsets = await self._first_offsets(plans)
        else:
            manifest = stored.manifest
            if manifest.journal_offset > taken_over:
                await self._refuse(manifest.journal_offset, taken_over)
            state = await self._load(stored)
            check_partitions(self._shard, state.meta.partitions, self._s.config.partitioner)
            plans = await self._journal.read(
                manifest.journal_offset, taken_over, owner=manifest.journal_owner
            )
        for source in SOURCES:
            stop = plans[-1].stop[source] if plans else state.meta.offsets[source]
            await check_input(self._s.log, self._topics[source], self._shard, stop)
        return Recovered(state, plans, stored.nbytes if stored else 0)

    async def _refuse(self, journal_offset: int, end: int) -> NoReturn:
        """The checkpoint goes on behind the journal's end: raise what that means."""
        if not await self._journal.still_ours():
            raise Fenced(f"shard {self._shard}: another worker took over meanwhile")
        raise StateError(
            f"shard {self._shard}: the checkpoint goes on at offset {journal_offset} of the "
            f"journal {self._s.topics.journal}, which ends at {end}: the topic was created again. "
            f"Restore it, or {START_OVER}"
        )

    async def _load(self, stored: Stored) -> ShardState:
        """The checkpoint's state; made in a thread, since a large one takes seconds, and the group
        expects heartbeats from us."""
        if stored.manifest.release != RELEASE:
            log.info(
                "shard %s: continuing with the state that Tideline %s wrote",
                self._shard,
                stored.manifest.release,
            )
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._s.compute, snapshot.load, stored.meta, stored.arrays, len(FEATURE_NAMES)
            )
        except (ValueError, KeyError, msgspec.DecodeError) as exc:
            raise StateError(
                f"shard {self._shard}: the checkpoint of step "
                f"{position_of(stored.manifest.seq)} can't be used: {exc}. Run the version that "
                f"wrote it, or {START_OVER}"
            ) from exc

    async def _first_offsets(self, plans: list[Plan]) -> list[int]:
        """Where a shard without a checkpoint begins."""
        if plans:
            begins = position_of(plans[0].seq)
            if begins != 1:
                raise StateError(
                    f"shard {self._shard}: the journal begins at step {begins} but there is no "
                    f"checkpoint before it. Restore {self._s.topics.checkpoints}, or "
                    f"{START_OVER}"
                )
            return list(plans[0].start)
        return [(await self._s.log.ends(topic, self._shard))[0] for topic in self._topics]

    async def replay(
        self, plans: list[Plan], step: Callable[[Plan, Sequence[Records]], Awaitable[None]]
    ) -> None:
        """Take these steps once more, effects included. Raises StateError if they don't fit."""
        reported, left = time.monotonic(), len(plans)
        records_left = sum(_ranges(plan) for plan in plans)
        self._s.monitor.recovering(self._shard, left, records_left)
        for run in in_runs(plans, self._s.max_records):
            # A read costs milliseconds however little there is, and steps may have been small.
            read = [
                await self._s.log.read(
                    self._topics[s], self._shard, run[0].start[s], run[-1].stop[s]
                )
                for s in SOURCES
            ]
            for plan in run:
                records = [
                    found.between(plan.start[s], plan.stop[s])
                    for s, found in zip(SOURCES, read, strict=True)
                ]
                await self._s.sink.wait_for_room()
                try:
                    await step(plan, records)
                except ValueError as exc:  # it does not follow, or its records are not all there
                    raise StateError(
                        f"shard {self._shard}: {self._s.topics.journal} can't be replayed: {exc}. "
                        f"Restore it, or {START_OVER}"
                    ) from exc
                left -= 1
                records_left -= _ranges(plan)
                self._s.monitor.recovering(self._shard, left, records_left)
                if time.monotonic() - reported > PROGRESS_SECONDS:
                    reported = time.monotonic()
                    done = len(plans) - left
                    log.info(
                        "shard %s: replayed %s of %s steps", self._shard, done, len(plans),
                        extra=log_fields.of_step("recovery_progress", self._shard, plan),
                    )  # fmt: skip


def _ranges(plan: Plan) -> int:
    """How many offsets a plan takes in."""
    return sum(plan.stop) - sum(plan.start)
