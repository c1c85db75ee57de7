"""Canaries of the lag monitor: what is on its way, what was read, and what goes wrong."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from schemas.errors import SettingsError
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate
from streams.core.events.records import Records
from streams.core.partitioning import Partitioner, PartitionerName, partitions_of_keys
from streams.kafka.canary_keys import HASHES, canary_keys
from streams.kafka.topics import create_missing
from streams.lag.canary import LOST_MS, CanaryRow, CanaryWatch, OnItsWay
from streams.lag.canary_run import CanaryTable, Looks, Sender, canary_parts
from streams.local.clickhouse import ChdbServer
from streams.settings import Settings, load, override
from streams.telemetry.metrics import Metrics

NOW_MS = 1_800_000_000_000


class Watched:
    """A watch whose clock is set by hand, with its metrics."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.metrics = Metrics()
        self.watch = CanaryWatch(lambda: self.now_ms)
        self.watch.feed(self.metrics)

    def sent(self, partition: int, offset: int) -> None:
        self.watch.sent(partition, offset, self.now_ms, self.now_ms)

    def age(self, partition: int) -> float | None:
        labels = {"partition": str(partition)}
        return self.metrics.registry.get_sample_value("tideline_canary_age_seconds", labels)

    def errors(self, error_type: str) -> float | None:
        labels = {"error_type": error_type}
        return self.metrics.registry.get_sample_value("tideline_canary_errors_total", labels)


@pytest.mark.parametrize("name", sorted(HASHES))
def test_keys_belong_where_the_workers_look(name: Any) -> None:
    checked: PartitionerName = "murmur2" if name == "unchecked" else name
    for partitions in (1, 3, 12, 200):
        keys = canary_keys(name, partitions)
        assert partitions_of_keys(keys, checked, partitions).tolist() == list(range(partitions))
        for partition, key in enumerate(keys):
            one = Records.of(np.zeros(1, np.int64), np.zeros(1, np.int64), [key], [b""])
            assert not len(Partitioner(checked, partitions).misplaced(one, partition))


def test_age_is_that_of_the_newest_readable_one_and_nothing_before_the_first_was_sent() -> None:
    w = Watched()
    w.watch.known_before([(0, NOW_MS - 90_000), (5, NOW_MS - 1)])
    assert (w.age(0), w.age(5)) == (None, None)
    w.sent(0, 10)
    w.sent(1, 7)
    w.now_ms += 2_000
    assert (w.age(0), w.age(1)) == (92.0, 2.0), "one was readable before this monitor began"
    assert w.watch.read([CanaryRow(0, 10, NOW_MS)]) == [2.0]
    assert (w.age(0), w.age(1)) == (2.0, 2.0)
    w.sent(0, 11)
    w.now_ms += 60_000
    assert (w.age(0), w.age(1)) == (62.0, 62.0)
    w.watch.keep([0])
    assert (w.age(0), w.age(1)) == (62.0, None), "the series of a partition that is gone goes"


def test_each_is_timed_once_in_whatever_order_they_are_read() -> None:
    w = Watched()
    for offset in (3, 4, 9):
        w.sent(0, offset)
        w.now_ms += 1_000
    assert w.watch.on_their_way() == ([OnItsWay(0, 3, 9)], 0)
    rows = [CanaryRow(0, 9, NOW_MS + 2_000), CanaryRow(0, 3, NOW_MS)]
    assert w.watch.read(rows) == [1.0, 3.0]
    assert w.watch.read(rows) == []
    assert w.watch.on_their_way() == ([OnItsWay(0, 4, 4)], 0)
    assert w.age(0) == 1.0


def test_rows_of_another_monitor_or_of_a_topic_that_is_gone_are_not_ours() -> None:
    w = Watched()
    w.sent(0, 3)
    others = [CanaryRow(0, 2, NOW_MS), CanaryRow(1, 3, NOW_MS), CanaryRow(0, 3, NOW_MS - 5_000)]
    assert w.watch.read(others) == []
    w.now_ms += 5_000
    w.sent(0, 3)  # the topic was created again
    assert w.watch.read([CanaryRow(0, 3, NOW_MS)]) == []
    assert w.watch.read([CanaryRow(0, 3, NOW_MS + 5_000)]) == [0.0]


def test_one_that_never_comes_is_given_up_and_ages_all_the_same() -> None:
    w = Watched()
    w.sent(0, 1)
    w.now_ms += LOST_MS
    assert w.watch.on_their_way() == ([OnItsWay(0, 1, 1)], 0)
    w.now_ms += 1
    assert w.watch.on_their_way() == ([], 1)
    assert w.age(0) == (LOST_MS + 1) / 1000


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    w = Watched()
    w.sent(0, 1)
    w.now_ms -= 10_000
    assert w.age(0) == 0.0
    assert w.watch.read([CanaryRow(0, 1, NOW_MS)]) == [0.0]


def test_the_page_says_what_is_known_and_what_is_in_the_way() -> None:
    w = Watched()
    w.sent(2, 1)
    w.now_ms += 1_500
    w.watch.troubles["read"] = "ClickHouse is away"
    assert w.watch.document() == {
        "troubles": {"read": "ClickHouse is away"},
        "partitions": [
            {"partition": 2, "age_seconds": 1.5, "newest_readable_sent_at_ms": None, "waiting": 1}
        ],
    }
    page = w.watch.page("/v1/canary/")
    assert page is not None
    assert page[0] == "200 OK"
    assert w.watch.page("/v1/groups") is None


def test_0_sends_none_and_a_simulated_clock_has_none() -> None:
    w = Watched()
    assert canary_parts(Settings(), w.metrics, w.watch, lambda _: None) == ()
    with pytest.raises(SettingsError, match="TIDELINE_LAG_CANARY_INTERVAL_SECONDS"):
        load({"TIDELINE_LAG_CANARY_INTERVAL_SECONDS": "5", "TIDELINE_STREAM_CLOCK": "event"})


# -- ClickHouse


def test_rows_are_found_where_they_are_and_a_missing_table_says_what_to_do(
    clickhouse: ChdbServer, caplog: pytest.LogCaptureFixture
) -> None:
    w = Watched()
    target = ClickHouseTarget(clickhouse.host, clickhouse.port, database="canary_test")
    looks = Looks(CanaryTable(target), w.metrics, w.watch)
    for _ in range(2):
        looks.look()
    assert caplog.text.count("tideline migrate") == 1, "said once"
    assert "read" in w.watch.troubles
    assert sum(s.value for m in w.metrics.registry.collect() for s in m.samples
               if s.name == "tideline_canary_errors_total") == 2  # fmt: skip
    migrate(target)

    def insert(*rows: tuple[int, int, int]) -> None:
        with connect(target) as client:
            for shard, offset, at_ms in rows:
                client.execute(
                    "INSERT INTO canaries (shard, offset, recorded_at, p_churn) SELECT "
                    f"{shard}, {offset}, toDateTime64({at_ms / 1000:.3f}, 3, 'UTC'), nan"
                )

    insert((0, 3, NOW_MS - 50_123))
    looks.look()
    assert w.watch.troubles == {}
    w.sent(0, 4)
    w.sent(1, 9)
    assert w.age(0) == pytest.approx(50.123)
    insert((0, 4, NOW_MS), (1, 8, NOW_MS), (2, 9, NOW_MS))
    w.now_ms += 3_000
    looks.look()
    assert (w.age(0), w.age(1)) == (3.0, 3.0)
    assert w.watch.on_their_way() == ([OnItsWay(1, 9, 9)], 0)
    value = w.metrics.registry.get_sample_value
    assert (value("tideline_canary_seconds_count"), value("tideline_canary_seconds_sum")) == (1, 3)


# -- Kafka


@pytest.mark.kafka
def test_each_partition_gets_one_with_its_key_and_the_monitors_time(settings: Settings) -> None:
    create_missing(settings)
    w, topic = Watched(), settings.kafka.clickstream_topic
    sender = Sender(settings, w.metrics, w.watch, threading.Event(), lambda: w.now_ms)
    sender.send()
    sender.send()
    sender.close()
    ways, _ = w.watch.on_their_way()
    assert ways == [OnItsWay(n, 0, 1) for n in range(settings.kafka.partitions)]
    value = w.metrics.registry.get_sample_value
    assert value("tideline_canaries_sent_total") == 2 * settings.kafka.partitions
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.broker_url)
    places = [TopicPartition(topic, n) for n in range(settings.kafka.partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning()
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while len(found) < 2 * len(places) and time.monotonic() < deadline:
        found += [record for batch in consumer.poll(200).values() for record in batch]
    consumer.close()
    assert {record.timestamp for record in found} == {NOW_MS}
    for record in found:
        assert partitions_of_keys([record.key], "murmur2", len(places)) == [record.partition]


class _Partial:
    """A producer whose topic has other partitions than the settings say."""

    def __init__(self, there: set[int]) -> None:
        self.there = there

    def partitions_for(self, topic: str) -> set[int]:
        return self.there

    def send(self, topic: str, *, partition: int, **_: Any) -> Any:
        return _Answered()


class _Acknowledged(NamedTuple):
    offset: int
    timestamp: int


class _Answered:
    is_done = True

    def get(self, timeout: float) -> _Acknowledged:
        return _Acknowledged(7, NOW_MS)


def test_partitions_that_are_missing_are_said_once_and_the_others_get_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    w, where = Watched(), override(Settings(), kafka_partitions=2)
    sender = Sender(where, w.metrics, w.watch, threading.Event(), lambda: w.now_ms)
    sender._producer = partial = _Partial(set())
    for _ in range(2):
        sender.send()
    partial.there = {1, 2}
    sender.send()
    assert (w.age(0), w.age(1), w.age(2)) == (None, 0.0, None)
    (said,) = caplog.records
    assert "tideline topics --create" in said.getMessage()
    assert w.errors("UnknownTopicOrPartitionError") == 3
    partial.there = {0}
    sender.send()
    assert (w.age(0), w.age(1)) == (0.0, None)
    partial.there = {0, 1}
    sender.send()
    assert w.watch.troubles == {}


class _Refusing:
    """A producer whose broker answers with an error."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error

    def partitions_for(self, topic: str) -> set[int]:
        raise self.error()


def test_without_the_right_to_write_it_says_once_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    w, topic = Watched(), Settings().kafka.clickstream_topic
    sender = Sender(override(Settings(), kafka_partitions=2), w.metrics, w.watch, threading.Event())
    refusing = _Refusing(lambda: TopicAuthorizationFailedError({topic}))
    sender._producer = refusing
    for _ in range(3):
        sender.send()
    assert w.errors("TopicAuthorizationFailedError") == 3
    (said,) = caplog.records
    assert "grant this user WRITE" in said.getMessage()
    assert "TIDELINE_LAG_CANARY_INTERVAL_SECONDS=0" in said.getMessage()
    refusing.error = lambda: KafkaTimeoutError("no answer")
    sender.send()
    assert "Kafka runs" in caplog.text, "another trouble is said again"
    assert w.age(0) is None


def test_without_a_broker_it_goes_on(dead_broker: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "streams")
    w = Watched()
    where = override(Settings(), kafka_broker_url=dead_broker)
    sender = Sender(where, w.metrics, w.watch, threading.Event())
    for _ in range(2):
        sender.send()
    sender.close()
    assert caplog.text.count("no canary can be sent") == 1
