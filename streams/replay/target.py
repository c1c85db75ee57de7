"""Connects to the broker that is replayed to, and checks its two input topics."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, UnknownError

from schemas.errors import BrokerUnavailable, SettingsError
from streams.core.partitioning import PartitionerName
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import probe
from streams.replay.records import CLICKSTREAM, TopicKind
from streams.settings.rules import brokers

__all__ = [
    "InputTopics",
    "access_of",
    "connect",
    "new_producer",
    "partitions",
    "refuse_expired",
    "unavailable",
]

BATCH_BYTES: Final = 900_000  # below the broker's usual limit of 1 MB per batch
REQUEST_TIMEOUT_MS: Final = 30_000
_sender_log: Final = logging.getLogger("aiokafka.producer.sender")


@dataclass(frozen=True)
class InputTopics:
    """The names of the two topics that are written, and how keys get their partition."""

    clickstream: str
    orders: str
    partitioner: PartitionerName = "murmur2"

    def __getitem__(self, kind: TopicKind) -> str:
        return self.clickstream if kind == CLICKSTREAM else self.orders


def access_of(where: KafkaAccess | str) -> KafkaAccess:
    """`where` itself, or plain access to the brokers of a comma list."""
    return where if isinstance(where, KafkaAccess) else KafkaAccess(brokers(where))


def new_producer(access: KafkaAccess, **options: Any) -> Any:
    """A producer with our limits, not started; `options` are aiokafka's."""
    return clients.async_producer(
        access,
        max_batch_size=BATCH_BYTES,
        max_request_size=4 * BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )


async def connect(access: KafkaAccess) -> Any:
    """A started producer: idempotent, unless the broker has no producer ids to give.

    Raises BrokerUnavailable, or SettingsError if TLS or the login is refused.
    """
    if access.security != "plaintext":
        await probe(access)
    for idempotent in (True, False):
        producer = new_producer(access, enable_idempotence=idempotent)
        # The in-memory local broker answers the request for an id with an unknown error, which
        # aiokafka would print before we can try without.
        _sender_log.disabled = idempotent
        try:
            await producer.start()
            return producer
        except (KafkaError, OSError) as error:
            with suppress(Exception):
                await producer.stop()
            if not (idempotent and isinstance(error, UnknownError)):
                raise unavailable(access, error) from error
        finally:
            _sender_log.disabled = False
    raise AssertionError("the second try returns or raises")


async def partitions(producer: Any, topics: InputTopics) -> int:
    """How many partitions both topics have."""
    # All topics' metadata: asking for one by name would make some brokers create it.
    cluster = await producer.client.fetch_all_metadata()
    found = {
        name: cluster.partitions_for_topic(name) for name in (topics.clickstream, topics.orders)
    }
    missing = [name for name, partitions in found.items() if not partitions]
    if missing:
        raise SettingsError(
            f"The broker has no topic {' and no topic '.join(missing)}. "
            "Create them with: tideline topics"
        )
    counts = {name: len(partitions) for name, partitions in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {n}" for name, n in counts.items())
        raise SettingsError(
            f"Both input topics need the same number of partitions, but {listed}. "
            "Recreate one of them with the other's number."
        )
    return next(iter(counts.values()))


async def refuse_expired(
    access: KafkaAccess, topics: InputTopics, event_ms: int, now_ms: int
) -> None:
    """Raise SettingsError if records of `event_ms` are older than a topic's retention.

    Kafka would take them, and delete them at its next look, unread or not (measured: Apache Kafka
    4 does so half a minute after its start). A broker that doesn't tell its retention is trusted.
    """
    for name in (topics.clickstream, topics.orders):
        kept_ms = await _retention_ms(access, name)
        if kept_ms is not None and 0 <= kept_ms < now_ms - event_ms:
            raise SettingsError(
                f"Topic {name} keeps records for {kept_ms / 86_400_000:g} days by their timestamp, "
                "and these are older: the broker would delete them, read or not. Replay with "
                f"--stamp-now, or set retention.ms=-1 on {topics.clickstream} and {topics.orders}."
            )


async def _retention_ms(access: KafkaAccess, topic: str) -> int | None:
    """The topic's `retention.ms` (-1: for ever); None if the broker doesn't say."""
    admin = clients.async_admin(access)
    await admin.start()
    try:
        asked = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": None})
        answers = await admin.describe_configs([asked])
        rows = [row for a in answers for resource in a.resources for row in resource[4]]
        # aiokafka's rows begin with name and value
        return next((int(row[1]) for row in rows if row[0] == "retention.ms"), None)
    except (KafkaError, OSError, ValueError, TypeError):
        return None
    finally:
        await admin.close()


def unavailable(access: KafkaAccess, error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"Kafka at {access} does not take the records: {error or type(error).__name__}. Check "
        "that the broker is up and broker_url is right; `tideline local up` starts one here."
    )
