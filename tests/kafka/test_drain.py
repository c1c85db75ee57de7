"""What is taken out of aiokafka's fetcher, and when: on fetches in memory, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    FetchError,
    FetchResult,
    PartitionRecords,
)
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from streams.kafka.fetch import Fetched, _KeptRecords, drain, fetched_columns
from tests.awaiting import task_names, turns

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
N = 5


def encoded(magic: int, producer: int = -1, start: int = 0) -> bytes:
    """Records up to N - 1, as a broker sends them to who is at `start`: from there on before v2,
    where a record is a batch; else all."""
    if magic == 2:
        transactional = producer >= 0
        builder: Any = DefaultRecordBatchBuilder(
            2, 0, transactional, producer, 0 if transactional else -1, 0, 1 << 16
        )
    else:
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
    for i in range(0 if magic == 2 else start, N):
        more: Any = ([],) if magic == 2 else ()
        assert builder.append(i, 1_000 + i, b"k%d" % i, b"v%d" % i, *more) is not None
    return bytes(builder.build())


class Partition:
    """As the consumer sees it: assigned or not, paused or not, read up to a position."""

    def __init__(self, position: int = 0) -> None:
        self.active, self.paused, self.position = True, False, position

    def state_value(self, _: TopicPartition) -> Partition:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position

    def fetched(self, data: bytes, tp: TopicPartition = A, **more: Any) -> FetchResult:
        given = {"aborted": [], "isolation": READ_UNCOMMITTED, "check": True} | more
        records = PartitionRecords(
            tp, _KeptRecords(data), given["aborted"], self.position, None, None,
            given["check"], given["isolation"],
        )  # fmt: skip
        return FetchResult(tp, assignment=self, partition_records=records, backoff=0)


@pytest.mark.parametrize("magic", [0, 1, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_a_fetch_in_any_format_is_drained_from_the_position_on(magic: int, start: int) -> None:
    here = Partition(start)
    result = here.fetched(encoded(magic, start=start))
    found = drain(result)
    assert found is not None
    assert (found.start, found.stop, found.skipped) == (start, N, ())
    assert found.records.offsets.tolist() == list(range(start, N))
    assert list(found.records.values) == [b"v%d" % i for i in range(start, N)]
    times_ms = [1_000 + i if magic else -1 for i in range(start, N)]
    assert found.records.timestamps_ms.tolist() == times_ms
    assert here.position == N
    assert not result.has_more()


@pytest.mark.parametrize("why", ["revoked", "paused", "moved"])
def test_a_fetch_that_is_no_longer_wanted_is_not_drained(why: str) -> None:
    here = Partition()
    result = here.fetched(encoded(2))
    if why == "revoked":
        here.active = False
    elif why == "paused":
        here.paused = True
    else:
        here.position = 2
    before = here.position
    assert drain(result) is None
    assert here.position == before


@pytest.mark.parametrize("magic", [1, 2])
def test_damage_is_an_error_of_aiokafka_s_if_checksums_are_checked(magic: int) -> None:
    data = bytearray(encoded(magic))
    data[-1] ^= 1
    here = Partition()
    with pytest.raises(CorruptRecordException):
        drain(here.fetched(bytes(data)))
    assert here.position == 0
    unchecked = drain(here.fetched(encoded(2)[:-1] + b"\0", check=False))
    assert unchecked is not None
    assert len(unchecked.records) == N


def test_what_was_aborted_is_left_out_for_readers_of_committed_records_only() -> None:
    data = encoded(2, producer=7)
    for isolation, records, skipped in (
        (READ_COMMITTED, 0, ((0, N),)),
        (READ_UNCOMMITTED, N, ()),
    ):
        here = Partition()
        found = drain(here.fetched(data, aborted=[(7, 0)], isolation=isolation))
        assert found is not None
        assert (len(found.records), found.skipped, here.position) == (records, skipped, N)


class Fetcher:
    """What `fetched_columns` uses of aiokafka's."""

    def __init__(self, **fetched: Any) -> None:
        self._records: dict[TopicPartition, Any] = {
            {"a": A, "b": B}[name]: each for name, each in fetched.items()
        }
        self.assigned = {A, B}
        self._closed = False
        self._wait_consume_future = object()
        self._subscriptions: Any = SimpleNamespace(
            reassignment_in_progress=False, is_assigned=lambda tp: tp in self.assigned
        )
        self.waiters: list[asyncio.Future[None]] = []
        self.notified = 0

    def _create_fetch_waiter(self) -> asyncio.Future[None]:
        self.waiters.append(asyncio.get_running_loop().create_future())
        return self.waiters[-1]

    def _notify(self, future: object) -> None:
        assert future is self._wait_consume_future
        self.notified += 1


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def take(
    fetcher: Fetcher, partitions: Any = None, timeout: float = 600.0
) -> dict[TopicPartition, Fetched]:
    return await fetched_columns(fetcher, partitions, timeout, asyncio.Event())


def test_all_that_was_fetched_comes_at_once_and_more_is_fetched() -> None:
    async def test() -> None:
        fetcher = Fetcher(
            a=Partition().fetched(encoded(2)), b=Partition(2).fetched(encoded(1, start=2), B)
        )
        found = await take(fetcher)
        assert {tp: (each.start, each.stop) for tp, each in found.items()} == {A: (0, N), B: (2, N)}
        assert (fetcher._records, fetcher.notified, fetcher.waiters) == ({}, 2, [])

    run(test)


def test_partitions_that_are_not_wanted_keep_theirs_while_they_are_assigned() -> None:
    async def test() -> None:
        one, two = Partition().fetched(encoded(2)), Partition().fetched(encoded(2), B)
        fetcher = Fetcher(a=one, b=two)
        assert list(await take(fetcher, {A})) == [A]
        assert fetcher._records == {B: two}
        fetcher.assigned = {A}
        assert await take(fetcher, {A}, 0) == {}
        assert fetcher._records == {}
        assert fetcher.notified == 1, "nothing of them was taken"
        assert await take(Fetcher(a=one), set(), 0) == {}, "no partition is not all of them"

    run(test)


def test_a_fetch_without_records_counts_if_the_position_moved() -> None:
    async def test() -> None:
        moved = Partition().fetched(
            encoded(2, producer=7), aborted=[(7, 0)], isolation=READ_COMMITTED
        )
        empty = Partition().fetched(b"", B)
        fetcher = Fetcher(a=moved, b=empty)
        found = await take(fetcher)
        assert {tp: (len(each.records), each.stop) for tp, each in found.items()} == {A: (0, N)}
        assert (fetcher._records, fetcher.notified) == ({}, 2)

    run(test)


def test_a_fetch_that_is_no_longer_wanted_is_dropped_and_fetched_again() -> None:
    async def test() -> None:
        paused = Partition()
        fetcher = Fetcher(a=paused.fetched(encoded(2)))
        paused.paused = True
        assert await take(fetcher, timeout=0) == {}
        assert (fetcher._records, fetcher.notified) == ({}, 1)

    run(test)


def test_an_error_is_raised_once_and_after_what_came_before_it() -> None:
    async def test() -> None:
        error = FetchError(error=KeyError("not authorized"), backoff=0)
        fetcher = Fetcher(a=Partition().fetched(encoded(2)), b=error)
        assert list(await take(fetcher)) == [A]
        assert fetcher._records == {B: error}
        with pytest.raises(KeyError, match="not authorized"):
            await take(fetcher)
        assert (fetcher._records, fetcher.notified) == ({}, 2)
        assert await take(fetcher, timeout=0) == {}

    run(test)


def test_what_arrives_while_waiting_is_returned_and_no_task_stays_behind() -> None:
    async def test() -> None:
        fetcher = Fetcher()
        before = task_names()
        waiting = asyncio.create_task(take(fetcher), name="waiting")
        await turns(20)
        assert task_names() - before == {"waiting", "resuming"}
        (waiter,) = fetcher.waiters
        fetcher._records[B] = Partition().fetched(encoded(2), B)
        waiter.set_result(None)
        assert list(await waiting) == [B]
        await turns(2)
        assert task_names() == before

    run(test)


def test_what_stopped_the_fetcher_is_raised() -> None:
    async def test() -> None:
        fetcher = Fetcher()
        waiting = asyncio.create_task(take(fetcher))
        await turns(20)
        fetcher.waiters[0].set_exception(KeyError("no access"))
        with pytest.raises(KeyError, match="no access"):
            await waiting

    run(test)


def test_nothing_comes_of_a_closed_fetcher_or_after_the_time_is_up() -> None:
    async def test() -> None:
        fetcher = Fetcher()
        before = task_names()
        assert await take(fetcher, timeout=0) == {}
        assert fetcher.waiters == [], "there was no time to wait"
        assert await take(fetcher, timeout=0.01) == {}
        assert [waiter.cancelled() for waiter in fetcher.waiters] == [True] * len(fetcher.waiters)
        assert 1 <= len(fetcher.waiters) <= 2  # the clock may be read a moment too early
        await turns(2)
        assert task_names() == before
        fetcher._closed = True
        assert await take(fetcher) == {}

    run(test)


def test_a_resumption_is_waited_for_again_once_it_was_seen() -> None:
    """It would be seen for ever, and the event loop would do nothing else."""

    async def test() -> None:
        fetcher, resumed, wanted = Fetcher(), asyncio.Event(), {A}
        resumed.set()  # from before: what it brought was looked for already
        waiting = asyncio.create_task(fetched_columns(fetcher, wanted, 600.0, resumed))
        await turns(50)
        assert len(fetcher.waiters) == 1
        fetcher._records[B] = Partition().fetched(encoded(2), B)
        wanted.add(B)
        resumed.set()
        assert list(await waiting) == [B]
        assert fetcher.waiters[0].cancelled()

    run(test)


def test_nothing_is_taken_while_partitions_are_being_assigned() -> None:
    async def test() -> None:
        fetcher, assigned = Fetcher(a=Partition().fetched(encoded(2))), asyncio.Event()
        fetcher._subscriptions.reassignment_in_progress = True
        fetcher._subscriptions.wait_for_assignment = assigned.wait
        waiting = asyncio.create_task(take(fetcher))
        await turns(20)
        assert not waiting.done()
        assigned.set()
        assert list(await waiting) == [A]

    run(test)
