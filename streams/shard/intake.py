"""A shard's intake: records without gaps, and no more of them than are soon used."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque

import numpy as np

from streams.core.events.records import SOURCES, RecordBatch, Records
from streams.core.plan import Pending, Plan
from streams.shard.inbox import Inbox
from streams.shard.inputs import check_input, check_keys
from streams.shard.services import Services

__all__ = ["Intake"]

MAX_GAP_RECORDS = 1_000  # a longer gap is fetched again first: reading aside is slow
FETCH_AHEAD_BATCHES = 3  # records waiting before the partition is paused, in full batches


def holes(records: Records, start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges of [start, stop) without a record, for records that a client has read whole: it
    leaves out markers and aborted transactions without a word."""
    edges = np.r_[start - 1, records.offsets, stop]
    return [
        (int(before) + 1, int(after))
        for before, after in itertools.pairwise(edges)
        if after > before + 1
    ]


class Intake:
    """Takes in the records of one shard's two topics. It is open while the shard knows its next
    offsets; `wake` is set when records have come."""

    def __init__(self, shard: int, services: Services, wake: asyncio.Event) -> None:
        self._shard = shard
        self._s = services
        self._wake = wake
        self._topics = (services.topics.clickstream, services.topics.orders)
        self._inbox: Inbox | None = None
        self._paused = [False, False]
        self._sought: dict[int, tuple[int, int]] = {}
        self._doubtful: set[int] = set()
        self._fetched: tuple[deque[tuple[int, int]], deque[tuple[int, int]]] = (deque(), deque())

    @property
    def is_open(self) -> bool:
        return self._inbox is not None

    def open(self, offsets: tuple[int, int]) -> None:
        """Take in records from these offsets on. Records that were taken in before are dropped."""
        self._inbox = Inbox(offsets)
        for fetched in self._fetched:
            fetched.clear()

    def close(self) -> None:
        """Take in nothing until `open`."""
        self._inbox = None

    async def fetch_from(self, offsets: tuple[int, int]) -> None:
        """Have both topics fetched from these offsets on.

        What was fetched before is gone, and a shard that ran here earlier may have left a topic
        paused.
        """
        for source in SOURCES:
            await self._s.inputs.seek(source, self._shard, offsets[source])
            self._s.inputs.pause(source, self._shard, False)
        self._paused = [False, False]

    async def offer(self, source: int, batch: RecordBatch) -> None:
        """Take in fetched records. While closed they are dropped, and no more are fetched until the
        shard knows where it goes on. Raises StateError if one belongs to another partition.

        A fetch that was under way when we sought elsewhere may skip records. What is missing is
        read from the log itself, so that nothing depends on the order of fetches and seeks.
        """
        inbox = self._inbox
        if inbox is None:
            self._s.inputs.pause(source, self._shard, True)
            return
        if inbox.has_passed(source, batch.stop):
            # Usually fetched before a seek. But a topic that was created again looks the same.
            self._doubtful.add(source)
            return
        missing = inbox.missing_before(source, batch.start)
        if missing is not None:
            start, stop = missing
            if stop - start > MAX_GAP_RECORDS and self._sought.get(source) != missing:
                self._sought[source] = (
                    missing  # if the same gap comes back, it is read from the log
                )
                await self._s.inputs.seek(source, self._shard, start)
                return
            between = await self._s.log.read(self._topics[source], self._shard, start, stop)
            if self._inbox is not inbox:  # suspended meanwhile
                return
            self._check_keys(source, between)
            inbox.offer(source, between, stop, holes(between, start, stop))
        self._check_keys(source, batch.records)
        inbox.offer(source, batch.records, batch.stop, batch.skipped)
        if self._s.tracer is not None:
            self._fetched[source].append((batch.stop, time.time_ns()))
        self.balance()
        self._wake.set()

    def _check_keys(self, source: int, records: Records) -> None:
        config = self._s.config
        if config.partitioner is not None and config.misplaced == "refuse":
            check_keys(records, self._topics[source], self._shard, config.partitioner)

    def pending(self) -> tuple[Pending, Pending]:
        """What the next plan can choose from."""
        ends = [self._s.inputs.log_end(source, self._shard) for source in SOURCES]
        return self._open_inbox.pending(ends)

    def take(self, plan: Plan) -> tuple[Records, Records]:
        """The records of a plan's ranges; they wait no longer."""
        return self._open_inbox.take(plan)

    def fetched_ns(self, plan: Plan) -> int | None:
        """Since when the first of a plan's records have been here; None: it has none, or nobody
        follows batches. Ask once per plan, in their order."""
        since: list[int] = []
        for fetched, start, stop in zip(self._fetched, plan.start, plan.stop, strict=True):
            while fetched and fetched[0][0] <= start:
                fetched.popleft()
            if fetched and stop > start:
                since.append(fetched[0][1])
        return min(since, default=None)

    @property
    def waiting(self) -> int:
        """Records of both topics that wait."""
        return len(self._open_inbox)

    @property
    def _open_inbox(self) -> Inbox:
        assert self._inbox is not None  # noqa: S101  (the shard plans while it is open)
        return self._inbox

    def balance(self) -> None:
        """Backpressure: pause a topic that is far ahead of the steps; resume it when they have
        caught up."""
        if self._inbox is None:
            return
        limit = FETCH_AHEAD_BATCHES * self._s.max_records
        for source in SOURCES:
            waiting = self._inbox.waiting(source)
            paused = waiting >= limit or (self._paused[source] and waiting > limit // 2)
            if paused != self._paused[source]:
                self._paused[source] = paused
                self._s.inputs.pause(source, self._shard, paused)

    def doubt(self) -> None:
        """Check both topics at the next occasion: one that was created again may stay empty."""
        self._doubtful.update(SOURCES)

    async def settle_doubts(self, offsets: tuple[int, int]) -> None:
        """Check the topics that are in doubt; raises StateError if the shard can't go on there."""
        while self._doubtful:
            source = self._doubtful.pop()
            await check_input(self._s.log, self._topics[source], self._shard, offsets[source])
