"""One way to reach Kafka's admin API (kafka-python 3.x), with our errors instead of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import BrokerUnavailable

__all__ = ["connect", "partition_counts", "require_reachable", "unavailable"]

_TOPIC_UNKNOWN = 3  # Kafka's UNKNOWN_TOPIC_OR_PARTITION


@contextlib.contextmanager
def connect(brokers: Sequence[str], timeout_seconds: float = 10.0) -> Iterator[Any]:
    """A connected admin client. Every KafkaError inside becomes BrokerUnavailable.

    The client blocks its caller: never use it inline in a Faust agent.
    """
    require_reachable(brokers, timeout_seconds)
    try:
        with KafkaAdminClient(
            bootstrap_servers=list(brokers),
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
            request_timeout_ms=int(timeout_seconds * 1000),
            client_id="tideline-admin",
        ) as admin:
            yield admin
    except (KafkaError, OSError) as error:
        raise unavailable(brokers, error) from error


def require_reachable(brokers: Sequence[str], timeout_seconds: float = 10.0) -> None:
    """Return if any broker accepts a connection; raise BrokerUnavailable if none does.

    To be called before any kafka-python client is made: one that can't bootstrap raises, but leaves
    its IO thread and four file descriptors behind for good, and a monitor tries every few seconds.
    """
    error: OSError | None = None
    for broker in brokers:
        host, _, port = broker.rpartition(":")
        try:
            address = (host.strip("[]"), int(port))
            socket.create_connection(address, timeout_seconds / len(brokers)).close()
        except OSError as refused:
            error = refused
        else:
            return
    if error is not None:
        raise unavailable(brokers, error) from error


def unavailable(brokers: Sequence[str], error: Exception) -> BrokerUnavailable:
    """`error` as one of ours, with what to check."""
    return BrokerUnavailable(
        f"Kafka at {', '.join(brokers)} does not answer: {type(error).__name__}: {error}. "
        "Check that it runs and that TIDELINE_BROKER_URL names it."
    )


def partition_counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """Partitions of those of the topics that exist."""
    return {
        topic["name"]: len(topic["partitions"])
        for topic in admin.describe_topics(list(names))
        if topic["error_code"] != _TOPIC_UNKNOWN
    }
