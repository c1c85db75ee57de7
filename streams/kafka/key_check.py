"""Looks at the newest records of the input topics: are their keys in the partitions they belong to?

A worker checks every record it reads. This finds the same before a worker runs, and after it has
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import KafkaError

from streams.core.events.records import Records
from streams.core.partitioning import Partitioner, explain_misplaced
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.log import to_records
from streams.kafka.reach import explain
from streams.settings import Settings

__all__ = ["Misplaced", "misplaced_keys"]

SAMPLE_RECORDS: Final = 200  # per partition


@dataclass(frozen=True)
class Misplaced:
    """Records of one partition that belong to another, among `looked_at` of the newest."""

    topic: str
    partition: int
    looked_at: int
    misplaced: int
    offset: int
    """Of the newest misplaced one."""
    explanation: str


def misplaced_keys(settings: Settings, timeout_seconds: float = 10.0) -> Iterator[Misplaced]:
    """Every partition of both input topics with misplaced records among its newest. Nothing if the
    setting is `unchecked`. Raises BrokerUnavailable."""
    kafka = settings.kafka
    if kafka.partitioner == "unchecked":
        return
    partitioner = Partitioner(kafka.partitioner, kafka.partitions)
    for (topic, partition), records in _newest(settings, timeout_seconds).items():
        strays = records[partitioner.misplaced(records, partition)]
        if len(strays):
            yield Misplaced(
                topic, partition, len(records), len(strays), int(strays.offsets[-1]),
                explain_misplaced(strays, partition, partitioner),
            )  # fmt: skip


def _newest(settings: Settings, timeout_seconds: float) -> dict[tuple[str, int], Records]:
    access = kafka_access(settings)
    topics = (settings.kafka.clickstream_topic, settings.kafka.orders_topic)
    try:
        consumer = clients.consumer(
            access,
            client_id="tideline-keys",
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
        )
        try:
            wanted = [
                (t, n) for t in topics for n in sorted(consumer.partitions_for_topic(t) or ())
            ]
            with EndOffsets(access, timeout_seconds) as reader:
                ends = {TopicPartition(*p): end for p, end in reader.of(wanted).items()}
            consumer.assign(list(ends))
            firsts = consumer.beginning_offsets(list(ends))
            for tp, end in ends.items():
                consumer.seek(tp, max(firsts[tp], end - SAMPLE_RECORDS))
            found: dict[TopicPartition, list[Any]] = {tp: [] for tp in ends}
            deadline = time.monotonic() + timeout_seconds
            while time.monotonic() < deadline and any(
                consumer.position(tp) < end for tp, end in ends.items()
            ):
                for tp, records in consumer.poll(timeout_ms=200).items():
                    found[tp] += records
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise explain(access, error) from error
    return {
        (tp.topic, tp.partition): to_records(records) for tp, records in found.items() if records
    }
