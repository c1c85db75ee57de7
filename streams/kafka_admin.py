"""One way to reach Kafka's admin API (kafka-python 3.x), with our errors instead of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import TidelineError
from streams.kafka_access import KafkaAccess, explain, probe_now

__all__ = ["connect", "partition_counts", "require_reachable", "unavailable"]

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


def require_reachable(where: KafkaAccess | Sequence[str], timeout_seconds: float = 10.0) -> None:
    """Return if any broker lets us in; raise BrokerUnavailable if none answers, or SettingsError if
    they refuse us.

    To be called before any kafka-python client is made: one that can't bootstrap raises, but leaves
    its IO thread and four file descriptors behind for good, and a monitor tries every few seconds.
    """
    access = KafkaAccess.of(where)
    if access.security != "plaintext":
        probe_now(access, timeout_seconds / len(access.brokers))
        return
    error: OSError | None = None
    for broker in access.brokers:
        host, _, port = broker.rpartition(":")
        try:
            address = (host.strip("[]"), int(port))
            socket.create_connection(address, timeout_seconds / len(access.brokers)).close()
        except OSError as refused:
            error = refused
        else:
            return
    if error is not None:
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
