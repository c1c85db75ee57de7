"""Makes every Kafka client, each kind in one function, so that none is made without TLS and login.

Blocking clients (kafka-python) connect while they are made, and raise KafkaError if they can't.
Those of aiokafka are made unconnected: await `start`, and `stop` also after a start that failed.
`options` are the library's own, besides the addresses and the way in. No client has a group or
commits, unless the options say so: the group of Faust's consumer is Faust's.

A library is imported with its first client: a command needs one of them, hardly ever both.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

from typing import Any

from streams.kafka.access import KafkaAccess

__all__ = [
    "admin",
    "async_admin",
    "async_consumer",
    "async_producer",
    "connection",
    "consumer",
    "producer",
]


def admin(access: KafkaAccess, **options: Any) -> Any:
    """kafka-python's KafkaAdminClient. Close it."""
    from kafka.admin import KafkaAdminClient

    return KafkaAdminClient(**_common(access), **options)


def producer(access: KafkaAccess, **options: Any) -> Any:
    """kafka-python's KafkaProducer; all replicas in sync acknowledge a record. Close it."""
    from kafka import KafkaProducer

    return KafkaProducer(**_common(access), acks="all", **options)


def consumer(access: KafkaAccess, **options: Any) -> Any:
    """kafka-python's KafkaConsumer. Close it."""
    from kafka import KafkaConsumer

    return KafkaConsumer(**_common(access), enable_auto_commit=False, **options)


def async_admin(access: KafkaAccess, **options: Any) -> Any:
    """aiokafka's AIOKafkaAdminClient. It ends with `close` in place of `stop`."""
    from aiokafka.admin import AIOKafkaAdminClient

    return AIOKafkaAdminClient(**_common(access), **options)


def async_producer(access: KafkaAccess, **options: Any) -> Any:
    """aiokafka's AIOKafkaProducer; all replicas in sync acknowledge a record."""
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(**_common(access), acks="all", **options)


def async_consumer(access: KafkaAccess, **options: Any) -> Any:
    """aiokafka's AIOKafkaConsumer."""
    from aiokafka import AIOKafkaConsumer

    return AIOKafkaConsumer(**_common(access), enable_auto_commit=False, **options)


def connection(access: KafkaAccess, host: str, port: int, **options: Any) -> Any:
    """aiokafka's AIOKafkaConnection: one socket to one broker, to try the way in."""
    from aiokafka.conn import AIOKafkaConnection

    return AIOKafkaConnection(host, port, **access.client_options(), **options)


def _common(access: KafkaAccess) -> dict[str, Any]:
    return {"bootstrap_servers": list(access.brokers), **access.client_options()}
