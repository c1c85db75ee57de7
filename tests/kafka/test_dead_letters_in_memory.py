"""Dead letters on a broker in memory that fails where it is asked to: in what order they are sent,
and what becomes of an error."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from schemas.errors import BrokerUnavailable
from schemas.messages import DeadLetter, ReplayedLetter
from streams.kafka import clients, dead_letters
from streams.kafka.dead_letters import kinds, not_replayable, origin, read, replay, topic_records
from streams.settings import Settings, override

SETTINGS = override(Settings(), kafka_partitions=2, kafka_partitioner="unchecked")
ORDERS, LETTERS = SETTINGS.kafka.orders_topic, SETTINGS.topic_names.dead_letters


def nobody(_: DeadLetter) -> bool:
    return False


def letter(offset: int, **more: Any) -> DeadLetter:
    whole: dict[str, Any] = {
        "topic": ORDERS, "partition": 1, "reason": "invalid_json", "detail": "",
        "recorded_at_ms": 1_000 + offset, "key": b"k", "payload": b"{}", "payload_bytes": 2,
    }  # fmt: skip
    return DeadLetter(offset=offset, **(whole | more))


class Broker:
    """kafka-python's producer and consumer in one, of the dead letters' topic."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.log: list[tuple[str, Any]] = []
        self.acknowledged = 0
        self.fails: Callable[[int], Exception | None] = lambda n: None
        """Of the n-th record that is sent, from 0 on."""
        self.values: dict[int, list[bytes]] = {}
        self.first = 0
        self.stalls_at = 10**9
        self.positions: dict[TopicPartition, int] = {}
        self.closed = 0
        self.breaks: Exception | None = None

    # as `time`
    def monotonic(self) -> float:
        return self.seconds

    def time_ns(self) -> int:
        return 1_700_000_000_000_999_999

    # as a producer
    def send(self, topic: str, value: Any, key: Any = None, partition: Any = None,
             headers: Any = ()) -> Any:  # fmt: skip
        n = len([1 for what, _ in self.log if what == "sent"])
        self.log.append(("sent", (topic, value, key, partition, list(headers))))

        def get(timeout: float) -> None:
            assert 1 <= timeout <= 60
            error = self.fails(n)
            if error is not None:
                raise error
            self.log.append(("acknowledged", topic))

        return SimpleNamespace(get=get)

    def close(self, timeout: float | None = None) -> None:
        self.closed += 1

    # as a consumer
    def partitions_for_topic(self, topic: str) -> set[int] | None:
        if self.breaks is not None:
            raise self.breaks
        return set(self.values) if topic == LETTERS and self.values else None

    def assign(self, places: list[TopicPartition]) -> None:
        self.positions = dict.fromkeys(places, -1)

    def seek_to_beginning(self, *places: TopicPartition) -> None:
        for place in places:
            self.positions[place] = self.first

    def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.first)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        """One record of each partition, also behind the end that was asked for."""
        assert timeout_ms > 0
        found = {}
        for place, at in self.positions.items():
            values = self.values[place.partition]
            if at < min(self.first + len(values), self.stalls_at):
                found[place] = [
                    SimpleNamespace(
                        offset=at, partition=place.partition, value=values[at - self.first]
                    )
                ]
                self.positions[place] += 1
        self.seconds += 0.01 if found else timeout_ms / 1000
        return found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()

    class Ends:
        def __init__(self, _: Any) -> None: ...

        def __enter__(self) -> Ends:
            return self

        def __exit__(self, *_: object) -> None: ...

        def of(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
            return {place: made.first + len(made.values[place[1]]) for place in places}

    monkeypatch.setattr(dead_letters, "require_reachable", lambda _: None)
    monkeypatch.setattr(dead_letters, "EndOffsets", Ends)
    monkeypatch.setattr(dead_letters, "time", made)
    monkeypatch.setattr(clients, "producer", lambda *_, **__: made)
    monkeypatch.setattr(clients, "consumer", lambda *_, **__: made)
    return made


def test_notes_follow_the_records_they_are_of_once_these_are_acknowledged(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_CHUNK_LETTERS", 2)
    done: list[int] = []
    letters = [letter(n) for n in range(3)]
    assert replay(SETTINGS, letters, done.append) == 3
    assert done == [2, 3]
    order = [
        (what, (got if what == "acknowledged" else got[0]) == ORDERS) for what, got in broker.log
    ]
    record, note = True, False
    assert order == [
        ("sent", record), ("sent", record), ("acknowledged", record), ("acknowledged", record),
        ("sent", note), ("sent", note), ("acknowledged", note), ("acknowledged", note),
        ("sent", record), ("acknowledged", record), ("sent", note), ("acknowledged", note),
    ]  # fmt: skip
    sent = [got for what, got in broker.log if what == "sent"]
    assert sent[0] == (
        ORDERS,
        b"{}",
        b"k",
        1,
        [("tideline-replay-of", origin(letters[0]).encode())],
    )
    note_of_first = msgspec.json.decode(sent[2][1], type=ReplayedLetter)
    assert note_of_first == ReplayedLetter(origin(letters[0]), 1_700_000_000_000)
    assert broker.closed == 1


@pytest.mark.parametrize("error", [KafkaTimeoutError("slow"), ConnectionResetError("gone")])
@pytest.mark.parametrize("at", [0, 2])
def test_a_broker_that_fails_is_an_outage_and_no_note_is_sent_for_what_it_did_not_get(
    broker: Broker, error: Exception, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_CHUNK_LETTERS", 1)
    broker.fails = lambda n: error if n == at else None
    done: list[int] = []
    with pytest.raises(BrokerUnavailable, match="does not answer") as raised:
        replay(SETTINGS, [letter(1), letter(2)], done.append)
    assert raised.value.__cause__ is error
    assert broker.closed == 1
    assert len(done) == at // 2
    notes = [got for what, got in broker.log if what == "sent" and got[0] == LETTERS]
    assert len(notes) == at // 2


def test_a_producer_that_cannot_connect_is_an_outage(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise KafkaError("unable to bootstrap")

    monkeypatch.setattr(clients, "producer", refuse)
    with pytest.raises(BrokerUnavailable, match="unable to bootstrap"):
        replay(SETTINGS, [letter(1)])


def test_nobody_is_connected_to_for_letters_that_cannot_be_replayed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(dead_letters, "require_reachable", fail)
    lost = [letter(1, payload=None), letter(2, payload_bytes=9), letter(3, topic="former")]
    assert replay(SETTINGS, lost) == 0
    assert [str(not_replayable(SETTINGS, each)).split()[0] for each in lost] == [
        "it", "only", "former"
    ]  # fmt: skip


def encoded(*messages: Any) -> list[bytes]:
    return [msgspec.json.encode(each) for each in messages]


def test_a_topic_is_read_to_the_end_it_has_now(broker: Broker) -> None:
    broker.first = 40
    broker.values = {0: [b"a", b"b", b"c"], 1: [], 2: [b"d"]}

    def found(newest: int | None = None) -> list[tuple[int, int, bytes]]:
        records = topic_records(SETTINGS, LETTERS, newest)
        return sorted((r.partition, r.offset, r.value) for r in records)

    every = [(0, 40, b"a"), (0, 41, b"b"), (0, 42, b"c"), (2, 40, b"d")]
    assert found() == every
    assert found(2) == every[1:]
    assert found(9) == every
    assert broker.closed == 3
    assert list(topic_records(SETTINGS, "another")) == []
    assert broker.closed == 4

    late = topic_records(SETTINGS, LETTERS)
    assert next(late).value == b"a"
    broker.values[2].append(b"written meanwhile")
    broker.values[2].append(b"and another")
    assert sorted(r.value for r in late) == [b"b", b"c", b"d"]


def test_a_broker_that_stops_before_the_end_is_an_outage_after_a_while(broker: Broker) -> None:
    broker.values = {0: [b"a", b"b", b"c"]}
    broker.stalls_at = 2
    found = topic_records(SETTINGS, LETTERS)
    start = broker.seconds
    assert [next(found).value, next(found).value] == [b"a", b"b"]
    with pytest.raises(BrokerUnavailable, match=f"stopped sending {LETTERS}"):
        next(found)
    assert broker.seconds - start == pytest.approx(15.0, abs=1.0)
    assert broker.closed == 1


@pytest.mark.parametrize("error", [KafkaError("no"), OSError("gone")])
def test_a_broker_that_cannot_be_read_is_an_outage(broker: Broker, error: Exception) -> None:
    broker.breaks = error
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        list(topic_records(SETTINGS, LETTERS))
    assert broker.closed == 1


def test_kinds_count_what_waits_and_show_its_newest_letter(broker: Broker) -> None:
    gone = letter(5, reason="too_large")
    messages = encoded(
        letter(1), letter(1), letter(3), letter(2), gone,
        ReplayedLetter(origin(letter(3)), 9), ReplayedLetter(origin(gone), 9),
    )  # fmt: skip
    broker.values = {0: [*messages, b"not one of ours"]}
    found = kinds(SETTINGS, nobody)
    assert [(k.reason, k.letters, k.replayed, k.newest_ms, k.example) for k in found] == [
        ("invalid_json", 2, 1, 1_002, f"{ORDERS}/1/2"),
        ("too_large", 0, 1, 1_005, f"{ORDERS}/1/5"),
    ]
    assert {k.topic for k in found} == {ORDERS}
    assert sorted(each.offset for each in read(SETTINGS, nobody)) == [1, 2]
    assert sorted(each.offset for each in read(SETTINGS, nobody, again=True)) == [1, 2, 3, 5]
    assert all(each.payload == b"{}" for each in read(SETTINGS, nobody))
    assert all(each.payload is None for each in read(SETTINGS, nobody, payloads=False))
    erased = read(SETTINGS, lambda each: each.offset == 2)
    assert [each.offset for each in erased] == [1]
