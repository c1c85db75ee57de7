"""Lag: the arithmetic by itself, then against a broker."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError
from kafka.structs import OffsetAndMetadata

from schemas.errors import BrokerUnavailable
from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.kafka.admin import connect
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.topics import create_missing
from streams.lag.monitor import poll, poll_once, publish, reports, table_columns, watched
from streams.lag.status import GroupLag, partition_lag, partition_lags
from streams.settings import Settings, override
from streams.telemetry.metrics import LAG_STATUSES, Metrics

if TYPE_CHECKING:
    from tests.local_broker import Cli

P0, P1 = ("orders", 0), ("orders", 1)
OFFSETS = st.none() | st.integers(-1, 1 << 62)


@given(committed=OFFSETS, log_end=st.none() | st.integers(0, 1 << 62), answered=st.booleans())
def test_lag_is_a_number_only_where_both_offsets_are_known(
    committed: int | None, log_end: int | None, answered: bool
) -> None:
    of_group = ({} if committed is None else {P0: committed}) if answered else None
    found = partition_lag(P0, of_group, {} if log_end is None else {P0: log_end})
    has_commit = answered and committed is not None and committed >= 0
    if has_commit and log_end is not None:
        assert found.lag_records == max(0, log_end - (committed or 0))
        assert found.status in {"ok", "lagging"}
    else:
        assert found.lag_records is None
        assert found.status == ("uncommitted" if answered and not has_commit else "unknown")


def test_allowed_lag_is_ok() -> None:
    assert partition_lag(P0, {P0: 5}, {P0: 7}, allowed_lag_records=2).status == "ok"
    assert partition_lag(P0, {P0: 5}, {P0: 8}, allowed_lag_records=2).status == "lagging"


def test_group_is_as_bad_as_its_worst_partition() -> None:
    group = GroupLag("g", partition_lags([P1, P0], {P0: 5}, {P0: 8, P1: 3}))
    assert [each.partition for each in group.partitions] == [0, 1]
    assert (group.total_records, group.max_records, group.status) == (3, 3, "lagging")
    nothing = GroupLag("g", partition_lags([P0], {}, {P0: 8}))
    assert (nothing.total_records, nothing.max_records) == (None, None)


@pytest.mark.kafka
def test_lag_counts_records_of_the_last_batch_too(settings: Settings, cli: Cli) -> None:
    create_missing(settings)
    topic = settings.kafka.clickstream_topic
    producer = KafkaProducer(bootstrap_servers=settings.kafka.broker_url, linger_ms=50)
    for _ in range(10):  # one batch: the local broker's own "latest" would say 1
        producer.send(topic, b"x", partition=0)
    producer.flush()
    producer.close()
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.broker_url,
        group_id=settings.kafka.app_id,
        enable_auto_commit=False,
    )
    consumer.assign([partition])
    consumer.commit({partition: OffsetAndMetadata(4, "", -1)})
    consumer.close()

    report = poll_once(settings)
    assert report.problems == ()
    group = report.groups[0]
    by_partition = {(each.topic, each.partition): each for each in group.partitions}
    assert by_partition[topic, 0].log_end == 10
    assert by_partition[topic, 0].lag_records == 6
    assert by_partition[topic, 1].status == "uncommitted"
    assert group.total_records == 6

    shown = json.loads(cli("lag", "--json", settings=settings).stdout)
    assert shown["groups"][0]["total_records"] == 6
    assert shown["groups"][0]["partitions"][1]["lag_records"] is None
    assert "lagging" in cli("lag", settings=settings).stdout


@pytest.mark.kafka
def test_a_missing_topic_is_named_and_the_rest_is_still_reported(settings: Settings) -> None:
    report = poll_once(settings)
    assert len(report.problems) == 3
    assert all("tideline topics --create" in problem for problem in report.problems)
    assert {group.status for group in report.groups} == {"uncommitted"}


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

    brokers = settings.kafka.brokers
    with connect(brokers) as admin, EndOffsets(brokers) as ends:
        report = poll(Refusing(admin), ends, watched(settings))
    worker, learner = report.groups
    assert (worker.status, learner.status) == ("uncommitted", "unknown")
    assert learner.partitions[0].log_end == 0
    assert report.problems == (
        f"committed offsets of {learner.consumer_group}: KafkaConnectionError",
    )


def test_no_broker_is_an_unknown_report_not_an_end(dead_broker: str) -> None:
    settings = override(Settings(), kafka_broker_url=dead_broker)
    with pytest.raises(BrokerUnavailable, match="TIDELINE_KAFKA_BROKER_URL"):
        poll_once(settings, timeout_seconds=0.3)
    endless = reports(settings, interval_seconds=0.01, timeout_seconds=0.3)
    threads = threading.active_count()
    for _ in range(3):
        report = next(endless)
        assert report.problems == ("Kafka does not answer",)
        assert {group.status for group in report.groups} == {"unknown"}
    assert threading.active_count() == threads, "an outage of hours must not pile up threads"
    endless.close()


@pytest.mark.kafka
def test_report_becomes_gauges_and_rows(settings: Settings) -> None:
    create_missing(settings)
    report = poll_once(settings)
    metrics = Metrics()
    publish(report, metrics)
    labels = {
        "consumer_group": settings.kafka.app_id,
        "topic": settings.kafka.orders_topic,
        "partition": "0",
    }
    sample = metrics.registry.get_sample_value
    assert sample("tideline_lag_monitor_up") == 1
    assert sample("tideline_consumer_lag_records", labels) is None, "uncommitted is no number"
    states = {s: sample("tideline_consumer_status", labels | {"status": s}) for s in LAG_STATUSES}
    assert states == {"ok": 0, "lagging": 0, "uncommitted": 1, "unknown": 0}

    table = TABLES["consumer_lag"]
    columns = table_columns(report)
    assert list(columns) == list(table.columns)
    block = Block(table, [columns])
    assert block.rows == 5
    for name, kind in table.columns.items():
        assert block.packed(name, kind)
