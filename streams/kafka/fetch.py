"""Takes fetched records out of aiokafka as columns, without an object per record.

aiokafka turns each record into a `ConsumerRecord` through three Python generators; that took nearly
half of a worker's time. Here the fetched bytes are read directly. It reaches into aiokafka's
fetcher, so its version is pinned, and a test compares with what `getmany` returns.
"""
# ruff: noqa: SLF001  (the fetcher's insides are the point; see above)

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, NamedTuple

import aiokafka.consumer.fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from streams import background
from streams.core.events.records import Records
from streams.kafka.log import to_records
from streams.kafka.record_batches import is_v2, read_batches

__all__ = ["Fetched", "drain", "fetched_columns", "keep_fetched_bytes"]


class Fetched(NamedTuple):
    """What was fetched of one partition: all that it holds in the offsets [start, stop)."""

    records: Records
    start: int
    stop: int
    skipped: tuple[tuple[int, int], ...] = ()
    """Ranges [first, last + 1) of offsets that markers and aborted transactions take."""


async def fetched_columns(
    fetcher: Any, partitions: Collection[Any] | None, timeout: float, resumed: asyncio.Event
) -> dict[Any, Fetched]:
    """`Fetcher.fetched_records`, as columns for each partition: everything fetched so far, or what
    arrives first within `timeout` seconds. A partition is named also if only its position moved.
    Raises what a fetch raised.

    Set `resumed` when `partitions` has new members: their records may have been fetched already.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        drained = _drain_all(fetcher, partitions)
        remaining = deadline - loop.time()
        if drained or remaining <= 0 or fetcher._closed:
            return drained
        resumed.clear()
        waiter = fetcher._create_fetch_waiter()
        resuming = background.start_awaited(resumed.wait(), "resuming")
        try:
            await asyncio.wait(
                [waiter, resuming], timeout=remaining, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            resuming.cancel()
        if waiter.done():
            waiter.result()  # raises what stopped the fetcher
        else:
            waiter.cancel()


def _drain_all(fetcher: Any, partitions: Collection[Any] | None) -> dict[Any, Fetched]:
    drained: dict[Any, Fetched] = {}
    for tp in list(fetcher._records):
        if partitions is not None and tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:
            if drained:
                return drained  # return these; the next call raises the error
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            result.check_raise()
            continue
        fetched = drain(result)
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)  # so that it fetches more of this partition
        if fetched is not None and fetched.stop > fetched.start:
            drained[tp] = fetched
    return drained


def drain(result: FetchResult) -> Fetched | None:
    """All of one fetch, moving the consumer's position behind it; None if it is not wanted now."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return None
    partition = result._partition_records
    start = partition.next_fetch_offset
    fetched = getattr(partition._records, "fetched", None)
    if fetched is None or not is_v2(fetched):  # formats before v2: in aiokafka's own way
        records = to_records(result.getall())
        return Fetched(records, start, partition.next_fetch_offset)
    committed_only = partition._isolation_level == READ_COMMITTED
    try:
        records, next_offset, skipped = read_batches(
            fetched,
            partition.next_fetch_offset,
            check_crcs=partition._check_crcs,
            aborted=partition._aborted_transactions if committed_only else (),
        )
    except ValueError as why:
        raise CorruptRecordException(f"{result._topic_partition}: {why}") from why
    partition.next_fetch_offset = next_offset
    result._update_position()
    result._partition_records = None
    return Fetched(records, start, next_offset, skipped)


class _KeptRecords(MemoryRecords):  # type: ignore[misc]
    """aiokafka's view of the fetched bytes, which otherwise drops them."""

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched


def keep_fetched_bytes() -> None:
    """Let aiokafka's fetchers keep the bytes that `drain` reads. Changes nothing else for them."""
    aiokafka.consumer.fetcher.MemoryRecords = _KeptRecords
