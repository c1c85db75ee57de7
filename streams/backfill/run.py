"""Builds the history of a spool into the shards' states, one after the other, as ordinary
checkpoints that workers start from.

Each shard is taken over as by a worker, so a worker that was overlooked can't go on from a state
without the history unnoticed. A kill leaves each shard as it was or with the whole history in its
checkpoint; the state says which, so the same command goes on with the shards that are left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from streams.core.backfill import Backfill
from streams.core.erasure import erase
from streams.core.events.records import Records
from streams.core.state.shard_state import History
from streams.kafka.log import Log
from streams.offline import offline_services, wait_until_workers_stopped
from streams.replay.spool import Spool, Summary
from streams.settings import Settings
from streams.shard.offline import OfflineShard
from streams.shard.services import Services

__all__ = ["Built", "Outcome", "build"]

_T = TypeVar("_T")
_LOOKED_AT: Final = 100  # first records of a topic; transaction markers leave no record


@dataclass(frozen=True)
class Built:
    """What became of the history in one shard. `already`: an earlier run had put it in."""

    shard: int
    history: History
    already: bool = False


@dataclass(frozen=True)
class Outcome:
    """All shards, and for how long none of them could take live events, in seconds.
    `group_known`: whether the broker could say that no worker runs."""

    shards: tuple[Built, ...]
    stopped_seconds: float
    group_known: bool


async def build(
    settings: Settings,
    spool: Spool,
    files: list[str],
    name: str,
    *,
    wait_seconds: float | None,
    on_wait: Callable[[list[str]], object],
    on_shard: Callable[[int, str], object],
    on_records: Callable[[int], object],
) -> Outcome:
    """Count `files` of the spool into every shard that they have records for, under the name
    `name`, once no worker runs.

    `on_wait` is called with the workers that run, `on_shard` with a shard and what is done to it,
    `on_records` with numbers of records that were counted. Raises FatalError if workers go on to
    run for `wait_seconds` (None: it waits for ever), Fenced if one starts meanwhile, StateError if
    a shard's state can't be read, BrokerUnavailable.
    """
    summary = spool.summary(files)
    async with offline_services(settings) as services:
        group_known = await wait_until_workers_stopped(settings, wait_seconds, on_wait)
        started = time.monotonic()
        built = []
        for number, records in enumerate(summary.records):
            if not records:
                built.append(Built(number, History(name)))
                continue
            one = _Shard(number, services, spool, files, name, summary)
            built.append(await one.build(on_shard, on_records))
        return Outcome(tuple(built), time.monotonic() - started, group_known)


class _Shard:
    def __init__(
        self,
        number: int,
        services: Services,
        spool: Spool,
        files: list[str],
        name: str,
        summary: Summary,
    ) -> None:
        self._number = number
        self._s = services
        self._spool = spool
        self._files = files
        self._name = name
        self._summary = summary

    async def build(
        self, on_shard: Callable[[int, str], object], on_records: Callable[[int], object]
    ) -> Built:
        """Recover the shard, count the history, write the checkpoint."""
        on_shard(self._number, "recovering")
        shard = OfflineShard(self._number, self._s)
        state = await shard.recover()
        for history in state.meta.histories:
            if history.name == self._name:
                on_records(self._summary.records[self._number])
                return Built(self._number, history, already=True)
        wall_ms = self._s.wall_ms()
        for order in self._s.erasures.due(self._number, state.meta, self._s.clock, wall_ms):
            erase(state, order)
        backfill = Backfill(
            state, self._s.config, self._name,
            newest_ms=min(self._summary.newest_ms, wall_ms),
            topics_from_ms=await self._topics_from_ms(),
            wall_ms=wall_ms,
        )  # fmt: skip
        on_shard(self._number, "counting")
        records = self._spool.read(self._files, (self._number,))
        count = partial(_count_some, backfill, records)
        while (counted := await self._in_thread(count)) is not None:
            on_records(counted)
        on_shard(self._number, "writing the checkpoint")
        history = await self._in_thread(backfill.end)
        await shard.checkpoint()
        del shard, state, backfill
        await self._s.release()
        return Built(self._number, history)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._s.compute, work)

    async def _topics_from_ms(self) -> int | None:
        topics = (self._s.topics.clickstream, self._s.topics.orders)
        found = [await _first_ms(self._s.log, topic, self._number) for topic in topics]
        return min((ms for ms in found if ms is not None), default=None)


def _count_some(backfill: Backfill, records: Iterator[tuple[int, bool, Records]]) -> int | None:
    """Count the next few thousand; how many they were, None after the last."""
    for source, export, some in records:
        backfill.add(some, source, export=export)
        return len(some)
    return None


async def _first_ms(log: Log, topic: str, partition: int) -> int | None:
    """The time of the oldest records in a partition; None: it has none."""
    first, end = await log.ends(topic, partition)
    records = await log.read(topic, partition, first, min(end, first + _LOOKED_AT))
    return int(records.timestamps_ms.min()) if len(records) else None
