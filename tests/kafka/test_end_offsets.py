"""End offsets from the two answers of a broker, of which either may come late or be too low."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.errors import LeaderNotAvailableError

from streams.kafka import clients, end_offsets
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import connect
from streams.kafka.end_offsets import EndOffsets
from streams.local.kafka import ApacheKafka
from tests.one_broker import numbers

PLACES = [("orders", 0), ("orders", 1)]


class Clock:
    """`time`, for end_offsets."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def monotonic(self) -> float:
        return self.seconds


class Consumer:
    """Answers as kafka-python's: what ListOffsets says, and high watermarks after some polls."""

    def __init__(self, clock: Clock, listed: list[int], highwater: Mapping[int, tuple[int, int]]):
        self._clock, self._listed, self._highwater = clock, listed, highwater
        self.options: dict[str, Any] = {}
        self.assigned: list[TopicPartition] = []
        self.positions: dict[TopicPartition, int] = {}
        self.polls = 0
        self.waits_ms: list[int] = []
        self.closed = False

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = places
        self.polls = 0  # as watermarks come with what is fetched after it

    def unsubscribe(self) -> None:
        self.assigned = []

    def end_offsets(self, places: list[TopicPartition], timeout_ms: int) -> dict[Any, int]:
        self.waits_ms.append(timeout_ms)
        return {tp: self._listed[tp.partition] for tp in places}

    def beginning_offsets(self, places: list[TopicPartition], timeout_ms: int) -> dict[Any, int]:
        self.waits_ms.append(timeout_ms)
        return {tp: 3 + tp.partition for tp in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        assert place in self.assigned
        self.positions[place] = offset

    def poll(self, timeout_ms: int, max_records: int) -> None:
        assert 0 < timeout_ms <= 100, "it returns soon, for the deadline"
        assert max_records >= 1
        assert self.positions.keys() >= set(self.assigned)
        self._clock.seconds += timeout_ms / 1000
        self.polls += 1

    def highwater(self, place: TopicPartition) -> int | None:
        after, value = self._highwater.get(place.partition, (10**9, 0))
        return value if place in self.assigned and self.polls >= after else None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock()
    monkeypatch.setattr(end_offsets, "time", clock)

    def make(listed: list[int], highwater: Mapping[int, tuple[int, int]]) -> Consumer:
        consumer = Consumer(clock, listed, highwater)

        def consumer_of(access: KafkaAccess, **options: Any) -> Consumer:
            assert access == KafkaAccess(("a:1",))
            consumer.options = options
            return consumer

        monkeypatch.setattr(clients, "consumer", consumer_of)
        return consumer

    return make


def test_the_high_watermark_counts_where_it_is_higher(made: Any) -> None:
    consumer = made([11, 20], {0: (1, 17), 1: (3, 19)})
    with EndOffsets(["a:1"], 2.5) as reader:
        assert reader.of(PLACES) == {("orders", 0): 17, ("orders", 1): 20}
        assert consumer.polls == 3, "it asked until all had answered, and no more"
        assert consumer.positions == {TopicPartition("orders", p): (11, 20)[p] for p in (0, 1)}
        assert not consumer.closed
    assert consumer.closed
    assert consumer.waits_ms == [2500]
    assert consumer.options["bootstrap_timeout_ms"] == 2500
    assert consumer.options["max_partition_fetch_bytes"] == 1


def test_every_call_asks_for_new_watermarks(made: Any) -> None:
    consumer = made([0, 0], {0: (1, 5)})
    reader = EndOffsets(["a:1"])
    assert reader.of(PLACES[:1]) == {("orders", 0): 5}
    assert consumer.assigned == []
    consumer._highwater = {0: (1, 6)}
    assert reader.of(PLACES[:1]) == {("orders", 0): 6}
    assert consumer.polls == 1


def test_a_watermark_that_does_not_come_in_time_is_done_without(made: Any) -> None:
    consumer = made([11, 20], {1: (2, 25)})
    start = consumer._clock.seconds
    assert EndOffsets(["a:1"], 2.0).of(PLACES) == {("orders", 0): 11, ("orders", 1): 25}
    assert 2.0 <= consumer._clock.seconds - start < 2.2


def test_the_beginning_is_what_the_broker_lists(made: Any) -> None:
    consumer = made([], {})
    reader = EndOffsets(["a:1"], 2.5)
    assert reader.beginnings_of(PLACES) == {("orders", 0): 3, ("orders", 1): 4}
    assert consumer.waits_ms == [2500]


def test_nobody_is_asked_about_nothing(made: Any) -> None:
    consumer = made([], {})
    reader = EndOffsets(["a:1"])
    assert reader.of([]) == reader.beginnings_of([]) == {}
    assert consumer.waits_ms == []


@pytest.mark.parametrize(
    ("partitions", "questions"), [(100, 1), (101, 2), (1_000, 10), (5_000, 10)]
)
def test_many_partitions_are_asked_for_in_few_questions(
    made: Any, partitions: int, questions: int
) -> None:
    consumer = made(list(range(partitions)), {p: (1, p + 2) for p in range(partitions)})
    places = {("orders", p) for p in range(partitions)}
    reader = EndOffsets(["a:1"])
    assert reader.of(places) == {("orders", p): p + 2 for p in range(partitions)}
    assert reader.beginnings_of(places) == {("orders", p): p + 3 for p in range(partitions)}
    assert len(consumer.waits_ms) == 2 * questions
    assert consumer.assigned == []


def test_watermarks_that_do_not_come_are_waited_for_once_in_all(made: Any) -> None:
    consumer = made([7] * 1_000, {})
    start = consumer._clock.seconds
    assert set(EndOffsets(["a:1"], 2.0).of([("orders", p) for p in range(1_000)]).values()) == {7}
    assert 2.0 <= consumer._clock.seconds - start < 2.5


def test_a_partition_without_a_leader_is_an_error_of_kafka(made: Any) -> None:
    """kafka-python raises KeyError, which would end a monitor that watches other partitions."""
    consumer = made([], {})

    def unknown(places: list[TopicPartition], timeout_ms: int) -> dict[Any, int]:
        raise KeyError(places[0])

    consumer.end_offsets = consumer.beginning_offsets = unknown
    reader = EndOffsets(["a:1"])
    for question in (reader.of, reader.beginnings_of):
        with pytest.raises(LeaderNotAvailableError, match="orders"):
            question(PLACES)


# -- transactions, on a real broker

_NUMBERS = numbers()


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("moves", "after", "nothing"),
    [
        (["commit"], 1, True),  # the marker alone
        (["commit", "commit"], 1, False),  # a marker, and a record behind it
        (["abort"], 0, True),
        (["commit", "abort", "abort"], 1, True),
        (["abort", "plain"], 0, False),
        (["plain"], 0, False),
    ],
    ids=str,
)
def test_markers_and_what_was_aborted_are_nothing_to_read(
    apache_kafka: ApacheKafka, moves: list[str], after: int, nothing: bool
) -> None:
    """Who has read all committed records stays before them: a lag that nobody can close."""
    access = KafkaAccess((apache_kafka.bootstrap,))
    topic = f"probed-{next(_NUMBERS)}"
    with connect(access) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])
    asyncio.run(_write(access, topic, moves))
    with EndOffsets(access) as reader:
        end = reader.of([(topic, 0)])[topic, 0]
        assert end == sum(1 if move == "plain" else 2 for move in moves)
        assert reader.nothing_between((topic, 0), after, end) is nothing
        assert reader.nothing_between((topic, 0), after, end) is nothing  # again, with one client


async def _write(access: KafkaAccess, topic: str, moves: list[str]) -> None:
    plain = clients.async_producer(access)
    within = clients.async_producer(access, transactional_id=topic)
    await plain.start()
    await within.start()
    for move in moves:
        if move == "plain":
            await plain.send_and_wait(topic, b"v", partition=0)
            continue
        await within.begin_transaction()
        await within.send_and_wait(topic, b"v", partition=0)
        await (within.commit_transaction() if move == "commit" else within.abort_transaction())
    await plain.stop()
    await within.stop()
