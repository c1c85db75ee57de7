"""Takes fetched records out of aiokafka as columns, without an object per record.

aiokafka turns each record into a `ConsumerRecord` through three Python generators; that took nearly
half of a worker's time. Here the parsed batches are drained directly. It reaches into aiokafka's
fetcher, so its version is pinned, and a test compares with what `getmany` returns.
"""
# ruff: noqa: SLF001  (the fetcher's insides are the point; see above)

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import numpy as np
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import CorruptRecordException, KafkaError

from streams.core.records import Records
from streams.log import to_records

__all__ = ["drain", "fetched_columns"]


async def fetched_columns(
    fetcher: Any, partitions: Collection[Any] | None, timeout: float
) -> dict[Any, Records]:
    """`Fetcher.fetched_records`, with `Records` for each partition: everything fetched so far, or
    what arrives first within `timeout` seconds. Raises what a fetch raised."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        drained = _drain_all(fetcher, partitions)
        remaining = deadline - loop.time()
        if drained or remaining <= 0 or fetcher._closed:
            return drained
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=remaining)
        if not done:
            waiter.cancel()
            return {}
        waiter.result()  # raises what stopped the fetcher


def _drain_all(fetcher: Any, partitions: Collection[Any] | None) -> dict[Any, Records]:
    drained: dict[Any, Records] = {}
    for tp in list(fetcher._records):
        if partitions and tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:
            if drained:
                return drained  # hand out what there is; the error is raised by the next call
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            result.check_raise()
            continue
        records = drain(result)
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)  # so that it fetches more of this partition
        if len(records):
            drained[tp] = records
    return drained


def drain(result: FetchResult) -> Records:
    """All records of one fetch, moving the consumer's position behind them."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return Records.empty()
    partition = result._partition_records
    if partition._isolation_level == READ_COMMITTED:  # aborted transactions: aiokafka's own way
        return to_records(result.getall())
    parts: list[Records] = []
    while partition._records.has_next():
        batch = partition._records.next_batch()
        if partition._check_crcs and not batch.validate_crc():
            if parts:
                break  # hand out what is good; the next fetch starts at the bad one
            raise CorruptRecordException(f"Invalid CRC in {result._topic_partition}")
        if not batch.is_control_batch:
            parts.append(_columns(batch, partition.next_fetch_offset))
        partition.next_fetch_offset = batch.next_offset
    result._update_position()
    result._partition_records = None
    return Records.concat([part for part in parts if len(part)])


def _columns(batch: Any, first_wanted: int) -> Records:
    """One record batch. It may begin before the offset that was asked for."""
    try:
        records = list(batch)
    except ValueError as exc:  # what the parser raises for lengths that don't fit
        raise KafkaError(f"a record batch can't be parsed: {exc}") from exc
    n = len(records)
    base = batch.base_offset
    if batch.next_offset - base == n:
        offsets = np.arange(base, base + n)
    else:  # compacted: some offsets are gone
        offsets = np.array([r.offset for r in records], np.int64)
    columns = Records(
        offsets,
        np.array([r.timestamp for r in records], np.int64),
        [r.key for r in records],
        [r.value for r in records],
    )
    return columns if base >= first_wanted else columns[int(offsets.searchsorted(first_wanted)) :]
