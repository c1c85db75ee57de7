"""The lag monitor on Apache Kafka, which answers for members, notes and record times."""

from __future__ import annotations

import time

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from streams.kafka import clients
from streams.kafka.access import KafkaAccess, kafka_access
from streams.kafka.admin import connect
from streams.kafka.committed import Committed
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.topics import create_missing
from streams.lag.monitor import Watch, poll
from streams.local.kafka import ApacheKafka
from streams.settings import Settings, override

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

TIMEOUT_SECONDS = 10.0


def commit(access: KafkaAccess, group: str, place: TopicPartition, committed: Committed) -> None:
    consumer = clients.consumer(access, group_id=group)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(committed.offset, committed.note, -1)})
    consumer.close()


def test_members_notes_and_times_of_records_and_a_look_that_does_not_wait(
    apache_kafka: ApacheKafka,
) -> None:
    settings = override(
        Settings(), kafka_broker_url=apache_kafka.bootstrap, kafka_partitions=1,
        kafka_app_id="lagged", kafka_clickstream_topic="lagged-clicks",
        kafka_orders_topic="lagged-orders", lag_groups="lagged-.*",
    )  # fmt: skip
    create_missing(settings)
    access, place = kafka_access(settings), TopicPartition("lagged-clicks", 0)
    began_ms = time.time_ns() // 1_000_000 - 100_000
    producer = clients.producer(access)
    for number in range(10):  # one every 10 s
        producer.send(place.topic, b"x", partition=0, timestamp_ms=began_ms + number * 10_000)
    producer.flush()
    producer.close()
    commit(access, "lagged-other", place, Committed(4))
    commit(access, "lagged-noted", place, Committed(4, began_ms + 37_000))
    member = clients.consumer(access, group_id="lagged-member", client_id="reader")
    try:
        member.subscribe([place.topic])
        deadline = time.monotonic() + 60
        while not member.assignment() and time.monotonic() < deadline:
            member.poll(100)
        member.commit({place: OffsetAndMetadata(10, "", -1)})
        watch = Watch(settings)
        with connect(access) as admin, EndOffsets(access, TIMEOUT_SECONDS) as ends:
            poll(admin, ends, watch)
            report = poll(admin, ends, watch)
    finally:
        member.close()
    assert report.problems == ()
    assert report.poll_seconds < TIMEOUT_SECONDS / 2, "logs that stand still are answered, too"
    rows = {group.consumer_group: group.partitions[0] for group in report.groups if not group.ours}
    other, noted, reader = (rows[f"lagged-{name}"] for name in ("other", "noted", "member"))

    def written_s(lag_seconds: float | None) -> float:
        assert lag_seconds is not None
        return (report.observed_at_ms - began_ms) / 1000 - lag_seconds

    assert written_s(other.lag_seconds) == pytest.approx(40.0, abs=0.01), "of record 4"
    assert written_s(noted.lag_seconds) == pytest.approx(37.0, abs=0.01), "as was noted"
    assert (reader.status, reader.lag_seconds) == ("ok", 0.0)
    assert reader.owner.startswith("reader ")
