"""Turns settings into what the parts below them take, so that those need not know settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.clickhouse import ClickHouseTarget
from streams.kafka_access import KafkaAccess
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.pseudonyms import Pseudonyms

__all__ = [
    "clickhouse_target",
    "kafka_access",
    "pseudonyms",
]


def kafka_access(settings: Settings) -> KafkaAccess:
    """Where Kafka is and how to get in: what every Kafka client is made with."""
    kafka = settings.kafka
    return KafkaAccess(
        brokers=kafka.brokers,
        security=kafka.kafka_security,
        ca_file=kafka.kafka_ca_file,
        client_cert_file=kafka.kafka_client_cert_file,
        client_key_file=kafka.kafka_client_key_file,
        client_key_password=kafka.kafka_client_key_password,
        sasl_mechanism=kafka.kafka_sasl_mechanism,
        username=kafka.kafka_username,
        password=kafka.kafka_password,
    )


def clickhouse_target(settings: Settings) -> ClickHouseTarget:
    """Where ClickHouse is. The password leaves its mask here."""
    here = settings.clickhouse
    return ClickHouseTarget(
        host=here.clickhouse_host,
        port=here.clickhouse_port,
        database=here.clickhouse_database,
        user=here.clickhouse_user,
        password=here.clickhouse_password.reveal(),
        secure=here.clickhouse_secure,
        ca_file=here.clickhouse_ca_file,
    )


def pseudonyms(settings: Settings) -> Pseudonyms | None:
    """What replaces user ids in results; None where no key is set."""
    key = settings.privacy.pseudonym_key
    if not key.reveal():
        return None
    from streams.pseudonyms import Pseudonyms  # noqa: PLC0415  (loads the core)

    return Pseudonyms(key)
