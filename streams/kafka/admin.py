"""One way to reach Kafka's admin API (kafka-python 3.x), with our errors instead of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from schemas.errors import TidelineError
from streams.kafka.access import KafkaAccess, explain, require_reachable

__all__ = ["connect", "partition_counts", "unavailable"]

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
        with KafkaAdminClient(
            bootstrap_servers=list(access.brokers),
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
            request_timeout_ms=int(timeout_seconds * 1000),
            client_id="tideline-admin",
            **access.client_options(),
        ) as admin:
            yield admin
    except (KafkaError, OSError) as error:
        raise unavailable(access, error) from error


def unavailable(where: KafkaAccess | Sequence[str], error: Exception) -> TidelineError:
    """`error` as one of ours, with what to check."""
    return explain(KafkaAccess.of(where), error)


def partition_counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """Partitions of those of the topics that exist."""
    return {
        topic["name"]: len(topic["partitions"])
        for topic in admin.describe_topics(list(names))
        if topic["error_code"] != _TOPIC_UNKNOWN
    }
