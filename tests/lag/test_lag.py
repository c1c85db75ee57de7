"""The lag monitor against a broker: what it asks, what it makes of bad answers, and rows."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError
from kafka.structs import OffsetAndMetadata

from schemas.errors import BrokerUnavailable
from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.kafka.admin import connect
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.topics import create_missing
from streams.lag.monitor import Watch, poll, poll_once, reports
from streams.lag.report import LagReport, table_columns
from streams.settings import Settings, override

if TYPE_CHECKING:
    from tests.local_broker import Cli


def ours(report: LagReport) -> list[Any]:
    """Other tests' groups are on the same broker."""
    return [group for group in report.groups if group.ours]


def commit(settings: Settings, group: str, topic: str, offset: int) -> None:
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.broker_url, group_id=group, enable_auto_commit=False
    )
    consumer.assign([partition])
    consumer.commit({partition: OffsetAndMetadata(offset, "", -1)})
    consumer.close()


def send(settings: Settings, topic: str, records: int) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka.broker_url, linger_ms=50)
    for _ in range(records):  # one batch: the local broker's own "latest" would say 1
        producer.send(topic, b"x", partition=0)
    producer.flush()
    producer.close()


@pytest.mark.kafka
def test_lag_counts_records_of_the_last_batch_too_of_any_group(
    settings: Settings, cli: Cli
) -> None:
    create_missing(settings)
    topic, app = settings.kafka.clickstream_topic, settings.kafka.app_id
    send(settings, topic, 10)
    commit(settings, app, topic, 4)
    commit(settings, f"{app}-reports", topic, 10)

    report = poll_once(settings)
    assert report.problems == ()
    group = report.groups[0]
    by_partition = {(each.topic, each.partition): each for each in group.partitions}
    first = by_partition[topic, 0]
    assert (first.log_start, first.log_end, first.lag_records) == (0, 10, 6)
    assert (first.status, first.retention_ratio) == ("pending", 0.6)
    assert first.lag_seconds is not None
    assert 0 <= first.lag_seconds < 60, "between the log's first record and now"
    assert by_partition[topic, 1].status == "uncommitted"
    assert group.total_records == 6
    other = report.group(f"{app}-reports")
    assert other is not None
    assert (other.ours, other.status, other.total_records, other.max_seconds) == (
        False, "ok", 0, 0.0,
    )  # fmt: skip
    assert poll_once(override(settings, lag_groups="none")).group(f"{app}-reports") is None

    shown = json.loads(cli("lag", "--json", settings=settings).stdout)
    assert shown["groups"][0]["total_records"] == 6
    assert shown["groups"][0]["partitions"][1]["lag_records"] is None
    assert "pending" in cli("lag", settings=settings).stdout


@pytest.mark.kafka
def test_a_missing_topic_is_named_and_the_rest_is_still_reported(settings: Settings) -> None:
    report = poll_once(settings)
    assert len(report.problems) == 3
    assert all("tideline topics --create" in problem for problem in report.problems)
    assert {group.status for group in ours(report)} == {"uncommitted"}


@pytest.mark.kafka
def test_one_bad_answer_leaves_the_others(settings: Settings) -> None:
    create_missing(settings)

    class Refusing:
        """The real admin, but the broker drops the connection on the learner's offsets."""

        def __init__(self, admin: Any) -> None:
            self._admin = admin

        def __getattr__(self, name: str) -> Any:
            return getattr(self._admin, name)

        def list_group_offsets(self, group: str) -> Any:
            if group == settings.topic_names.learner_group:
                raise KafkaConnectionError("socket disconnected")
            return self._admin.list_group_offsets(group)

    class Vague(EndOffsets):
        """Fails once one topic is among those asked for."""

        def of(self, partitions: Any) -> Any:
            if any(topic == settings.kafka.orders_topic for topic, _ in partitions):
                raise KafkaConnectionError("socket disconnected")
            return super().of(partitions)

    brokers = settings.kafka.brokers
    watch = Watch(settings)
    with connect(brokers) as admin, EndOffsets(brokers) as ends:
        report = poll(Refusing(admin), ends, watch)
        worker, learner = ours(report)
        assert (worker.status, learner.status) == ("uncommitted", "unknown")
        assert (worker.role, learner.role) == ("worker", "learner")
        assert learner.partitions[0].log_end == 0
        assert report.problems == (
            f"committed offsets of {learner.consumer_group}: KafkaConnectionError",
        )
    with connect(brokers) as admin, Vague(brokers) as ends:
        report = poll(admin, ends, watch)
        assert report.problems == (
            f"end offsets of {settings.kafka.orders_topic}: KafkaConnectionError",
        )
        known = {p.topic for p in ours(report)[0].partitions if p.log_end is not None}
        assert known == {settings.kafka.clickstream_topic}


def test_no_broker_is_an_unknown_report_not_an_end(dead_broker: str) -> None:
    settings = override(Settings(), kafka_broker_url=dead_broker)
    with pytest.raises(BrokerUnavailable, match="TIDELINE_KAFKA_BROKER_URL"):
        poll_once(settings, timeout_seconds=0.3)
    endless = reports(settings, interval_seconds=0.01, timeout_seconds=0.3)
    threads = threading.active_count()
    for _ in range(3):
        report = next(endless)
        assert report.problems == ("Kafka does not answer",)
        assert not report.answered
        assert {group.status for group in report.groups} == {"unknown"}
    assert threading.active_count() == threads, "an outage of hours must not pile up threads"
    endless.close()


@pytest.mark.kafka
def test_a_report_becomes_rows(settings: Settings) -> None:
    create_missing(settings)
    commit(settings, f"{settings.kafka.app_id}-done", settings.kafka.orders_topic, 0)
    report = poll_once(override(settings, lag_groups=f"{settings.kafka.app_id}-done"))
    table = TABLES["consumer_lag"]
    columns = table_columns(report)
    assert list(columns) == list(table.columns)
    block = Block(table, [columns])
    assert block.rows == 6
    for name, kind in table.columns.items():
        assert block.packed(name, kind)
    short = table_columns(report, everything=False)
    assert len(short["topic"]) == 5, "of other groups only what is not ok"
