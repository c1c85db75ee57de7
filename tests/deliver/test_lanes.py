"""Offsets go on only behind what is delivered or kept; stops and gaps. No broker is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError

from schemas.messages import Undelivered
from schemas.topics import TopicNames
from streams.deliver.courier import Courier
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Answer, Request
from streams.deliver.lane import Lane
from streams.deliver.reader import Reader
from streams.deliver.service import Deliveries
from streams.kafka.access import KafkaAccess
from streams.settings import Secret, Settings
from streams.telemetry.health import judge
from streams.telemetry.metrics import Metrics
from tests.awaiting import turns
from tests.deliver.test_formats import Tries, change
from tests.deliver.test_records import Record, encoded

AUDIENCES = TopicNames("clicks", "orders", "app").audiences

CRM = Destination("crm", "webhook", "https://x", (Secret("s" * 16),), batch=2)
Send = Callable[[Request], Awaitable[Answer]]


class Books:
    """What was counted and kept, in order."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.letters: list[Undelivered] = []
        self.lost_changes = 0

    def done(self, result: str, count: int) -> None:
        self.counts[result] = self.counts.get(result, 0) + count

    def lost(self, count: int) -> None:
        self.lost_changes += count

    async def write(self, letters: Sequence[Undelivered]) -> None:
        self.letters += letters


def lane(
    send: Send,
    books: Books,
    *,
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    write: Callable[[Sequence[Undelivered]], Awaitable[None]] | None = None,
) -> Lane:
    courier = Courier(CRM, send, Tries(), sleep=sleep, draw=lambda: 0.0)
    return Lane(CRM, 0, 0, courier, write or books.write, books, lambda: 5)


def records(n: int, start: int = 0) -> list[Record]:
    return [Record(i, encoded(change(f"u{i}"))) for i in range(start, start + n)]


async def taken(_: Request) -> Answer:
    return Answer(200)


def test_an_offset_goes_on_behind_each_answer() -> None:
    async def run() -> None:
        gate: asyncio.Queue[Answer] = asyncio.Queue()
        books = Books()
        here = lane(lambda _: gate.get(), books)
        here.take(records(5))
        seen = []
        for _ in range(3):
            await turns(5)
            seen.append(here.next_offset)
            gate.put_nowait(Answer(200))
        while not here.is_free:
            await turns(1)
        assert [*seen, here.next_offset] == [0, 2, 4, 5]
        assert books.counts == {"delivered": 5, "undelivered": 0, "skipped": 0}

    asyncio.run(run())


def test_what_is_refused_is_kept_before_the_offset_goes_on() -> None:
    async def run() -> None:
        kept = asyncio.Event()
        books = Books()

        async def write(letters: Sequence[Undelivered]) -> None:
            await kept.wait()
            await books.write(letters)

        async def refused(_: Request) -> Answer:
            return Answer(400, {}, b"no")

        here = lane(refused, books, write=write)
        here.take(records(1))
        await turns(10)
        assert here.next_offset == 0
        kept.set()
        await turns(10)
        assert (here.next_offset, [x.offset for x in books.letters]) == (1, [0])

    asyncio.run(run())


def test_a_stop_lets_a_request_end_and_sends_no_other() -> None:
    async def run() -> None:
        answer = asyncio.Event()

        async def slow(_: Request) -> Answer:
            await answer.wait()
            return Answer(200)

        here = lane(slow, Books())
        here.take(records(6))
        await turns(5)
        stopping = asyncio.create_task(here.stop(60))
        await turns(5)
        answer.set()
        await stopping
        assert here.next_offset == 2
        here.check()

    asyncio.run(run())


def test_a_stop_does_not_wait_for_a_destination_that_is_away() -> None:
    async def run() -> None:
        async def away(_: Request) -> Answer:
            raise OSError("nobody answers")

        forever = asyncio.Event()

        async def sleep(_: float) -> None:
            await forever.wait()

        here = lane(away, Books(), sleep=sleep)
        here.take(records(1))
        await turns(5)
        assert here.courier.trouble == "nobody answers"
        async with asyncio.timeout(30):
            await here.stop(3_600)
        assert here.next_offset == 0
        here.check()  # given up is no error

    asyncio.run(run())


def test_records_that_come_twice_or_while_it_is_busy_are_delivered_once_in_order() -> None:
    async def run() -> None:
        bodies: list[bytes] = []

        async def send(request: Request) -> Answer:
            bodies.append(request.body)
            await asyncio.sleep(0)
            return Answer(200)

        here = lane(send, Books())
        here.take(records(3))
        await turns(1)
        here.take(records(3, start=3))
        while not here.is_free:
            await turns(1)
        here.take(records(6))
        assert here.is_free
        users = [f"u{i}" for i in range(6) for body in bodies if f'"u{i}"'.encode() in body]
        assert users == [f"u{i}" for i in range(6)]

    asyncio.run(run())


def test_a_defect_ends_the_process_with_its_reason() -> None:
    async def run() -> None:
        async def broken(_: Request) -> Answer:
            raise ZeroDivisionError

        here = lane(broken, Books())
        here.take(records(1))
        await turns(5)
        with pytest.raises(ZeroDivisionError):
            here.check()

    asyncio.run(run())


class Consumer:
    """What `Reader` asks of aiokafka's, for one partition."""

    def __init__(self, first: int, end: int, committed: int | None) -> None:
        self.first, self.end, self.at = first, end, committed
        self.position = -1
        self.refuses = False

    async def beginning_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.first)

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.end)

    async def committed(self, _: TopicPartition) -> int | None:
        return self.at

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.position = offset

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if self.refuses:
            raise CommitFailedError
        (self.at,) = offsets.values()


TP = TopicPartition(AUDIENCES, 0)


@pytest.mark.parametrize(
    ("first", "end", "committed", "begins", "lost"),
    [(0, 9, None, 0, 0), (4, 9, None, 4, 0), (0, 9, 7, 7, 0), (4, 9, 1, 4, 3), (0, 2, 7, 0, 0),
     (9, 9, 9, 9, 0)],
    ids=["new", "new, later", "goes on", "deleted before", "topic made again", "empty"],
)  # fmt: skip
def test_a_reader_begins_where_its_group_is_and_counts_what_was_deleted(
    first: int, end: int, committed: int | None, begins: int, lost: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def run() -> None:
        books = Books()
        reader = Reader(
            KafkaAccess(("x:1",)), TP.topic, "g", CRM, lambda _, at: made(at, books), books
        )
        consumer = reader._consumer = Consumer(first, end, committed)
        await reader.place([TP])
        assert (consumer.position, reader.lanes[TP].next_offset) == (begins, begins)
        assert books.lost_changes == lost

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert ("3 changes of partition 0 were deleted" in caplog.text) == bool(lost)


def made(at: int, books: Books) -> Lane:
    return Lane(CRM, 0, at, Courier(CRM, taken, Tries()), books.write, books, lambda: 5)


def test_partitions_that_are_taken_away_are_committed_and_a_refused_commit_is_no_end() -> None:
    async def run() -> None:
        books = Books()
        reader = Reader(
            KafkaAccess(("x:1",)), TP.topic, "g", CRM, lambda _, at: made(at, books), books
        )
        consumer = reader._consumer = Consumer(0, 9, None)
        await reader.place([TP])
        reader.lanes[TP].take(records(3))
        await reader.give_up([TP])
        assert consumer.at in (2, 3)  # the piece that was under way, or all
        assert reader.lanes == {}
        consumer.refuses = True
        await reader.place([TP])
        reader.lanes[TP].take(records(9))
        await reader.give_up([TP])

    asyncio.run(run())


def test_a_destination_that_fails_makes_the_process_unready_and_not_dead() -> None:
    async def run() -> None:
        metrics = Metrics()
        deliveries = Deliveries(Settings(), [CRM], metrics)
        (reader,) = deliveries._readers
        here = reader.lanes[TP] = made(3, Books())
        (standing,) = deliveries.standings()
        assert (standing.state, standing.offsets) == ("running", ((TP.topic, 0, 3),))
        here.courier.trouble, here.courier.failing_since = "HTTP status 503", 0.0
        (standing,) = deliveries.standings()
        assert standing.state == "not getting through (HTTP status 503)"
        ((labels, seconds),) = deliveries.failing_seconds()
        assert labels == ("crm",)
        assert seconds > 1e9
        deliveries._watch.beat()
        health = judge(deliveries._watch._present(), 120.0)
        assert health.dead == ()
        assert any("destination crm, partition 0" in reason for reason in health.unready)
        assert 'tideline_deliveries_lost_total{destination="crm"} 0.0' in text_of(metrics)

    asyncio.run(run())


def text_of(metrics: Metrics) -> str:
    from prometheus_client import generate_latest  # noqa: PLC0415

    return generate_latest(metrics.registry).decode()
