"""What the transport hands on, and when it hands on nothing; without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import ConsumerStoppedError
from faust.types import TP

from streams.core.events.records import Records
from streams.kafka import transport
from streams.kafka.fetch import Fetched
from streams.kafka.transport import Consumer, ConsumerThread

HERE, OTHER = TP("orders", 0), TP("orders", 1)


def records(n: int) -> Records:
    return Records.of(
        np.arange(10, 10 + n), np.arange(5_000, 5_000 + n, dtype=np.int64), [b"k"] * n, [b"v"] * n
    )


def fetched(n: int, stop: int) -> Fetched:
    return Fetched(records(n), 10, stop)


class Monitor:
    def __init__(self) -> None:
        self.ends: list[tuple[TP, int]] = []

    def track_tp_end_offset(self, tp: TP, end: int) -> None:
        self.ends.append((tp, end))


class Thread(ConsumerThread):
    """The polling thread, without a thread."""

    def __init__(self, **aio: Any) -> None:
        self._resumed = asyncio.Event()
        self.aio = SimpleNamespace(_closed=False, **aio)
        self.consumer = SimpleNamespace(flow_active=True)

    def _ensure_consumer(self) -> Any:
        return self.aio


class Polled(Consumer):
    """A consumer that has polled what it is given."""

    def __init__(self, found: dict[TP, Fetched], marks: dict[TP, int | None] | None = None) -> None:
        self.found, self.marks = found, marks or {}
        self.app = SimpleNamespace(consumer_generation_id=7, monitor=Monitor())
        self.flow_active = True
        self.sought = 0
        self.stopping = False
        self.mine = {HERE}
        self.active: set[TP] = {HERE}
        self._resumed = asyncio.Event()
        self.woken = 0
        self._thread = SimpleNamespace(log_end=lambda tp: 42, look_again=self._woke)

    def _woke(self) -> None:
        self.woken += 1

    @property
    def should_stop(self) -> bool:
        return self.stopping

    def highwater(self, tp: TP) -> int | None:
        return self.marks.get(tp)

    def assignment(self) -> set[TP]:
        return self.mine

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        self.active |= set(tps)

    def _get_active_partitions(self) -> set[TP]:
        return self.active

    async def perform_seek(self) -> None:
        self.sought += 1

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        return self.found, set(self.found)


def messages(consumer: Consumer, after: Any = None) -> list[tuple[TP, Any]]:
    async def collect() -> list[tuple[TP, Any]]:
        got = []
        async for one in consumer.getmany(1.0):
            got.append(one)
            if after is not None:
                after()
        return got

    return asyncio.run(collect())


@pytest.mark.parametrize(
    ("mark", "stable", "end"),
    [
        (None, 5, None),
        (None, None, None),
        (5, None, 5),
        (5, -1, 5),
        (5, 0, 0),
        (5, 3, 3),
        (5, 7, 5),
    ],
)
def test_a_partition_ends_before_a_transaction_that_is_open(
    mark: int | None, stable: int | None, end: int | None
) -> None:
    thread = Thread(highwater=lambda _: mark, last_stable_offset=lambda _: stable)
    assert thread.log_end(HERE) == end


class Fetcher:
    def __init__(self, closed: bool = False) -> None:
        self._closed = closed
        self.within = 0
        self._subscriptions = SimpleNamespace(fetch_context=lambda: self)

    def __enter__(self) -> None:
        self.within += 1

    def __exit__(self, *_: object) -> None:
        self.within -= 1


@pytest.mark.parametrize(("timeout", "waits"), [(None, 0.0), (0.5, 0.5)])
def test_a_fetch_takes_columns_within_the_fetch_context(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None, waits: float
) -> None:
    fetcher = Fetcher()

    async def columns(*given: Any) -> dict[TP, Fetched]:
        assert fetcher.within == 1
        assert given == (fetcher, {HERE}, waits, thread._resumed)
        return {HERE: fetched(2, 12)}

    monkeypatch.setattr(transport, "fetched_columns", columns)
    thread = Thread(_fetcher=fetcher)
    found = asyncio.run(thread._fetch_records(thread.aio, {HERE}, timeout))
    assert list(found) == [HERE]
    assert fetcher.within == 0


def test_nothing_is_fetched_during_a_rebalance() -> None:
    thread = Thread(_fetcher=Fetcher(closed=True))
    thread.consumer.flow_active = False
    assert asyncio.run(thread._fetch_records(thread.aio, {HERE})) == {}


@pytest.mark.parametrize(("consumer_closed", "fetcher_closed"), [(True, False), (False, True)])
def test_a_consumer_that_has_ended_fetches_no_more(
    consumer_closed: bool, fetcher_closed: bool
) -> None:
    thread = Thread(_fetcher=Fetcher(fetcher_closed))
    thread.aio._closed = consumer_closed
    with pytest.raises(ConsumerStoppedError):
        asyncio.run(thread._fetch_records(thread.aio, {HERE}))


def test_a_poll_is_one_message_per_partition_with_its_last_offset() -> None:
    consumer = Polled({HERE: fetched(3, 15), OTHER: fetched(0, 20)}, {HERE: 99})
    (first, one), (second, two) = messages(consumer)
    assert (first, second) == (HERE, OTHER)
    assert (one.topic, one.partition, one.offset, one.tp) == ("orders", 0, 14, HERE)
    assert one.timestamp == 5.002  # of the last record, in seconds
    assert one.generation_id == 7
    assert (len(one.value.records), one.value.start, one.value.stop) == (3, 10, 15)
    assert (two.offset, two.timestamp) == (19, 0.0)  # transaction markers only
    assert consumer.app.monitor.ends == [(HERE, 99)]


def test_without_a_monitor_nothing_is_tracked() -> None:
    consumer = Polled({HERE: fetched(1, 11)}, {HERE: 99})
    consumer.app.monitor = None
    assert len(messages(consumer)) == 1


def test_an_end_of_zero_is_tracked() -> None:
    consumer = Polled({HERE: fetched(0, 1)}, {HERE: 0})
    messages(consumer)
    assert consumer.app.monitor.ends == [(HERE, 0)]


def test_a_rebalance_while_polling_seeks_and_hands_on_nothing() -> None:
    consumer = Polled({HERE: fetched(1, 11)})
    consumer.flow_active = False
    assert messages(consumer) == []
    assert consumer.sought == 1


def test_a_consumer_that_stops_hands_on_nothing() -> None:
    consumer = Polled({HERE: fetched(1, 11)})
    consumer.stopping = True
    assert messages(consumer) == []
    assert messages(Polled({})) == []


@pytest.mark.parametrize("what", ["flow", "generation"])
def test_a_rebalance_between_two_partitions_ends_the_poll(what: str) -> None:
    consumer = Polled({HERE: fetched(1, 11), OTHER: fetched(1, 11)})

    def rebalance() -> None:
        if what == "flow":
            consumer.flow_active = False
        else:
            consumer.app.consumer_generation_id = 8

    assert [tp for tp, _ in messages(consumer, rebalance)] == [HERE]


def test_a_resume_wakes_who_waits_for_records() -> None:
    consumer = Polled({})
    consumer.active = set()
    consumer.resume([OTHER])
    assert consumer.active == {OTHER}
    assert consumer._resumed.is_set()
    assert consumer.woken == 1


def test_the_end_of_a_partition_of_somebody_else_is_not_known() -> None:
    consumer = Polled({})
    assert consumer.log_end(HERE) == 42
    assert consumer.log_end(OTHER) is None


def test_with_all_partitions_paused_it_waits_for_a_resume_and_not_for_a_second() -> None:
    async def go() -> None:
        consumer = Polled({})
        consumer.active = set()
        waited: list[float] = []

        async def wait(event: asyncio.Event, timeout: float) -> None:
            waited.append(timeout)
            assert not event.is_set()
            consumer.resume([HERE])
            assert event.is_set()

        consumer.wait = wait
        assert await Consumer._wait_next_records(consumer, 3.0) == ({}, set())
        assert waited == [3.0]

    asyncio.run(go())
