"""Looks at the newest records of the input topics: are their keys in the partitions they belong to?

A worker checks every record it reads. This finds the same before a worker runs, and after it has
stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from streams.core.events.records import Records
from streams.core.partitioning import Partitioner, PartitionerName, explain_misplaced
from streams.kafka.dead_letters import topic_records
from streams.kafka.log import to_records
from streams.settings import Settings

__all__ = ["Misplaced", "fitting_partitioners", "misplaced_keys", "newest_records"]

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


def misplaced_keys(settings: Settings) -> Iterator[Misplaced]:
    """Every partition of both input topics with misplaced records among its newest. Nothing if the
    setting is `unchecked`. Raises BrokerUnavailable."""
    kafka = settings.kafka
    if kafka.partitioner == "unchecked":
        return
    partitioner = Partitioner(kafka.partitioner, kafka.partitions)
    inputs = (kafka.clickstream_topic, kafka.orders_topic)
    for (topic, partition), records in newest_records(settings, inputs).items():
        strays = records[partitioner.misplaced(records, partition)]
        if len(strays):
            yield Misplaced(
                topic, partition, len(records), len(strays), int(strays.offsets[-1]),
                explain_misplaced(strays, partition, partitioner),
            )  # fmt: skip


def fitting_partitioners(
    records: Mapping[tuple[str, int], Records], partitions: int
) -> tuple[PartitionerName, ...]:
    """The partitioners that put every key into the partition in which it is. `records`: by (topic,
    partition)."""
    return tuple(
        name
        for name in get_args(PartitionerName)
        if not any(
            len(Partitioner(name, partitions).misplaced(some, partition))
            for (_, partition), some in records.items()
        )
    )


def newest_records(
    settings: Settings, topics: Iterable[str], newest: int = SAMPLE_RECORDS
) -> dict[tuple[str, int], Records]:
    """The newest records of each partition of these topics, by (topic, partition); an empty
    partition is left out. The topics must exist. Raises BrokerUnavailable."""
    found: dict[tuple[str, int], list[Any]] = {}
    for topic in topics:
        for record in topic_records(settings, topic, newest):
            found.setdefault((topic, record.partition), []).append(record)
    return {place: to_records(records) for place, records in sorted(found.items())}
