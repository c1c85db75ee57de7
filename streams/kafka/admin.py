"""Kafka's admin API (kafka-python 3.x), with our errors in place of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.errors import KafkaError

from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import explain, require_reachable

__all__ = ["Cluster", "cluster", "committed_offsets", "connect", "partition_counts"]

_TOPIC_UNKNOWN = 3  # Kafka's UNKNOWN_TOPIC_OR_PARTITION


@contextlib.contextmanager
def connect(where: KafkaAccess | Sequence[str], timeout_seconds: float = 10.0) -> Iterator[Any]:
    """A connected admin client. Every KafkaError inside becomes BrokerUnavailable.

    The client blocks its caller: never use it inline in a Faust agent. Raises SettingsError if the
    broker refuses our login, or we its certificate.
    """
    access = KafkaAccess.of(where)
    require_reachable(access, timeout_seconds)
    try:
        with clients.admin(
            access,
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
            request_timeout_ms=int(timeout_seconds * 1000),
            client_id="tideline-admin",
        ) as admin:
            yield admin
    except (KafkaError, OSError) as error:
        raise explain(access, error) from error


def partition_counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """How many partitions each topic has; a topic that does not exist is left out."""
    return {
        topic["name"]: len(topic["partitions"])
        for topic in admin.describe_topics(list(names))
        if topic["error_code"] != _TOPIC_UNKNOWN
    }


@dataclass(frozen=True)
class Cluster:
    """How many brokers there are, and the partitions of each topic that this user may see."""

    brokers: int
    partitions: Mapping[str, int]


def cluster(admin: Any) -> Cluster:
    """What the cluster has, without Kafka's own topics. kafka-python's errors pass through."""
    topics = [t for t in admin.describe_topics() if not t["is_internal"] and not t["error_code"]]
    return Cluster(
        len(admin.describe_cluster()["brokers"]),
        {topic["name"]: len(topic["partitions"]) for topic in topics},
    )


def committed_offsets(admin: Any, group: str) -> dict[tuple[str, int], int]:
    """The committed offset of each (topic, partition) of a group; those without one are missing or
    negative. kafka-python's errors pass through."""
    found = admin.list_group_offsets(group)[group]
    return {(tp.topic, tp.partition): offset.offset for tp, offset in found.items()}
