"""What `tideline doctor` says of the partitions that the inputs' keys are in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer

from streams.core.partitioning import PartitionerName, partitions_of_keys
from streams.kafka.key_check import SAMPLE_RECORDS
from streams.kafka.topics import create_missing
from streams.local.process import free_port
from streams.settings import Settings, override

if TYPE_CHECKING:
    from tests.local_broker import Cli

pytestmark = pytest.mark.kafka
KEYS = [f"customer-{n}".encode() for n in range(60)]


def write(settings: Settings, topic: str, keys: Sequence[bytes], name: PartitionerName) -> int:
    """Write a record of each key where that partitioner puts it; how many murmur2 doesn't."""
    chosen, right = (
        partitions_of_keys(keys, n, settings.kafka.partitions).tolist() for n in (name, "murmur2")
    )
    producer = KafkaProducer(bootstrap_servers=settings.kafka.broker_url, linger_ms=20)
    for key, partition in zip(keys, chosen, strict=True):
        producer.send(topic, b"{}", key, partition=partition)
    producer.flush()
    producer.close()
    return sum(a != b for a, b in zip(chosen, right, strict=True))


def keys_lines(settings: Settings, cli: Cli) -> list[dict[str, Any]]:
    # what doctor says of ClickHouse is not asked here
    done = cli("doctor", "--json", settings=override(settings, clickhouse_port=free_port()))
    return [row for row in json.loads(done.stdout) if row["check"] == "keys"]


def test_keys_that_are_where_they_belong_are_ok_and_so_is_an_empty_topic(
    settings: Settings, cli: Cli
) -> None:
    create_missing(settings)
    (empty,) = keys_lines(settings, cli)
    assert empty["state"] == "ok"
    write(settings, settings.kafka.orders_topic, KEYS, "murmur2")
    (found,) = keys_lines(settings, cli)
    assert (found["state"], found["fix"]) == ("ok", "")
    assert "murmur2" in found["detail"]


def test_misplaced_keys_are_counted_for_each_topic_with_their_likely_producer_and_the_remedy(
    settings: Settings, cli: Cli
) -> None:
    create_missing(settings)
    clicks, orders = settings.kafka.clickstream_topic, settings.kafka.orders_topic
    write(settings, orders, KEYS, "murmur2")
    astray = write(settings, clicks, KEYS, "crc32")
    (found,) = keys_lines(settings, cli)
    assert found["state"] == "fail"
    assert found["detail"].startswith(f"{clicks}: of the newest {len(KEYS)} records in partitions")
    assert f" {astray} belong to another one" in found["detail"]
    assert "crc32 puts them there, the default of librdkafka" in found["detail"]
    assert "docs/events.md#partitions" in found["fix"]

    more = write(settings, orders, KEYS, "fnv1a")
    by_topic = {row["detail"].split(":")[0]: row["detail"] for row in keys_lines(settings, cli)}
    assert set(by_topic) == {clicks, orders}
    assert f" {more} belong to another one" in by_topic[orders]
    assert "fnv1a puts them there" in by_topic[orders]

    named = override(settings, kafka_partitioner="crc32")
    (only,) = keys_lines(named, cli)
    assert only["detail"].startswith(f"{orders}: ")
    (unchecked,) = keys_lines(override(settings, kafka_partitioner="unchecked"), cli)
    assert unchecked["state"] == "ok"
    assert "not checked" in unchecked["detail"]


def test_only_the_newest_records_are_looked_at(settings: Settings, cli: Cli) -> None:
    """A producer that was put right some time ago is no finding."""
    create_missing(settings)
    topic = settings.kafka.orders_topic
    assert write(settings, topic, KEYS, "crc32")
    partitions = settings.kafka.partitions
    enough = [f"later-{n}".encode() for n in range(2 * partitions * SAMPLE_RECORDS)]
    write(settings, topic, enough, "murmur2")
    (found,) = keys_lines(settings, cli)
    assert found["state"] == "ok"
